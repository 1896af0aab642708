//! What took KVM time: its operations on a VM, and waits for its lock.

use collapse_common::{Cause, latency::Timed};

use crate::Vm;

/// The time that operations took, or waits in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeTaken {
    /// Those that ended.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The time of the longest, ns; `None` if one before the window was as long.
    pub longest_ns: Option<u64>,
}

impl Vm {
    /// The time that KVM's operations on it took, by cause, from when KVM's function was called until it returned:
    /// with what they waited for, and with the operations inside them. Causes of which none has ended are left out.
    pub fn operations(&self) -> impl Iterator<Item = (Cause, TimeTaken)> {
        self.times(Timed::CALLS)
    }

    /// How long its `mmu_lock` was waited for, by what the thread that waited did. Causes without are left out.
    pub fn lock_waits(&self) -> impl Iterator<Item = (Cause, TimeTaken)> {
        self.times(Timed::LOCK_WAITS)
    }

    fn times(&self, timed: Timed) -> impl Iterator<Item = (Cause, TimeTaken)> {
        let time = move |cause: &Cause| Some((*cause, self.latencies().time(*cause, timed)?));
        Cause::ALL.iter().filter_map(time)
    }
}
