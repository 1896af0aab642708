//! One episode.

use std::{collections::BTreeMap, num::NonZeroU32, ops::AddAssign};

use super::cost::{EpisodeCost, NoCost};
use crate::{
    metric::LeafChange,
    regions::{RegionCounts, Step},
    span::{CollapseSpan, Race, Work},
};
use collapse_feed::Change;

/// From dirty logging going on for a VM to the regions that it lost being huge again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Number among the VM's episodes, from 1 on.
    pub number: NonZeroU32,
    /// How far it is.
    pub phase: Phase,
    /// `CLOCK_MONOTONIC` ns at which dirty logging went on, or from which on we watched.
    pub start: u64,
    /// Whether dirty logging was on before we watched.
    pub began_before: bool,
    /// Guest frames of the slots with dirty logging, by address space and id.
    pub slots: BTreeMap<(u16, u16), u64>,
    /// Huge leaves split until the end of the last collapse run.
    pub splits: u64,
    /// `CLOCK_MONOTONIC` ns of the first and the last split.
    pub split: Option<(u64, u64)>,
    /// `CLOCK_MONOTONIC` ns from which on dirty logging concerned the VM as a whole no more.
    pub log_off: Option<u64>,
    /// Whether dirty logging is on again, in a later episode, so that KVM has to map small what is touched.
    pub logging_again: bool,
    /// Runs of the collapse routine in it.
    pub collapse: CollapseSums,
    /// `CLOCK_MONOTONIC` ns at which a region was huge again, last.
    pub last_recovery: Option<u64>,
    /// The longest that a region took from when it could be huge again, ns.
    longest_recovery: u64,
    /// `CLOCK_MONOTONIC` ns at which it ended.
    pub end: Option<u64>,
    /// Regions lost until the end of the last collapse run, for whatever cause, and what became of
    /// them, also after the episode's end.
    pub regions: RegionCounts,
    /// Cost to the guest, if it is known. Exact to within the time that it takes to read a
    /// VM's counts.
    pub cost: Result<EpisodeCost, NoCost>,
}

/// How far an episode is. Phases only go forward.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Dirty logging is on.
    Logging,
    /// Dirty logging is off, and the collapse routine is yet to run, or running. Stays so where the
    /// routine is not seen.
    Collapsing,
    /// The collapse routine is through, and regions are not huge yet.
    Recovering,
    /// No region is outstanding any more, or the next episode began, or the VM ended.
    Ended,
}

/// Outcome of an episode, or how it stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Logging or collapsing: too early to say.
    Running,
    /// No region lost its huge leaf.
    NothingLost,
    /// No region lost its huge leaf while we watched; those lost before are not known.
    Unknown,
    /// Every region is huge again.
    Recovered,
    /// Some regions are huge again; others are mapped small, or were until they were taken away.
    Partly,
    /// None is huge again, and some are mapped small.
    NotRecovered,
    /// None was touched since: no failure of kernels up to 6.12.
    Untouched,
    /// The regions were taken away before they could come back, as after a migration that succeeded.
    Gone,
    /// Every region that was touched is huge again. Others were not touched since, or were taken away
    /// before, which is no failure of kernels up to 6.12.
    RecoveredTouched,
}

/// Sums over an episode's runs of the collapse routine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollapseSums {
    /// Runs: one per slot.
    pub runs: u64,
    /// Their duration, ns; it includes waiting for `mmu_lock`.
    pub duration: u64,
    /// Changes that they made.
    pub work: Work,
    /// Leaves that guest faults installed in the slots meanwhile; `None` if that was not seen for every run.
    pub race: Option<Race>,
    /// Times they gave up `mmu_lock` to others; `None` if that was not seen for every run.
    pub yields: Option<u64>,
}

impl Episode {
    pub(super) fn new(number: NonZeroU32, start: u64, began_before: bool) -> Self {
        Self {
            number,
            phase: Phase::Logging,
            start,
            began_before,
            slots: BTreeMap::new(),
            splits: 0,
            split: None,
            log_off: None,
            logging_again: false,
            collapse: CollapseSums::default(),
            last_recovery: None,
            longest_recovery: 0,
            end: None,
            regions: RegionCounts::default(),
            cost: if began_before { Err(NoCost::BeganBefore) } else { Ok(EpisodeCost::default()) },
        }
    }

    /// Whether regions that are lost now belong to it.
    pub fn is_losing(&self) -> bool {
        self.phase <= Phase::Collapsing
    }

    /// Returns its outcome, or how it stands.
    pub fn outcome(&self) -> Outcome {
        let regions = &self.regions;
        let small_now = if self.logging_again { 0 } else { regions.small_now() };
        let small = small_now + regions.small_to_the_end;
        match self.phase {
            Phase::Logging | Phase::Collapsing => Outcome::Running,
            _ if regions.lost == 0 && self.began_before => Outcome::Unknown,
            _ if regions.lost == 0 => Outcome::NothingLost,
            _ if regions.recovered == regions.lost => Outcome::Recovered,
            // Small leaves are as it should be while dirty logging is on.
            _ if self.log_off.is_none() => Outcome::Gone,
            _ if small > 0 && regions.recovered == 0 => Outcome::NotRecovered,
            _ if small > 0 => Outcome::Partly,
            _ if regions.recovered > 0 => Outcome::RecoveredTouched,
            _ if regions.outstanding > 0 => Outcome::Untouched,
            _ => Outcome::Gone,
        }
    }

    /// How long dirty logging was on, ns; `None` if its beginning or end was not seen.
    pub fn logging_duration(&self) -> Option<u64> {
        let log_off = self.log_off.filter(|_| !self.began_before)?;
        Some(log_off.saturating_sub(self.start))
    }

    /// The longest that a region took to be huge again from when it could, which is when dirty logging went off for
    /// its slot, or its loss if that was later, ns. `None` unless every region is, and dirty logging is off.
    pub fn recovery_duration(&self) -> Option<u64> {
        let is_over = self.log_off.is_some() && self.outcome() == Outcome::Recovered;
        is_over.then_some(self.longest_recovery)
    }

    pub(super) fn change(&mut self, at: u64, change: &Change) {
        if LeafChange::Split.is(change.transition) {
            self.splits += u64::from(change.count);
            self.split = Some(self.split.map_or((at, at), |(first, last)| (first, last.max(at))));
        }
    }

    pub(super) fn step(&mut self, at: u64, step: Step) {
        self.regions.step(step);
        if let Step::Recovered { took, .. } = step {
            self.last_recovery = self.last_recovery.max(Some(at));
            self.longest_recovery = self.longest_recovery.max(took);
        }
    }

    /// Goes forward to a phase.
    pub(super) fn enter(&mut self, at: u64, phase: Phase) {
        self.phase = self.phase.max(phase);
        if self.phase == Phase::Recovering && self.regions.outstanding == 0 {
            self.phase = Phase::Ended;
        }
        if self.phase == Phase::Ended && self.end.is_none() {
            self.end = Some(at);
        }
    }
}

impl CollapseSums {
    pub(super) fn add(&mut self, span: &CollapseSpan) {
        let first = self.runs == 0;
        self.runs += 1;
        self.duration += span.duration;
        self.work += span.work;
        self.race = sum(first, self.race, span.race);
        self.yields = sum(first, self.yields, span.yields.map(u64::from));
    }
}

/// A sum that is known only if all of its parts are.
fn sum<T: Default + AddAssign>(first: bool, before: Option<T>, more: Option<T>) -> Option<T> {
    let mut sum = if first { T::default() } else { before? };
    sum += more?;
    Some(sum)
}
