//! Cost of an episode to the guest's vCPUs.

use std::ops::Sub;

use collapse_common::{
    Cause, Counter,
    latency::{SQUARE_UNIT, Sum},
};

use crate::{latency::FaultLatencies, logging::protected, stall::standard_error, totals::Totals};

/// Guest faults of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FaultCost {
    /// All of them.
    pub faults: u64,
    /// The part of them that was resolved by the lockless fast path.
    pub fast: u64,
    /// Time from fault to guest re-entry, ns, summed over vCPUs; 0 where that is not measured.
    pub stall_ns: u64,
    /// The faults of `stall_ns` that were timed and not long.
    pub sample: TimedSample,
}

/// Exits for a full log of dirty pages (PML). Each is timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PmlFullCost {
    /// All of them.
    pub exits: u64,
    /// Time from KVM's tracepoint, where it has emptied the log already, to guest re-entry, ns, summed over vCPUs.
    pub time_ns: u64,
}

/// Timed faults that stand for others, too, from which the error of an estimate follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TimedSample {
    /// How many.
    timed: u64,
    /// Their time, ns.
    ns: u64,
    /// The squares of their times, in units of [`SQUARE_UNIT`] squared.
    squares: u64,
}

/// Guest faults that would not have been without dirty logging, or took longer for it, and what it costs where
/// the CPU logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EpisodeCost {
    /// While dirty logging was on.
    pub logging: FaultCost,
    /// From the publication of a slot without logging until the collapse routine was through.
    pub collapsing: FaultCost,
    /// Exits for a full log, of any time: there are none without dirty logging.
    pub pml_full: PmlFullCost,
    /// Leaves of 4 KiB that dirty logging write-protected.
    pub protected: u64,
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
    /// The standard error of `stall_ns`, ns, where one in `one_in` faults was timed; `None` if it is not known,
    /// as in recordings of versions that kept no sums.
    pub fn stall_error(&self, one_in: u32) -> Option<u64> {
        let TimedSample { timed, ns, squares } = self.sample;
        let squares = squares as f64 * (SQUARE_UNIT * SQUARE_UNIT) as f64;
        let error = standard_error(timed, ns, squares, one_in).round() as u64;
        (timed > 0 || self.stall_ns == 0).then_some(error)
    }

    fn of(totals: &Totals, latencies: &FaultLatencies, cause: Cause) -> Self {
        let sum = |sum| latencies.sum(|other| other == cause, sum);
        Self {
            sample: TimedSample {
                timed: sum(Sum::Timed),
                ns: sum(Sum::TimedNs),
                squares: sum(Sum::TimedSquares),
            },
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
            sample: TimedSample {
                timed: self.sample.timed + other.sample.timed,
                ns: self.sample.ns + other.sample.ns,
                squares: self.sample.squares.saturating_add(other.sample.squares),
            },
        }
    }
}

impl EpisodeCost {
    /// Returns the cost that a VM's totals and latencies amount to.
    pub(crate) fn of(totals: &Totals, latencies: &FaultLatencies) -> Self {
        Self {
            logging: FaultCost::of(totals, latencies, Cause::LoggedFault),
            collapsing: FaultCost::of(totals, latencies, Cause::RacingFault),
            pml_full: PmlFullCost {
                exits: totals.counter(Counter::PmlFull),
                time_ns: totals.counter(Counter::PmlFullNs),
            },
            protected: protected(totals),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            logging: self.logging.plus(other.logging),
            collapsing: self.collapsing.plus(other.collapsing),
            pml_full: PmlFullCost {
                exits: self.pml_full.exits + other.pml_full.exits,
                time_ns: self.pml_full.time_ns + other.pml_full.time_ns,
            },
            protected: self.protected + other.protected,
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
            sample: TimedSample {
                timed: self.sample.timed.saturating_sub(earlier.sample.timed),
                ns: self.sample.ns.saturating_sub(earlier.sample.ns),
                squares: self.sample.squares.saturating_sub(earlier.sample.squares),
            },
        }
    }
}

impl Sub for EpisodeCost {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            logging: self.logging - earlier.logging,
            collapsing: self.collapsing - earlier.collapsing,
            pml_full: PmlFullCost {
                exits: self.pml_full.exits.saturating_sub(earlier.pml_full.exits),
                time_ns: self.pml_full.time_ns.saturating_sub(earlier.pml_full.time_ns),
            },
            protected: self.protected.saturating_sub(earlier.protected),
        }
    }
}
