//! Short diagnoses of one VM: what costs it huge pages or time, the evidence, and what to do about it.

mod lints;
#[cfg(test)]
mod tests;

use crate::Vm;
use collapse_feed::Mmu;

/// A diagnosis of one VM.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Key in every output.
    pub name: &'static str,
    /// Headline, for people.
    pub title: &'static str,
    /// Evidence, with its numbers.
    pub evidence: String,
    /// Remedy.
    pub knob: &'static str,
}

/// From where on something is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Dirty logging on for longer, ns.
    pub logging_ns: u64,
    /// Regions still mapped small so long after dirty logging went off, ns.
    pub small_ns: u64,
    /// Fewer regions, splits or zaps are not reported.
    pub least: u64,
    /// Part of recovered regions that came back write-protected.
    pub read_only_share: f64,
    /// 4 KiB leaves that guest faults installed while the collapse routine ran.
    pub raced: u64,
    /// Part of hugetlb memory that is mapped by 4 KiB leaves.
    pub hugetlb_share: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            logging_ns: 600_000_000_000,
            small_ns: 10_000_000_000,
            least: 8,
            read_only_share: 0.25,
            raced: 512,
            hugetlb_share: 0.1,
        }
    }
}

/// A VM and what its diagnosis depends on.
struct Case<'a> {
    vm: &'a Vm,
    mmu: Mmu,
    now: u64,
    thresholds: &'a Thresholds,
}

/// A kind of finding.
struct Lint {
    name: &'static str,
    title: &'static str,
    knob: &'static str,
    /// The evidence; `None` if there is nothing to report.
    check: fn(&Case) -> Option<String>,
}

/// Every kind of finding, the gravest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    lints::LINTS.iter().map(|lint| lint.name)
}

/// Returns the findings about a VM that uses `mmu`, at `now` (`CLOCK_MONOTONIC` ns).
pub fn findings(vm: &Vm, mmu: Mmu, now: u64, thresholds: &Thresholds) -> Vec<Finding> {
    let case = Case { vm, mmu, now, thresholds };
    let found = lints::LINTS.iter().filter_map(|lint| {
        let evidence = (lint.check)(&case)?;
        Some(Finding { name: lint.name, title: lint.title, evidence, knob: lint.knob })
    });
    found.collect()
}
