//! A terminal that nobody looks at.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    ptr, thread,
};

use anyhow::{Context, Result};

/// Rows and columns of a terminal of ordinary size.
const SIZE: libc::winsize = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };

/// Runs a command on a terminal of its own and passes on what it shows.
pub fn run(mut command: Command) -> Result<i32> {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: the places for the results and the size are valid, the name and settings may be null.
    let opened = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, ptr::null_mut(), ptr::null(), &SIZE)
    };
    if opened != 0 {
        return Err(io::Error::last_os_error()).context("opening a terminal");
    }
    // SAFETY: both were just opened, and nobody else owns them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut screen = std::fs::File::from(ours);
    command
        .env("TERM", "xterm-256color")
        .stdin(theirs.try_clone().context("duplicating the terminal")?)
        .stdout(Stdio::from(theirs));
    // SAFETY: both calls are safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let mut child = command.spawn().context("starting the command")?;
    // The command holds copies of our side of the terminal, which would keep it open.
    drop(command);
    let reader = thread::spawn(move || {
        // It ends with an error when the last one on the other side has closed it.
        let _ = io::copy(&mut screen, &mut io::stdout());
    });
    let status = child.wait().context("waiting for the command")?;
    let _ = reader.join();
    Ok(status.code().unwrap_or(1))
}
