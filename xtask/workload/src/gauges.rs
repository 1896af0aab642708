//! KVM's own figures for one VM, from debugfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

/// Mappings by size, as KVM counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// 4 KiB.
    #[serde(rename = "4k")]
    pub small: u64,
    /// 2 MiB.
    #[serde(rename = "2m")]
    pub huge: u64,
    /// 1 GiB.
    #[serde(rename = "1g")]
    pub gib: u64,
}

/// All that KVM says about one VM at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Mappings by size; old kernels do not count them.
    pub pages: Option<Pages>,
    /// What old kernels count instead.
    pub large_pages: Option<u64>,
    faults: BTreeMap<&'static str, u64>,
}

/// The counters of page faults: the file's name and ours.
const FAULTS: [(&str, &str); 4] = [
    ("pf_taken", "taken"),
    ("pf_fixed", "fixed"),
    ("pf_fast", "fast"),
    ("pf_spurious", "spurious"),
];

/// Where KVM shows the figures of a VM.
#[derive(Clone, Debug)]
pub struct Gauges {
    folder: PathBuf,
}

impl Gauges {
    /// The figures of the VM whose file descriptor `fd` was made by thread `tid`.
    pub fn of(tid: i32, fd: i32) -> Self {
        Self { folder: PathBuf::from(format!("/sys/kernel/debug/kvm/{tid}-{fd}")) }
    }

    /// Reads them now.
    pub fn read(&self) -> Snapshot {
        let pages = (|| {
            Some(Pages {
                small: self.value("pages_4k")?,
                huge: self.value("pages_2m")?,
                gib: self.value("pages_1g")?,
            })
        })();
        let large_pages = if pages.is_none() { self.value("largepages") } else { None };
        let faults =
            FAULTS.iter().filter_map(|(file, name)| Some((*name, self.value(file)?))).collect();
        Snapshot { pages, large_pages, faults }
    }

    fn value(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }
}

impl Snapshot {
    /// Page faults since an earlier moment, by outcome.
    pub fn faults_since(&self, earlier: &Self) -> BTreeMap<&'static str, u64> {
        let since = |(name, now): (&&'static str, &u64)| {
            earlier.faults.get(name).map(|before| (*name, now.saturating_sub(*before)))
        };
        self.faults.iter().filter_map(since).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_is_not_there_has_no_figures() {
        let nothing = Gauges::of(-1, -1).read();
        assert_eq!(nothing.pages, None);
        assert!(nothing.faults_since(&nothing).is_empty());
    }

    #[test]
    fn faults_are_differences() {
        let at = |taken| Snapshot { faults: [("taken", taken)].into(), ..Snapshot::default() };
        assert_eq!(at(7).faults_since(&at(5)), [("taken", 2)].into());
        assert!(at(7).faults_since(&Snapshot::default()).is_empty());
    }
}
