//! Processes of our own: one that shares memory copy-on-write, and one per VM.

use std::io;

use anyhow::{Context, Result, bail};
use collapse_guest::stop;

/// A process that shares all our memory copy-on-write and does nothing else, until dropped.
pub struct Shadow {
    pid: libc::pid_t,
}

impl Shadow {
    /// Forks it.
    pub fn new() -> Result<Self> {
        // SAFETY: the child only makes system calls, which is all that a child of a process with
        // threads may do.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("cannot fork"),
            0 => idle(),
            pid => Ok(Self { pid }),
        }
    }
}

fn idle() -> ! {
    // SAFETY: plain system calls. Nothing of the child's is used after its files are closed.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // Whoever reads our output waits for its end, which must not depend on this process.
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        loop {
            libc::pause();
        }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // SAFETY: it is our child and has not been waited for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// The role of this process after [`per_vm`].
pub enum Role {
    /// The one for the VM with this index.
    Vm(usize),
    /// The one that started them; they have all ended.
    Parent,
}

/// Forks a process for each of `vms`. In the parent, waits for them. Must be called before there
/// are threads.
pub fn per_vm(vms: usize) -> Result<Role> {
    let mut children = Vec::new();
    for index in 0..vms {
        // SAFETY: there are no other threads, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()).context("cannot fork"),
            0 => {
                // SAFETY: a plain system call.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
                return Ok(Role::Vm(index));
            }
            pid => children.push(pid),
        }
    }
    let failed = children.iter().filter(|child| !ends_well(**child, &children)).count();
    match failed {
        0 => Ok(Role::Parent),
        _ => bail!("{failed} of {vms} processes failed"),
    }
}

/// Waits for a child; hands a wish to end on to all of them.
fn ends_well(child: libc::pid_t, all: &[libc::pid_t]) -> bool {
    loop {
        let mut status = 0;
        // SAFETY: it is our child, and `status` is a valid place.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if !stop::requested() {
            continue;
        }
        for child in all {
            // SAFETY: a plain system call. The pids of ended children are not reused so soon.
            unsafe { libc::kill(*child, libc::SIGTERM) };
        }
    }
}
