//! What a VMM's process and the host say about the memory behind memslots.

use std::{
    ffi::CString,
    fs::{self, File},
    io::BufReader,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use collapse_feed::Slot;
use collapse_model::fit::GUEST_MEMFD;
use collapse_report::explain::{Backing, BackingKind, HostMemory, Settings};

use super::{
    pagemap,
    smaps::{self, Mapping},
};

/// `HUGETLBFS_MAGIC` and `TMPFS_MAGIC`
const HUGETLBFS: i64 = 0x9584_58f6;
const TMPFS: i64 = 0x0102_1994;

/// Beginnings of the paths of shared memory that no path leads to.
const SHARED: [&str; 4] = ["/memfd:", "/dev/zero", "/SYSV", "/dev/shm/"];

/// A VMM's process.
pub struct VmmProcess {
    folder: PathBuf,
    mappings: Vec<Mapping>,
    pagemap: Option<File>,
    /// Whether it may have no transparent huge pages (`PR_SET_THP_DISABLE`).
    pub thp_disabled: bool,
}

impl VmmProcess {
    /// Reads what concerns the memory of these slots, for as long as `go_on` allows.
    pub fn read(pid: u32, slots: &[Slot], go_on: &dyn Fn() -> bool) -> Self {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let ranges: Vec<_> = slots.iter().filter_map(range).collect();
        let mappings = File::open(folder.join("smaps"))
            .and_then(|file| smaps::read(BufReader::new(file), &ranges, go_on));
        let mappings = mappings.unwrap_or_else(|error| {
            log::debug!("smaps of process {pid}: {error}");
            Vec::new()
        });
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let thp_disabled = status
            .lines()
            .filter_map(|line| line.strip_prefix("THP_enabled:"))
            .any(|enabled| enabled.trim() == "0");
        Self { pagemap: File::open(folder.join("pagemap")).ok(), folder, mappings, thp_disabled }
    }

    /// Returns the memory behind a slot; `None` if it is not known.
    pub fn backing(&self, slot: &Slot) -> Option<Backing> {
        let mapping = self.mapping(slot)?;
        let kind = if slot.flags & GUEST_MEMFD == 0 {
            self.kind(mapping)
        } else {
            BackingKind::GuestMemfd
        };
        let registered = ["um", "uw", "ui"];
        Some(Backing {
            kind,
            page_bytes: (kind == BackingKind::Hugetlb).then_some(mapping.page_bytes),
            advised: mapping.has("hg"),
            forbidden: mapping.has("nh"),
            userfaultfd: registered.iter().any(|flag| mapping.has(flag)),
        })
    }

    /// The mapping that most of a slot's memory is in.
    fn mapping(&self, slot: &Slot) -> Option<&Mapping> {
        let (start, end) = range(slot)?;
        let mapping = self.mappings.iter().max_by_key(|mapping| mapping.overlap(start, end))?;
        (mapping.overlap(start, end) > 0).then_some(mapping)
    }

    /// Returns what the host has mapped of a slot's memory; `None` if it is not known, as of device memory, which the
    /// kernel does not count.
    pub fn host_memory(&self, slot: &Slot, go_on: &dyn Fn() -> bool) -> Option<HostMemory> {
        let (start, end) = range(slot)?;
        if self.mapping(slot).is_some_and(is_by_frames) {
            return None;
        }
        let scanned = self.pagemap.as_ref().map(|file| pagemap::scan(file, (start, end), go_on));
        if let Some(Ok(memory)) = scanned {
            return Some(memory);
        }
        let mut memory = HostMemory::default();
        let overlaps = |mapping: &&Mapping| mapping.overlap(start, end) > 0;
        for mapping in self.mappings.iter().filter(overlaps) {
            // Of a part of a mapping, smaps says nothing.
            if mapping.start < start || mapping.end > end {
                return None;
            }
            memory.present = memory.present.saturating_add(mapping.present);
            memory.huge = memory.huge.saturating_add(mapping.huge);
        }
        (!self.mappings.is_empty()).then_some(memory)
    }

    fn kind(&self, mapping: &Mapping) -> BackingKind {
        if mapping.has("ht") {
            return BackingKind::Hugetlb;
        }
        if is_by_frames(mapping) {
            return BackingKind::PfnMap;
        }
        if mapping.inode == 0 {
            return BackingKind::Anonymous;
        }
        if SHARED.iter().any(|begin| mapping.path.starts_with(begin)) {
            return BackingKind::Shared;
        }
        let file = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        match file_system(&self.folder.join(file)) {
            Some(TMPFS) => BackingKind::Shared,
            Some(HUGETLBFS) => BackingKind::Hugetlb,
            _ => BackingKind::File,
        }
    }
}

/// Whether a mapping is of frame numbers (`VM_PFNMAP`, `VM_IO`).
fn is_by_frames(mapping: &Mapping) -> bool {
    mapping.has("pf") || mapping.has("io")
}

/// Addresses of a slot's memory.
fn range(slot: &Slot) -> Option<(u64, u64)> {
    let start = slot.userspace_addr?;
    Some((start, start.checked_add(slot.npages.checked_mul(4096)?)?))
}

/// The type of the file system that a file is in.
fn file_system(path: &Path) -> Option<i64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends with a zero, and the struct is large enough.
    let failed = unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0;
    // SAFETY: all zero bytes are valid, and the call filled it in.
    (!failed).then(|| unsafe { found.assume_init() }.f_type)
}

/// Reads the host's settings. `nx_huge_pages` is KVM's.
pub fn settings(nx_huge_pages: Option<bool>) -> Settings {
    let chosen = |name: &str| {
        let path = format!("/sys/kernel/mm/transparent_hugepage/{name}");
        chosen(&fs::read_to_string(path).ok()?)
    };
    Settings { thp: chosen("enabled"), shmem_thp: chosen("shmem_enabled"), nx_huge_pages }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen("Y\n"), None);
    }

    #[test]
    fn our_own_memory_is_anonymous() {
        let memory = vec![1_u8; 4 << 20];
        let start = (memory.as_ptr() as u64).next_multiple_of(4096);
        let slot = Slot {
            id: 0,
            as_id: 0,
            base_gfn: 0,
            npages: 512,
            flags: 0,
            userspace_addr: Some(start),
        };
        let process = VmmProcess::read(std::process::id(), &[slot], &|| true);
        assert_eq!(process.backing(&slot).unwrap().kind, BackingKind::Anonymous);
        let elsewhere = Slot { userspace_addr: Some(4096), ..slot };
        assert_eq!(process.backing(&elsewhere), None);
    }
}
