//! Identification of VMs: the process that owns a VM, and the name and UUID that the VM is known by.
//!
//! KVM knows none of them: `kvm->userspace_pid` is the id of the *thread* that created the VM. Names
//! come from command lines and cgroups and are chosen by whoever starts VMs, so that all text
//! passes through [`printable`](fn@printable) first.

mod name;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

pub use collapse_feed::{NameSource, VmName, VmProcess, printable};
use uuid::Uuid;

pub use name::{name_from, uuid_from};

/// Maximum length that is read of a command line or cgroup list, bytes; longer ones are truncated.
const MAX_READ: u64 = 256 << 10;

/// A mounted `/proc`.
#[derive(Debug, Clone)]
pub struct Proc(PathBuf);

impl Default for Proc {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Proc {
    /// Uses the `/proc` that is mounted at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the process id of a thread. Fails if the thread has exited.
    pub fn tgid_of(&self, tid: u32) -> io::Result<u32> {
        let status = self.read(tid, "status")?;
        String::from_utf8_lossy(&status)
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no Tgid in status"))
    }

    /// Returns whether process `pid` has a thread `tid`; true if that cannot be determined.
    pub fn has_thread(&self, pid: u32, tid: u32) -> bool {
        self.0.join(format!("{pid}/task/{tid}")).try_exists().unwrap_or(true)
    }

    /// Returns the process of a thread, and a name for its VM. Fails if the thread has exited; other
    /// files that cannot be read only make the name less specific.
    pub fn process_of_thread(&self, tid: u32) -> io::Result<VmProcess> {
        let pid = self.tgid_of(tid)?;
        let read = |file| self.read(pid, file).unwrap_or_default();
        let comm = self.comm(pid);
        let cmdline = split_cmdline(&read("cmdline"));
        let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
        Ok(VmProcess {
            pid,
            tid,
            comm: printable(&comm),
            name: name_from(pid, &cmdline, &cgroup, &comm),
        })
    }

    /// Returns the UUID of the VM of a process; `None` if its command line has none.
    pub fn uuid(&self, pid: u32) -> io::Result<Option<Uuid>> {
        let cmdline = split_cmdline(&self.read(pid, "cmdline")?);
        Ok(uuid_from(&cmdline, &self.comm(pid)))
    }

    /// Returns the memory that a process has from hugetlbfs, bytes.
    pub fn hugetlb_bytes(&self, pid: u32) -> io::Result<u64> {
        let status = self.read(pid, "status")?;
        let status = String::from_utf8_lossy(&status);
        let line = status.lines().find_map(|line| line.strip_prefix("HugetlbPages:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")).map(str::parse::<u64>);
        match number {
            Some(Ok(kib)) => Ok(kib.saturating_mul(1024)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Returns the short name of a process, which is empty if it has exited.
    fn comm(&self, pid: u32) -> Vec<u8> {
        let mut comm = self.read(pid, "comm").unwrap_or_default();
        comm.pop_if(|last| *last == b'\n');
        comm
    }

    fn read(&self, id: u32, file: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.0.join(format!("{id}/{file}")))?.take(MAX_READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Calls [`Proc::process_of_thread`] on the running system; `None` if the thread has exited.
pub fn process_of_thread(tid: u32) -> Option<VmProcess> {
    Proc::default().process_of_thread(tid).ok()
}

/// Calls [`Proc::uuid`] on the running system; `None` if the process has exited, too.
pub fn uuid(pid: u32) -> Option<Uuid> {
    Proc::default().uuid(pid).ok().flatten()
}

/// Calls [`Proc::hugetlb_bytes`] on the running system; `None` if the process has exited.
pub fn hugetlb_bytes(pid: u32) -> Option<u64> {
    Proc::default().hugetlb_bytes(pid).ok()
}

/// Calls [`Proc::has_thread`] on the running system.
pub fn thread_exists(pid: u32, tid: u32) -> bool {
    Proc::default().has_thread(pid, tid)
}

/// Parses the name of a VM's debugfs directory, such as `160-5`: thread id and file descriptor.
pub fn parse_debugfs_name(name: &str) -> Option<(u32, u32)> {
    let (tid, fd) = name.split_once('-')?;
    Some((parse_number(tid)?, parse_number(fd)?))
}

/// Parses digits only, where `parse` alone would accept a sign.
fn parse_number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn split_cmdline(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}
