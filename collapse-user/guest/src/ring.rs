//! A vCPU's dirty ring, by which KVM reports written pages instead of by bitmaps.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use kvm_bindings::{KVM_CAP_DIRTY_LOG_RING, KVM_DIRTY_LOG_PAGE_OFFSET, kvm_enable_cap};
use kvm_ioctls::{VcpuFd, VmFd};

use crate::units::PAGE;

/// Entries of a ring. KVM keeps some of them in reserve, and leaves the guest when the others are taken.
const ENTRIES: usize = 4096;

/// `KVM_DIRTY_GFN_F_DIRTY`: KVM has filled the entry.
const DIRTY: u32 = 1;

/// `KVM_DIRTY_GFN_F_RESET`: the entry was read, and KVM may take it back.
const RESET: u32 = 2;

/// `struct kvm_dirty_gfn`: flags, slot and page, of which only the number of entries matters here.
#[repr(C)]
struct Entry {
    flags: AtomicU32,
    _slot: u32,
    _offset: u64,
}

/// The ring of a vCPU.
pub struct DirtyRing {
    entries: NonNull<Entry>,
    /// The next entry to read, modulo the number of entries.
    next: Mutex<usize>,
    vm: RawFd,
}

// SAFETY: the entries are atomics in shared memory, which is unmapped when the last owner drops the ring.
unsafe impl Send for DirtyRing {}
// SAFETY: as above.
unsafe impl Sync for DirtyRing {}

/// Makes a VM without vCPUs report written pages by rings.
pub fn enable(vm: &VmFd) -> Result<()> {
    let mut cap = kvm_enable_cap { cap: KVM_CAP_DIRTY_LOG_RING, ..Default::default() };
    cap.args[0] = (ENTRIES * size_of::<Entry>()) as u64;
    vm.enable_cap(&cap).context("KVM_CAP_DIRTY_LOG_RING")
}

impl DirtyRing {
    /// Maps the ring of a vCPU.
    pub fn of(vcpu: &VcpuFd, vm: &VmFd) -> Result<Self> {
        let offset = (u64::from(KVM_DIRTY_LOG_PAGE_OFFSET) * PAGE) as libc::off_t;
        // SAFETY: a new mapping.
        let place = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), LENGTH, access, libc::MAP_SHARED, vcpu.as_raw_fd(), offset)
        };
        let entries = NonNull::new(place.cast()).filter(|_| place != libc::MAP_FAILED);
        let entries = entries.ok_or_else(io::Error::last_os_error).context("the dirty ring")?;
        Ok(Self { entries, next: Mutex::new(0), vm: vm.as_raw_fd() })
    }

    /// Reads all entries that KVM has filled, and returns their number. KVM takes them back at the next
    /// [`Self::reset`].
    pub fn read(&self) -> u64 {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = 0;
        loop {
            // SAFETY: within the mapping.
            let entry = unsafe { self.entries.add(*next % ENTRIES).as_ref() };
            if entry.flags.load(Ordering::Acquire) & DIRTY == 0 {
                return read;
            }
            entry.flags.store(RESET, Ordering::Release);
            *next += 1;
            read += 1;
        }
    }

    /// Lets KVM take back what was read of all of the VM's rings: it protects the pages again. Returns the
    /// number of entries.
    pub fn reset(&self) -> Result<u64> {
        /// `_IO(0xAE, 0xC7)`
        const KVM_RESET_DIRTY_RINGS: libc::c_ulong = 0xae << 8 | 0xc7;
        // SAFETY: the VM is open as long as its vCPUs; the call takes no argument.
        match unsafe { libc::ioctl(self.vm, KVM_RESET_DIRTY_RINGS, 0) } {
            ..0 => Err(io::Error::last_os_error()).context("KVM_RESET_DIRTY_RINGS"),
            entries => Ok(entries as u64),
        }
    }
}

/// Bytes of a ring.
const LENGTH: usize = ENTRIES * size_of::<Entry>();

impl Drop for DirtyRing {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, with this length.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), LENGTH) };
    }
}
