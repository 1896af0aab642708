//! Runs of the slot-wide collapse routine, and what they did.

use collapse_common::{Cause, Transition, abi::Pages};

use crate::source::{Change, Collapse, Slot};

/// One run of the collapse routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollapseSpan {
    /// The slot it ran on.
    pub slot: Slot,
    /// `CLOCK_MONOTONIC` ns at which it began.
    pub start: u64,
    /// Duration, ns; it includes waiting for `mmu_lock`.
    pub duration: u64,
    /// What it did.
    pub work: Work,
    /// KVM's gauges when it began.
    pub pages_before: Option<Pages>,
    /// KVM's gauges when it ended.
    pub pages_after: Option<Pages>,
}

/// SPTE changes made by a run of the collapse routine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Work {
    /// 4 KiB SPTEs zapped, those of page tables that were removed whole included.
    pub zapped_4k: u64,
    /// 2 MiB SPTEs zapped on the way to 1 GiB.
    pub zapped_2m: u64,
    /// Regions made huge again in place.
    pub recovered: u64,
    /// Of those: came back write-protected.
    pub recovered_read_only: u64,
}

impl Work {
    /// Adds a recorded change, if the collapse routine made it.
    pub fn apply(&mut self, change: &Change) {
        if change.cause != Cause::Collapse {
            return;
        }
        let n = u64::from(change.count);
        match (change.transition, change.level) {
            (Transition::Zap, 1) => self.zapped_4k += n,
            (Transition::Zap, 2) => self.zapped_2m += n,
            (Transition::Recover, _) => self.recovered += n,
            (Transition::RecoverReadOnly, _) => {
                self.recovered += n;
                self.recovered_read_only += n;
            }
            _ => {}
        }
    }
}

impl CollapseSpan {
    /// A run that ended at `end` ns and did `work`.
    pub fn new(collapse: &Collapse, end: u64, work: Work) -> Self {
        let &Collapse { slot, start, pages_before, pages_after } = collapse;
        let duration = end.saturating_sub(start);
        Self { slot, start, duration, work, pages_before, pages_after }
    }
}
