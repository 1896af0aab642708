//! Host memory that backs a slot.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

use anyhow::{Context, Result, bail, ensure};

use crate::file;
use crate::kind::{Advice, Backing, Protection};
use crate::stop;
use crate::units::{Bytes, GIB, HUGE, PAGE};
use crate::userfaultfd;

/// Memory, aligned to 2 MiB and fully populated from the start, unless it is to be sparse.
pub struct Memory {
    start: *mut libc::c_void,
    size: u64,
    backing: Backing,
    /// The file that it is a mapping of.
    file: Option<File>,
    /// The userfaultfd that it is registered with.
    userfaultfd: Option<OwnedFd>,
    /// Reserved address space around the memory. It keeps the kernel from merging the memory with an
    /// adjacent area, with which it would share an entry in `smaps`.
    reserved: (*mut libc::c_void, usize),
}

// SAFETY: the memory belongs to this value alone and has no thread affinity.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps and populates memory. Fails if pages of the requested kind are not available, and for a `guest_memfd`,
    /// which is of a VM: see [`Self::of_file`].
    pub fn new(size: u64, backing: Backing) -> Result<Self> {
        let file = match backing {
            Backing::Shmem => Some(file::memory(size)?),
            Backing::Device => Some(file::device()?),
            Backing::GuestMemfd => bail!("a guest_memfd is of a VM"),
            _ => None,
        };
        Self::of_file(size, backing, file)
    }

    /// Maps and populates memory of a file, or anonymous memory.
    pub fn of_file(size: u64, backing: Backing, file: Option<File>) -> Result<Self> {
        let length = size as usize;
        let unit = backing.page_size().max(HUGE) as usize;
        let reserved_length = length + 2 * unit;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let reserved =
            unsafe { libc::mmap(ptr::null_mut(), reserved_length, libc::PROT_NONE, flags, -1, 0) };
        if reserved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot reserve address space");
        }
        let past = (reserved as usize + 1).next_multiple_of(unit) - reserved as usize;
        let start = reserved.wrapping_byte_add(past);
        let reserved = (reserved, reserved_length);
        let memory = Self { start, size, backing, file, userfaultfd: None, reserved };
        memory.map()?;
        memory.populate()?;
        Ok(memory)
    }

    /// Populates all of the memory, as [`Self::new`] does. Fails if pages of the requested kind are
    /// not available.
    pub fn populate(&self) -> Result<()> {
        if self.backing == Backing::Sparse {
            return Ok(());
        }
        self.store_everywhere();
        if self.backing == Backing::Thp { self.insist_on_huge_pages() } else { Ok(()) }
    }

    /// Returns the address in this process.
    pub fn address(&self) -> u64 {
        self.start as u64
    }

    /// Returns the length, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the kind of memory that was requested.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Returns the `guest_memfd` that it is a mapping of, if it is one.
    pub fn guest_memfd(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| self.backing == Backing::GuestMemfd)
    }

    /// Returns the number of 2 MiB pages that it currently consists of.
    pub fn huge_pages(&self) -> Result<u64> {
        if self.backing.is_hugetlb() {
            return Ok(self.size / HUGE);
        }
        let smaps = fs::read_to_string("/proc/self/smaps").context("cannot read smaps")?;
        Ok(huge_bytes(&smaps, self.address(), self.address() + self.size) / HUGE)
    }

    /// Advises the kernel about a part. Returns false if this kernel does not support the advice.
    pub fn advise(&self, advice: Advice, from: u64, size: u64) -> Result<bool> {
        let number = match advice {
            Advice::Dontneed => libc::MADV_DONTNEED,
            Advice::Collapse => libc::MADV_COLLAPSE,
            Advice::Hugepage => libc::MADV_HUGEPAGE,
            Advice::Nohugepage => libc::MADV_NOHUGEPAGE,
            Advice::Mergeable => libc::MADV_MERGEABLE,
            Advice::Free => libc::MADV_FREE,
            Advice::Pageout => libc::MADV_PAGEOUT,
            Advice::SoftOffline => libc::MADV_SOFT_OFFLINE,
            Advice::Split => {
                for region in (from..from + size).step_by(HUGE as usize) {
                    self.advise(Advice::Dontneed, region, PAGE)?;
                }
                return Ok(true);
            }
        };
        let start = self.part(from, size)?;
        loop {
            // SAFETY: the range is inside this mapping, whose content is the guest's business.
            if unsafe { libc::madvise(start, size as usize, number) } == 0 {
                return Ok(true);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // MADV_COLLAPSE fails like that while the pages are briefly in use.
                Some(libc::EAGAIN) if !stop::requested() => {}
                Some(libc::EINVAL) if advice.is_optional() => return Ok(false),
                _ => return Err(error).with_context(|| format!("madvise {advice:?}")),
            }
        }
    }

    /// Registers all of it with userfaultfd, as a VMM does that restores a guest. Pages that are there cause no
    /// fault of it.
    pub fn register_userfaultfd(&mut self) -> Result<()> {
        self.userfaultfd = Some(userfaultfd::register(self.start as u64, self.size)?);
        Ok(())
    }

    /// Protects all of it with userfaultfd from being written to, as a snapshot in the background does, and ends
    /// that, before anybody writes: who did would wait for ever. It must be registered.
    pub fn protect_by_userfaultfd(&self) -> Result<()> {
        let fd = self.userfaultfd.as_ref().context("it is not registered with userfaultfd")?;
        for protect in [true, false] {
            userfaultfd::protect(fd, self.start as u64, self.size, protect)?;
        }
        Ok(())
    }

    /// Changes the host's access rights to a part.
    pub fn protect(&self, protection: Protection, from: u64, size: u64) -> Result<()> {
        let rights = match protection {
            Protection::None => libc::PROT_NONE,
            Protection::Ro => libc::PROT_READ,
            Protection::Rw => libc::PROT_READ | libc::PROT_WRITE,
        };
        let start = self.part(from, size)?;
        // SAFETY: the range is inside this mapping, and no Rust reference points into it.
        if unsafe { libc::mprotect(start, size as usize, rights) } == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error()).with_context(|| format!("mprotect {protection:?}"))
    }

    /// Stores bytes. Where the memory is not writable, this fails instead of raising a signal.
    pub fn store(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let to = libc::iovec { iov_base: self.part(at, bytes.len() as u64)?, iov_len: bytes.len() };
        let from = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: `from` is readable for its length; the kernel checks `to` itself.
        let stored = unsafe {
            libc::process_vm_writev(libc::getpid(), &raw const from, 1, &raw const to, 1, 0)
        };
        if stored == bytes.len() as isize {
            return Ok(());
        }
        Err(io::Error::last_os_error()).context("cannot write to guest memory")
    }

    fn part(&self, from: u64, size: u64) -> Result<*mut libc::c_void> {
        let inside = from.checked_add(size).is_some_and(|end| end <= self.size);
        ensure!(inside, "{} from {} is outside the slot", Bytes(size), Bytes(from));
        Ok(self.start.wrapping_byte_add(from as usize))
    }

    fn map(&self) -> Result<()> {
        let special = match self.backing {
            Backing::Hugetlb => libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
            Backing::Hugetlb1G => libc::MAP_HUGETLB | libc::MAP_HUGE_1GB,
            Backing::Sparse => libc::MAP_NORESERVE,
            _ => 0,
        };
        let (kind, fd) = match &self.file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        let flags = kind | libc::MAP_FIXED | special;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is inside our own reservation.
        let mapped = unsafe { libc::mmap(self.start, self.size as usize, rights, flags, fd, 0) };
        if mapped == libc::MAP_FAILED {
            let error = Err(io::Error::last_os_error());
            return match self.backing {
                Backing::Hugetlb => error.with_context(|| {
                    let pages = self.size / HUGE;
                    format!("no {pages} free 2 MiB hugetlbfs pages (raise sysctl vm.nr_hugepages)")
                }),
                Backing::Hugetlb1G => error.with_context(|| {
                    let pages = self.size / GIB;
                    format!(
                        "no {pages} free 1 GiB hugetlbfs pages (raise \
                         /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages)"
                    )
                }),
                _ => error.context("cannot map guest memory"),
            };
        }
        match self.backing {
            Backing::Thp => self.advise(Advice::Hugepage, 0, self.size)?,
            Backing::Small | Backing::Sparse => self.advise(Advice::Nohugepage, 0, self.size)?,
            _ => true,
        };
        Ok(())
    }

    fn store_everywhere(&self) {
        for at in (0..self.size).step_by(self.backing.page_size() as usize) {
            // SAFETY: the byte is inside this writable mapping, which nothing else refers to yet.
            unsafe { self.start.wrapping_byte_add(at as usize).cast::<u8>().write_volatile(1) };
        }
    }

    fn insist_on_huge_pages(&self) -> Result<()> {
        const ATTEMPTS: usize = 3;
        let wanted = self.size / HUGE;
        let mut got = self.huge_pages()?;
        for _ in 0..ATTEMPTS {
            if got == wanted {
                return Ok(());
            }
            // Where MADV_COLLAPSE is not supported or fails, new faults may get huge pages.
            if !self.advise(Advice::Collapse, 0, self.size).unwrap_or(false) {
                self.advise(Advice::Dontneed, 0, self.size)?;
                self.store_everywhere();
            }
            got = self.huge_pages()?;
        }
        if got == wanted {
            return Ok(());
        }
        bail!(
            "only {got} of {wanted} transparent huge pages are available; free some memory, or check \
             /sys/kernel/mm/transparent_hugepage/enabled"
        )
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range is our own, and every user of the memory is dropped before it.
        unsafe { libc::munmap(self.reserved.0, self.reserved.1) };
    }
}

/// Returns the bytes in huge pages between two addresses, from the text of `smaps`.
fn huge_bytes(smaps: &str, start: u64, end: u64) -> u64 {
    let mut inside = false;
    let mut bytes = 0;
    for line in smaps.lines() {
        if let Some((from, to)) = area(line) {
            inside = from >= start && to <= end;
        } else if let Some(value) = huge_kib(line).filter(|_| inside) {
            let kib = value.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
            bytes += kib << 10;
        }
    }
    bytes
}

/// Returns what a line says of huge pages, KiB.
fn huge_kib(line: &str) -> Option<&str> {
    line.strip_prefix("AnonHugePages:").or_else(|| line.strip_prefix("ShmemPmdMapped:"))
}

/// Parses the addresses at the head of an area's entry.
fn area(line: &str) -> Option<(u64, u64)> {
    let (from, to) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_bytes_are_counted_in_their_areas_only() {
        let smaps = "\
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
AnonHugePages:      2048 kB
7f0000200000-7f0000600000 ---p 00000000 00:00 0
AnonHugePages:         0 kB
7f0000600000-7f0000800000 rw-p 00000000 00:00 0    [heap]
Rss:                2048 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr
";
        assert_eq!(huge_bytes(smaps, 0x7f00_0000_0000, 0x7f00_0080_0000), 4 << 20);
        assert_eq!(huge_bytes(smaps, 0x7f00_0020_0000, 0x7f00_0080_0000), 2 << 20);
        assert_eq!(huge_bytes(smaps, 0, 0x1000), 0);
        assert_eq!(huge_bytes("", 0, u64::MAX), 0);
    }

    #[test]
    fn small_memory_is_small_and_guarded() {
        let memory = Memory::new(HUGE, Backing::Small).unwrap();
        assert_eq!(memory.address() % HUGE, 0);
        assert_eq!(memory.huge_pages().unwrap(), 0);
        memory.store(HUGE - 2, &[1, 2]).unwrap();
        assert!(memory.store(HUGE - 1, &[1, 2]).is_err());
        memory.protect(Protection::Ro, 0, HUGE).unwrap();
        assert!(memory.store(0, &[1]).is_err());
        assert!(memory.advise(Advice::Dontneed, 0, HUGE + PAGE).is_err());
    }
}
