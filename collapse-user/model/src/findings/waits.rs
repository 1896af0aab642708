//! Findings about what vCPUs wait for in guest faults.

use collapse_common::{Cause, Counter};

use super::{Case, Evidence, Unit};
use crate::wording::duration;

pub(super) fn lock_contended(case: &Case) -> Option<Evidence> {
    let faults = |cause: &Cause| cause.is_guest_fault();
    let waits: Vec<_> = case.vm.lock_waits().filter(|(cause, _)| faults(cause)).collect();
    let longest = waits.iter().filter_map(|(_, time)| time.longest_ns).max()?;
    (longest >= case.thresholds.lock_ns).then(|| {
        let count: u64 = waits.iter().map(|(_, time)| time.count).sum();
        let all: u64 = waits.iter().map(|(_, time)| time.total_ns).sum();
        // When a VM is torn down, its vCPUs run no more.
        let others = case.vm.operations().filter(|(by, _)| *by != Cause::Teardown);
        let others = others.filter_map(|(by, time)| Some((time.longest_ns?, by.label())));
        let of_others = others.max().map_or(String::new(), |(ns, operation)| {
            format!("; the longest operation, {operation}, took {}", duration(ns))
        });
        Evidence::certain(format!(
            "guest faults waited {count} times for mmu_lock, {} in all, {} at longest{of_others}",
            duration(all),
            duration(longest),
        ))
        .with("longest", longest, Unit::Ns)
        .with("waits", count, Unit::Count)
        .with("all", all, Unit::Ns)
        .costing(Some(all))
    })
}

pub(super) fn faults_retried(case: &Case) -> Option<Evidence> {
    let totals = case.vm.totals();
    let (retried, faults) = (totals.counter(Counter::Retried), totals.counter(Counter::Fault));
    let share = retried as f64 / faults.max(1) as f64;
    let enough = retried >= case.thresholds.retried && share >= case.thresholds.retried_share;
    enough.then(|| {
        Evidence::certain(format!(
            "nothing came of {retried} of {faults} guest faults, so that the guest took them again: an invalidation of \
             that memory was open, another thread was changing the SPTE, or the page had to be read in first"
        ))
        .with("retried", retried, Unit::Count)
        .with("faults", faults, Unit::Count)
        .costing_at_most_all_faults(case)
    })
}
