//! Files without a name: nothing to clean up, however a run ends.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write},
    os::fd::{FromRawFd, OwnedFd},
};

/// Makes a file with the given content in memory; `name` is for `/proc` only.
pub fn memory_file(name: &CStr, content: &[u8]) -> io::Result<File> {
    // SAFETY: `name` is a valid C string, and the result is checked before it is owned.
    let fd = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut file = File::from(fd);
    file.write_all(content)?;
    Ok(file)
}
