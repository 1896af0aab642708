//! One episode's part of the report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::figures::PmlFullReport;
use collapse_feed::{Coverage, Signal};
use collapse_model::{
    CollapseSums, Episode, LoggedBy, NoCost, Outcome, Phase, Race, RegionCounts, Work,
};

/// From dirty logging going on for a VM to the regions that it lost being huge again. Times are
/// `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeReport {
    /// Number among the VM's episodes, from 1 on.
    #[schemars(extend("x-sum" = false))]
    pub number: u32,
    /// How far it is.
    pub phase: Phase,
    /// Outcome, or how it stands.
    pub outcome: Outcome,
    /// When dirty logging went on, or from which on we watched.
    #[schemars(extend("x-sum" = false))]
    pub start_ns: u64,
    /// Whether dirty logging was on before we watched.
    pub began_before: bool,
    /// Slots with dirty logging.
    pub slots: u64,
    /// Their guest frames.
    pub pages: u64,
    /// How KVM learnt which pages the guest wrote to; `None` if that is not known.
    #[serde(default)]
    pub logged_by: Option<LoggedBy>,
    /// Huge leaves split until the end of the last collapse run.
    pub splits: u64,
    /// When the first was split; `None` if none was.
    #[schemars(extend("x-sum" = false))]
    pub first_split_ns: Option<u64>,
    /// When the last was.
    #[schemars(extend("x-sum" = false))]
    pub last_split_ns: Option<u64>,
    /// When dirty logging was off for all slots; `None` if it is on.
    #[schemars(extend("x-sum" = false))]
    pub log_off_ns: Option<u64>,
    /// How long it was on; `None` if that is not known (yet).
    pub logging_duration_ns: Option<u64>,
    /// Runs of the collapse routine; `None` if not seen.
    pub collapse: Option<EpisodeCollapse>,
    /// Regions lost until the end of the last collapse run, and what became of them.
    pub regions: RegionCounts,
    /// When a region was huge again, last; `None` if none was.
    #[schemars(extend("x-sum" = false))]
    pub last_recovery_ns: Option<u64>,
    /// The longest that a region took to be huge again, from when dirty logging went off for its slot; `None` unless
    /// every region is.
    pub recovery_duration_ns: Option<u64>,
    /// When the episode ended; `None` if it has not.
    #[schemars(extend("x-sum" = false))]
    pub end_ns: Option<u64>,
    /// Cost to the guest; `None` if not known.
    pub cost: Option<EpisodeCostReport>,
    /// Why `cost` is not known, if faults are seen at all.
    pub cost_unknown: Option<NoCost>,
}

/// Runs of the collapse routine, added up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeCollapse {
    /// Runs: one per slot.
    pub runs: u64,
    /// Their duration, ns.
    pub duration_ns: u64,
    /// Changes that they made.
    #[serde(flatten)]
    pub work: Work,
    /// Leaves that guest faults installed meanwhile; `None` if not seen for every run.
    pub race: Option<Race>,
    /// Times they gave up `mmu_lock`; `None` if not seen for every run.
    pub yields: Option<u64>,
}

/// Cost of an episode to the guest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeCostReport {
    /// While dirty logging was on.
    pub logging: FaultCostReport,
    /// From a slot's publication without logging until the collapse routine was through with it.
    pub collapsing: FaultCostReport,
    /// Exits for a full log of dirty pages; `None` if not seen, as where the CPU does not log them.
    #[serde(default)]
    pub pml_full: Option<PmlFullReport>,
}

/// Guest faults of one kind.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FaultCostReport {
    /// All of them.
    pub faults: u64,
    /// By the lockless fast path; `None` if not seen.
    pub fast: Option<u64>,
    /// Time that they kept vCPUs from their guest, ns; `None` if not measured.
    pub stall_ns: Option<u64>,
    /// Standard error of `stall_ns`; `None` if not known.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub stall_error_ns: Option<u64>,
}

impl EpisodeReport {
    pub(super) fn new(episode: &Episode, coverage: &Coverage) -> Self {
        let faults = |cost: collapse_model::FaultCost| FaultCostReport {
            faults: cost.faults,
            fast: coverage.known(Signal::FastFaults, cost.fast),
            stall_ns: coverage.known(Signal::FaultLatency, cost.stall_ns),
            stall_error_ns: coverage
                .known(Signal::FaultLatency, cost.stall_error(coverage.timed_faults))
                .flatten(),
        };
        let cost = coverage.known(Signal::Faults, episode.cost);
        Self {
            number: episode.number.get(),
            phase: episode.phase,
            outcome: episode.outcome(),
            start_ns: episode.start,
            began_before: episode.began_before,
            slots: episode.slots.len() as u64,
            pages: episode.slots.values().sum(),
            logged_by: episode
                .cost
                .ok()
                .and_then(|cost| LoggedBy::of(coverage.paging.pml, cost.protected)),
            splits: episode.splits,
            first_split_ns: episode.split.map(|(first, _)| first),
            last_split_ns: episode.split.map(|(_, last)| last),
            log_off_ns: episode.log_off,
            logging_duration_ns: episode.logging_duration(),
            collapse: coverage.sees(Signal::Collapse).then(|| episode.collapse.into()),
            regions: episode.regions,
            last_recovery_ns: episode.last_recovery,
            recovery_duration_ns: episode.recovery_duration(),
            end_ns: episode.end,
            cost: cost.and_then(Result::ok).map(|cost| EpisodeCostReport {
                logging: faults(cost.logging),
                collapsing: faults(cost.collapsing),
                pml_full: coverage.known(Signal::PmlFull, cost.pml_full.into()),
            }),
            cost_unknown: cost.and_then(Result::err),
        }
    }
}

impl From<CollapseSums> for EpisodeCollapse {
    fn from(sums: CollapseSums) -> Self {
        let CollapseSums { runs, duration, work, race, yields } = sums;
        Self { runs, duration_ns: duration, work, race, yields }
    }
}
