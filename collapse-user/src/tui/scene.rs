//! What a frame shows: the model at one time, and how to look at it.

use collapse_common::abi::Pages;

use super::{
    notices::Notices,
    options::Options,
    spots::Spots,
    theme::{Role, Theme},
};
use collapse_feed::{Coverage, Machine};
use collapse_model::{Model, Outcome, Phase, Vm, player::Track};

/// The machine, as the first line tells it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name and kernel.
    pub machine: Machine,
    /// What the user calls what is shown, instead of the machine's name.
    pub title: Option<String>,
}

/// What a frame shows.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// Everything known, or everything that was when the view was frozen.
    pub model: &'a Model,
    /// What is seen.
    pub coverage: &'a Coverage,
    /// The machine.
    pub facts: &'a Facts,
    /// The time shown, `CLOCK_MONOTONIC` ns: that of the last reading, or one before.
    pub at: u64,
    /// Time between refreshes, ns.
    pub step: u64,
    /// Length of the time that charts show, ns.
    pub span: u64,
    /// What the terminal can show.
    pub theme: Theme,
    /// What the user set.
    pub options: &'a Options,
    /// Where views tell what the mouse does.
    pub spots: &'a Spots,
    /// The recording that is played, if it is one.
    pub track: Option<Track<'a>>,
    /// The part of a core that this program takes, once known.
    pub load: Option<f64>,
    /// Diagnostics of the program itself.
    pub notices: &'a Notices,
    /// The number of them that the user has not looked at.
    pub unread: u64,
}

impl Scene<'_> {
    /// The time that charts of so many columns show, ns: whole columns since boot, so that nothing
    /// flickers as time goes on.
    pub fn time(&self, columns: usize) -> (u64, u64) {
        let part = (self.span / columns.max(1) as u64).max(1);
        let to = self.at - self.at % part;
        (to.saturating_sub(part * columns as u64), to)
    }

    /// How far one goes in time at once, ns: a tenth of what charts show, but at least one reading.
    pub fn stride(&self) -> u64 {
        (self.span / 10).max(self.step)
    }

    /// How long ago something was, ns.
    pub fn ago(&self, at: u64) -> u64 {
        self.at.saturating_sub(at)
    }

    /// Why there is nothing to show.
    pub fn nothing(&self) -> &'static str {
        if self.track.is_some() {
            "No VM at this time of the recording."
        } else {
            "No VM yet: start one, and it appears here."
        }
    }

    /// Whether it shows another time than the last reading.
    pub fn is_past(&self) -> bool {
        self.at < self.model.now
    }

    /// Mappings of a VM at the time shown; `None` if unknown.
    pub fn pages(&self, vm: &Vm) -> Option<Pages> {
        if self.is_past() {
            vm.history.until(self.at).and_then(|sample| sample.pages)
        } else {
            vm.pages()
        }
    }

    /// What had become of a VM's regions at the time shown; `None` before the first reading.
    pub fn region_totals(&self, vm: &Vm) -> Option<RegionTotals> {
        if self.is_past() {
            let sample = vm.history.until(self.at)?;
            let (lost, recovered) = (sample.flows.lost, sample.flows.recovered);
            return Some(RegionTotals { lost, recovered, outstanding: sample.outstanding });
        }
        let counts = vm.regions.counts();
        let (lost, recovered) = (counts.lost, counts.recovered);
        Some(RegionTotals { lost, recovered, outstanding: counts.outstanding })
    }
}

/// What became of regions.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegionTotals {
    /// Regions that lost their huge leaf.
    pub lost: u64,
    /// Of those, the ones that are huge again.
    pub recovered: u64,
    /// Of those, the ones that are not.
    pub outstanding: u64,
}

/// A VM's name, as far as it is known.
pub fn name(vm: &Vm) -> &str {
    vm.process.as_ref().map_or("VM of unknown process", |process| &process.name.text)
}

/// How far an episode is, in words, and its colour.
pub fn phase(phase: Phase) -> (&'static str, Role) {
    match phase {
        Phase::Logging => ("logging", Role::Split),
        Phase::Collapsing => ("collapsing", Role::Zap),
        Phase::Recovering => ("recovering", Role::Good),
        Phase::Ended => ("ended", Role::Dim),
    }
}

/// What an episode came to, in words, and its colour.
pub fn outcome(outcome: Outcome) -> (&'static str, Role) {
    match outcome {
        Outcome::Running => ("running", Role::Text),
        Outcome::NothingLost => ("nothing lost", Role::Good),
        Outcome::Unknown => ("unknown", Role::Dim),
        Outcome::Recovered => ("recovered", Role::Good),
        Outcome::Partly => ("partly", Role::Warn),
        Outcome::NotRecovered => ("not recovered", Role::Bad),
        Outcome::Untouched => ("untouched", Role::Dim),
        Outcome::Gone => ("gone", Role::Dim),
    }
}
