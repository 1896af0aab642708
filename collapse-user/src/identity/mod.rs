//! Who is behind a VM: its process, and the name that people know it by.
//!
//! KVM knows neither: `kvm->userspace_pid` is the id of the *thread* that created the VM. Names
//! come from command lines and cgroups and are chosen by whoever starts VMs, so that all text
//! passes through [`printable`](fn@printable) before it goes anywhere.

mod name;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use collapse_feed::{NameSource, VmName, VmProcess, printable};

pub use name::name_from;

/// Most of a command line or cgroup list that is read; longer ones are cut.
const MAX_READ: u64 = 256 << 10;

/// The open KVM files of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmFds {
    /// File descriptors of VMs, ascending. A debugfs directory is named after the one that the
    /// VM was created with.
    pub vms: Vec<u32>,
    /// Number of file descriptors of vCPUs.
    pub vcpus: usize,
}

/// A mounted `/proc`.
#[derive(Debug, Clone)]
pub struct Proc(PathBuf);

impl Default for Proc {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Proc {
    /// The one at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The process of a thread. Fails if the thread has exited.
    pub fn tgid_of(&self, tid: u32) -> io::Result<u32> {
        let status = self.read(tid, "status")?;
        String::from_utf8_lossy(&status)
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no Tgid in status"))
    }

    /// Whether process `pid` has a thread `tid`. If in doubt, it has.
    pub fn has_thread(&self, pid: u32, tid: u32) -> bool {
        self.0.join(format!("{pid}/task/{tid}")).try_exists().unwrap_or(true)
    }

    /// The process that owns the VM which thread `tid` created. Fails if the thread has exited;
    /// what else cannot be read only makes the name poorer.
    pub fn process_of_thread(&self, tid: u32) -> io::Result<VmProcess> {
        let pid = self.tgid_of(tid)?;
        let read = |file| self.read(pid, file).unwrap_or_default();
        let comm = read("comm");
        let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
        let cmdline = split_cmdline(&read("cmdline"));
        let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
        Ok(VmProcess {
            pid,
            tid,
            comm: printable(comm),
            name: name_from(pid, &cmdline, &cgroup, comm),
        })
    }

    /// Memory that a process has from hugetlbfs, bytes.
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

    /// The open KVM files of a process. Needs to be its owner, or `CAP_SYS_PTRACE`.
    pub fn vm_fds(&self, pid: u32) -> io::Result<VmFds> {
        let mut found = VmFds::default();
        for entry in fs::read_dir(self.0.join(format!("{pid}/fd")))? {
            let path = entry?.path();
            // A file can be closed between being listed and being looked at.
            let Ok(target) = fs::read_link(&path) else { continue };
            let Some(kind) = target.to_str().and_then(|text| text.strip_prefix("anon_inode:"))
            else {
                continue;
            };
            if kind == "kvm-vm" {
                found.vms.extend(fd_of(&path));
            } else if kind.starts_with("kvm-vcpu:") {
                found.vcpus += 1;
            }
        }
        found.vms.sort_unstable();
        Ok(found)
    }

    fn read(&self, id: u32, file: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.0.join(format!("{id}/{file}")))?.take(MAX_READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// [`Proc::process_of_thread`] of the running system; `None` if the thread has exited.
pub fn process_of_thread(tid: u32) -> Option<VmProcess> {
    Proc::default().process_of_thread(tid).ok()
}

/// [`Proc::hugetlb_bytes`] of the running system; `None` if the process has exited.
pub fn hugetlb_bytes(pid: u32) -> Option<u64> {
    Proc::default().hugetlb_bytes(pid).ok()
}

/// [`Proc::has_thread`] of the running system.
pub fn thread_exists(pid: u32, tid: u32) -> bool {
    Proc::default().has_thread(pid, tid)
}

/// Thread id and file descriptor in the name of a VM's debugfs directory: `160-5`.
pub fn parse_debugfs_name(name: &str) -> Option<(u32, u32)> {
    let (tid, fd) = name.split_once('-')?;
    Some((parse_number(tid)?, parse_number(fd)?))
}

fn fd_of(path: &Path) -> Option<u32> {
    parse_number(path.file_name()?.to_str()?)
}

/// Digits only, where `parse` alone would accept a sign.
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
