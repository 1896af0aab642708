//! Cost of an episode to the guest's vCPUs.

use std::ops::Sub;

use collapse_common::{Cause, Counter};

use crate::totals::Totals;

/// Guest faults of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FaultCost {
    /// All of them.
    pub faults: u64,
    /// The part of them that was resolved by the lockless fast path.
    pub fast: u64,
    /// Time from fault to guest re-entry, ns, summed over vCPUs; 0 where that is not measured.
    pub stall_ns: u64,
}

/// Guest faults that would not have been without dirty logging, or took longer for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EpisodeCost {
    /// While dirty logging was on.
    pub logging: FaultCost,
    /// From the publication of a slot without logging until the collapse routine was through.
    pub collapsing: FaultCost,
}

/// Why what an episode cost is not known.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NoCost {
    /// The episode began before faults were counted.
    BeganBefore,
    /// Totals are read from time to time only, and another episode was in progress between the same
    /// two readings: their change cannot be divided between them.
    Shared,
}

impl FaultCost {
    fn of(totals: &Totals, cause: Cause) -> Self {
        Self {
            faults: totals.counter_of(cause, Counter::Fault),
            fast: totals.counter_of(cause, Counter::FastFault),
            stall_ns: totals.counter_of(cause, Counter::Stall),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            faults: self.faults + other.faults,
            fast: self.fast + other.fast,
            stall_ns: self.stall_ns + other.stall_ns,
        }
    }
}

impl EpisodeCost {
    /// Returns the cost that a VM's totals amount to.
    pub fn of(totals: &Totals) -> Self {
        Self {
            logging: FaultCost::of(totals, Cause::LoggedFault),
            collapsing: FaultCost::of(totals, Cause::RacingFault),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            logging: self.logging.plus(other.logging),
            collapsing: self.collapsing.plus(other.collapsing),
        }
    }
}

impl Sub for FaultCost {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            faults: self.faults.saturating_sub(earlier.faults),
            fast: self.fast.saturating_sub(earlier.fast),
            stall_ns: self.stall_ns.saturating_sub(earlier.stall_ns),
        }
    }
}

impl Sub for EpisodeCost {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            logging: self.logging - earlier.logging,
            collapsing: self.collapsing - earlier.collapsing,
        }
    }
}
