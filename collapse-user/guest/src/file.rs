//! Files whose mappings are guest memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context, Result};
use kvm_bindings::kvm_create_guest_memfd;
use kvm_ioctls::VmFd;

/// Vendor and device of QEMU's `ivshmem`, whose second BAR is plain memory.
const IVSHMEM: [&str; 2] = ["0x1af4", "0x1110"];

/// `GUEST_MEMFD_FLAG_MMAP` and `GUEST_MEMFD_FLAG_INIT_SHARED`
const SHARED_WITH_VMM: u64 = 1 | 1 << 1;

/// Makes a file of memory that no path leads to.
pub fn memory(size: u64) -> Result<File> {
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("memfd_create");
    }
    // SAFETY: the call made the file, and nobody else knows of it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(size).context("sizing a memfd")?;
    Ok(file)
}

/// Opens the memory of a device.
pub fn device() -> Result<File> {
    let devices = fs::read_dir("/sys/bus/pci/devices").context("there is no PCI")?;
    let mut devices = devices.filter_map(Result::ok).map(|device| device.path());
    let found = devices.find(|device| {
        let ids = ["vendor", "device"].map(|id| fs::read_to_string(device.join(id)));
        let is = |(id, wanted): (&io::Result<String>, &str)| {
            id.as_ref().is_ok_and(|id| id.trim() == wanted)
        };
        ids.iter().zip(IVSHMEM).all(is)
    });
    let path = found.context("there is no PCI device ivshmem")?.join("resource2");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    file.with_context(|| format!("opening {}", path.display()))
}

/// Makes a `guest_memfd` of a VM that its VMM may map, too.
pub fn of_guest(vm: &VmFd, size: u64) -> Result<File> {
    let wanted = kvm_create_guest_memfd { size, flags: SHARED_WITH_VMM, ..Default::default() };
    let fd = vm.create_guest_memfd(wanted).context("KVM_CREATE_GUEST_MEMFD")?;
    // SAFETY: the call made the file, and nobody else knows of it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
