//! KVM's own counts for one VM, from debugfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::monotonic_ns;

/// Mappings by size, as KVM counts them in `pages_4k`, `pages_2m` and `pages_1g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageCounts {
    /// Mappings of 4 KiB.
    #[serde(rename = "4k")]
    pub small: u64,
    /// Mappings of 2 MiB.
    #[serde(rename = "2m")]
    pub huge: u64,
    /// Mappings of 1 GiB.
    #[serde(rename = "1g")]
    pub gib: u64,
}

/// KVM's counts for one VM at one time.
#[derive(Clone, Debug, Default)]
pub struct GaugeSnapshot {
    /// Mappings by size; `None` on kernels that do not count them (5.10).
    pub pages: Option<PageCounts>,
    /// Huge mappings (`largepages`), which kernels without `pages` count instead.
    pub large_pages: Option<u64>,
    faults: BTreeMap<String, u64>,
}

/// Counters of page faults: the name of the file, and the key in output.
const FAULTS: [(&str, &str); 4] = [
    ("pf_taken", "taken"),
    ("pf_fixed", "fixed"),
    ("pf_fast", "fast"),
    ("pf_spurious", "spurious"),
];

/// The debugfs directory with KVM's counts for one VM.
#[derive(Clone, Debug)]
pub struct Gauges {
    folder: PathBuf,
}

impl Gauges {
    /// Finds the counts of the VM that thread `tid` created with file descriptor `fd`.
    pub fn of(tid: i32, fd: i32) -> Self {
        Self { folder: PathBuf::from(format!("/sys/kernel/debug/kvm/{tid}-{fd}")) }
    }

    /// Reads the current counts; those that cannot be read are unknown.
    pub fn read(&self) -> GaugeSnapshot {
        let pages = (|| {
            Some(PageCounts {
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
        GaugeSnapshot { pages, large_pages, faults }
    }

    fn value(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }
}

/// The start of an interval: a time, and KVM's counts for a VM at that time.
#[derive(Clone, Debug)]
pub struct IntervalStart {
    at: u64,
    gauges: Option<Gauges>,
    before: GaugeSnapshot,
}

/// The changes of KVM's counts for a VM over a span of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Start, `CLOCK_MONOTONIC` ns.
    pub t_start_ns: u64,
    /// End, `CLOCK_MONOTONIC` ns.
    pub t_end_ns: u64,
    /// Page faults of the VM by outcome, as far as KVM counts them.
    pub faults: BTreeMap<String, u64>,
    /// Mappings at the start.
    pub pages_before: Option<PageCounts>,
    /// Mappings at the end.
    pub pages_after: Option<PageCounts>,
    /// Huge mappings at the start, on kernels without counts by size.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largepages_before: Option<u64>,
    /// Huge mappings at the end, on kernels without counts by size.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largepages_after: Option<u64>,
}

impl IntervalStart {
    /// Starts an interval now.
    pub fn now(gauges: Gauges) -> Self {
        let before = gauges.read();
        Self { at: monotonic_ns(), gauges: Some(gauges), before }
    }

    /// Starts an interval at an earlier time, before the VM was created.
    pub fn before_creation(gauges: Gauges, at: u64) -> Self {
        Self { at, gauges: Some(gauges), before: GaugeSnapshot::default() }
    }

    /// Starts an interval now, without a VM.
    pub fn without_vm() -> Self {
        Self { at: monotonic_ns(), gauges: None, before: GaugeSnapshot::default() }
    }

    /// Ends the interval now.
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

impl GaugeSnapshot {
    /// Returns the page faults since an earlier time, by outcome.
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
    fn a_vm_that_does_not_exist_has_no_counts() {
        let nothing = Gauges::of(-1, -1).read();
        assert_eq!(nothing.pages, None);
        assert!(nothing.faults_since(&nothing).is_empty());
    }

    #[test]
    fn faults_are_differences() {
        let taken = |n| BTreeMap::from([("taken".to_owned(), n)]);
        let at = |n| GaugeSnapshot { faults: taken(n), ..GaugeSnapshot::default() };
        assert_eq!(at(7).faults_since(&at(5)), taken(2));
        assert!(at(7).faults_since(&GaugeSnapshot::default()).is_empty());
    }
}
