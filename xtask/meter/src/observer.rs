//! A process that observes, and its use of CPU time and memory.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};

/// A process, and the children that work for it.
pub struct Observer {
    pid: u32,
    all: Vec<u32>,
}

impl Observer {
    /// The process `pid` and its children but for `except`.
    pub fn new(pid: u32, except: u32) -> Self {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let children = ids.filter(|id| *id != except && parent(*id) == Some(pid));
        Self { pid, all: children.chain([pid]).collect() }
    }

    /// CPU time used so far by all of them, in kernel and user mode, ns.
    pub fn cpu_ns(&self) -> u64 {
        let clocks = self.all.iter().filter_map(|pid| {
            let mut clock = 0;
            // SAFETY: `clock` is a valid place for the result.
            let found = unsafe { libc::clock_getcpuclockid(*pid as i32, &raw mut clock) };
            (found == 0).then_some(clock)
        });
        clocks.map(now).sum()
    }

    /// The most memory that the process itself ever had resident, bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        Some(field(&status, "VmHWM:")? * 1024)
    }

    /// Kernel memory of the process' eBPF maps and programs, bytes; each is counted once, however often it
    /// is open.
    pub fn bpf(&self) -> u64 {
        let entries = fs::read_dir(format!("/proc/{}/fdinfo", self.pid)).into_iter().flatten();
        let objects = entries.flatten().filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let id = ["map_id:", "prog_id:"].map(|name| field(&text, name));
            id.iter().any(Option::is_some).then_some((id, field(&text, "memlock:")?))
        });
        objects.collect::<BTreeMap<_, _>>().values().sum()
    }
}

/// Time that the machine's CPUs have run tasks since boot, ns: time without the idle loop, up
/// to each CPU's last change of tasks.
pub fn busy_ns() -> Result<u64> {
    let text = fs::read_to_string("/proc/schedstat").context("reading /proc/schedstat")?;
    Ok(busy(&text))
}

/// The seventh number behind each `cpuN` is `rq_cpu_time`, in versions 15 (5.10) to 17.
fn busy(schedstat: &str) -> u64 {
    let cpus = schedstat.lines().filter(|line| line.starts_with("cpu"));
    cpus.filter_map(|line| line.split(' ').nth(7)?.parse::<u64>().ok()).sum()
}

/// Nanoseconds of a clock.
pub fn now(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result; for a clock that is gone it stays zero.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have blanks and parentheses in it.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The number behind a name at the start of a line.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let (me, parent_of_me) = (std::process::id(), std::os::unix::process::parent_id());
        assert_eq!(parent(me), Some(parent_of_me));
        let observer = Observer::new(me, 0);
        assert!(observer.cpu_ns() > 0 && observer.resident() > Some(4096));
        assert_eq!(observer.bpf(), 0);
    }

    #[test]
    fn busy_cpus_add_up() {
        let text = "version 15\ntimestamp 7\ncpu0 0 0 5 6 7 8 100 9 10\ndomain0 3 1 2\n\
                    cpu1 0 0 5 6 7 8 20 9 10\n";
        assert_eq!(busy(text), 120);
    }

    #[test]
    fn fields() {
        let text = "pos:\t0\nmemlock:\t4096\nmap_id:\t7\n";
        assert_eq!((field(text, "memlock:"), field(text, "prog_id:")), (Some(4096), None));
    }
}
