//! KVM's own figures for one VM, from debugfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::monotonic_ns;

/// Mappings by size, as KVM counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    faults: BTreeMap<String, u64>,
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
        let faults = FAULTS
            .iter()
            .filter_map(|(file, name)| Some(((*name).to_owned(), self.value(file)?)))
            .collect();
        Snapshot { pages, large_pages, faults }
    }

    fn value(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }
}

/// The beginning of an interval: its time, and KVM's figures of a VM then.
#[derive(Clone, Debug)]
pub struct Moment {
    at: u64,
    gauges: Option<Gauges>,
    before: Snapshot,
}

/// What KVM's figures of a VM say of a span of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// `CLOCK_MONOTONIC` at its start.
    pub t_start_ns: u64,
    /// And at its end.
    pub t_end_ns: u64,
    /// The VM's page faults by outcome, as far as KVM counts them.
    pub faults: BTreeMap<String, u64>,
    /// Mappings before.
    pub pages_before: Option<Pages>,
    /// Mappings after.
    pub pages_after: Option<Pages>,
    /// What old kernels count instead, before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largepages_before: Option<u64>,
    /// And after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largepages_after: Option<u64>,
}

impl Moment {
    /// Now.
    pub fn now(gauges: Gauges) -> Self {
        let before = gauges.read();
        Self { at: monotonic_ns(), gauges: Some(gauges), before }
    }

    /// An earlier time, when there was no such VM yet.
    pub fn before_creation(gauges: Gauges, at: u64) -> Self {
        Self { at, gauges: Some(gauges), before: Snapshot::default() }
    }

    /// Now, without a VM.
    pub fn without_vm() -> Self {
        Self { at: monotonic_ns(), gauges: None, before: Snapshot::default() }
    }

    /// The time from this moment until now.
    pub fn until_now(&self) -> Interval {
        let t_end_ns = monotonic_ns();
        let after = self.gauges.as_ref().map(Gauges::read).unwrap_or_default();
        Interval {
            t_start_ns: self.at,
            t_end_ns,
            faults: after.faults_since(&self.before),
            pages_before: self.before.pages,
            pages_after: after.pages,
            largepages_before: self.before.large_pages,
            largepages_after: after.large_pages,
        }
    }
}

impl Snapshot {
    /// Page faults since an earlier moment, by outcome.
    pub fn faults_since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let since = |(name, now): (&String, &u64)| {
            earlier.faults.get(name).map(|before| (name.clone(), now.saturating_sub(*before)))
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
        let taken = |n| BTreeMap::from([("taken".to_owned(), n)]);
        let at = |n| Snapshot { faults: taken(n), ..Snapshot::default() };
        assert_eq!(at(7).faults_since(&at(5)), taken(2));
        assert!(at(7).faults_since(&Snapshot::default()).is_empty());
    }
}
