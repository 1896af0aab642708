//! What took KVM time: its operations, and what threads waited for.

use std::{cmp::Reverse, collections::BTreeMap};

use collapse_common::Cause;
use collapse_model::wording::duration;

use super::most_first;
use crate::{LockWaitReport, LockWaitsReport, Name, OperationReport, VmReport};

/// Causes listed in a line.
const SHOWN: usize = 4;

/// Which of KVM's operations took longest, the longest first; `None` if none was timed.
pub fn operations(operations: &BTreeMap<Name, OperationReport>) -> Option<String> {
    let all = operations.iter().map(|(name, time)| {
        let &OperationReport { calls, total_ns, longest_ns } = time;
        Time { name, count: calls, total_ns, longest_ns }
    });
    listed(all.collect())
}

/// Rows of what kept threads waiting, each a name, a number, and what there is to say about it: nothing of what did
/// not happen, or was not seen.
pub fn waits(vm: &VmReport) -> Vec<(&'static str, u64, String)> {
    const RETRIED: &str = "nothing came of them: an invalidation was open, the SPTE was being changed, or the page \
                           had to be read in";
    let retried = vm.retried_faults.filter(|retried| *retried > 0);
    let retried = retried.map(|retried| ("retried faults", retried, RETRIED.to_owned()));
    let by_host = vm
        .refaults_after
        .iter()
        .filter(|(cause, _)| Cause::from_name(cause).is_some_and(Cause::is_notifier));
    let by_host: BTreeMap<_, _> = by_host.map(|(cause, n)| (cause.clone(), *n)).collect();
    let faulted = (!by_host.is_empty()).then(|| {
        let causes = format!("where the host took the huge page: {}", most_first(&by_host));
        ("faulted back", by_host.values().sum(), causes)
    });
    let lock = vm
        .lock_waits
        .as_ref()
        .and_then(|waits| Some(("mmu_lock waits", waits.total, listed(of_lock(waits))?)));
    faulted.into_iter().chain(retried).chain(lock).collect()
}

fn of_lock(waits: &LockWaitsReport) -> Vec<Time<'_>> {
    let all = waits.by_cause.iter().map(|(name, time)| {
        let &LockWaitReport { waits, total_ns, longest_ns } = time;
        Time { name, count: waits, total_ns, longest_ns }
    });
    all.collect()
}

/// What one cause took.
struct Time<'a> {
    name: &'a str,
    count: u64,
    total_ns: u64,
    longest_ns: Option<u64>,
}

fn listed(mut all: Vec<Time>) -> Option<String> {
    all.sort_by_key(|time| Reverse(time.total_ns));
    let words = all.iter().take(SHOWN).map(|Time { name, count, total_ns, longest_ns }| {
        let total = duration(*total_ns);
        match (count, longest_ns) {
            (1, _) => format!("{name} {total}"),
            (count, Some(longest)) => {
                format!("{name} {total} (in {count}, the longest {})", duration(*longest))
            }
            (count, None) => format!("{name} {total} (in {count})"),
        }
    });
    let mut words: Vec<String> = words.collect();
    if all.len() > SHOWN {
        words.push(format!("{} more", all.len() - SHOWN));
    }
    (!words.is_empty()).then(|| words.join(", "))
}
