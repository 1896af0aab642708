//! `userfaultfd(2)`, as far as a range is registered with it, and protected.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

/// `UFFD_API`
const API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`
const MISSING: u64 = 1;
/// `UFFDIO_REGISTER_MODE_WP`
const WRITE_PROTECT: u64 = 2;

/// `struct uffdio_api`
#[repr(C)]
struct UffdApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`
#[repr(C)]
struct UffdRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_writeprotect`
#[repr(C)]
struct UffdWriteProtect {
    start: u64,
    len: u64,
    mode: u64,
}

/// `_IOWR(0xaa, number, T)`
const fn request<T>(number: libc::c_ulong) -> libc::c_ulong {
    (3 << 30) | ((size_of::<T>() as libc::c_ulong) << 16) | (0xaa << 8) | number
}

/// Registers a range for pages that are missing or protected, for as long as the file is open.
pub fn register(start: u64, len: u64) -> Result<OwnedFd> {
    // SAFETY: the call takes flags only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error).context("userfaultfd")?;
    // SAFETY: the call made the file, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut api = UffdApi { api: API, features: 0, ioctls: 0 };
    call(&fd, request::<UffdApi>(0x3f), &mut api).context("UFFDIO_API")?;
    let mut range = UffdRegister { start, len, mode: MISSING | WRITE_PROTECT, ioctls: 0 };
    call(&fd, request::<UffdRegister>(0), &mut range).context("UFFDIO_REGISTER")?;
    Ok(fd)
}

/// Protects a registered range from being written to, or ends that.
pub fn protect(fd: &OwnedFd, start: u64, len: u64, protect: bool) -> Result<()> {
    let mut range = UffdWriteProtect { start, len, mode: protect.into() };
    call(fd, request::<UffdWriteProtect>(6), &mut range).context("UFFDIO_WRITEPROTECT")
}

fn call<T>(fd: &OwnedFd, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: the request says how large its argument is.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
