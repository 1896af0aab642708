//! The input of one frame: the model at one time, and how to show it.

use collapse_common::abi::Pages;

use super::{
    notices::Notices,
    options::DashboardOptions,
    spots::Spots,
    theme::{Role, Theme},
};
use collapse_feed::{Coverage, Machine};
use collapse_model::{
    MetricId, Model, Outcome, Phase, RegionCounts, Standing, Vm, metric::Values, player::Track,
    wording::narrow,
};

/// Machine and title that the first line names.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// Name and kernel of the machine.
    pub machine: Machine,
    /// Title given by the user, shown instead of the machine's name.
    pub title: Option<String>,
}

/// The input of one frame.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The model at the latest reading, or when the display was paused.
    pub model: &'a Model,
    /// Signals that are observed, and why others are not.
    pub coverage: &'a Coverage,
    /// Machine and title for the first line.
    pub heading: &'a Heading,
    /// Time shown, `CLOCK_MONOTONIC` ns: that of the latest reading or an earlier one.
    pub at: u64,
    /// Time between refreshes, ns.
    pub step: u64,
    /// Time that charts span, ns.
    pub span: u64,
    /// Colours and characters that the terminal shows.
    pub theme: Theme,
    /// Options of the user.
    pub options: &'a DashboardOptions,
    /// Click targets, added by views as they draw.
    pub spots: &'a Spots,
    /// Position in the recording; `None` if a running kernel is watched.
    pub track: Option<Track<'a>>,
    /// CPU time that this program takes, as a part of one core; `None` until measured.
    pub load: Option<f64>,
    /// Diagnostics of the program itself.
    pub notices: &'a Notices,
    /// Number of notices that the user has not looked at.
    pub unread: u64,
}

impl Scene<'_> {
    /// Start and end of charts with this many columns, ns: multiples of a column's time since boot,
    /// so that values do not move from column to column between frames.
    pub fn time(&self, columns: usize) -> (u64, u64) {
        let part = (self.span / columns.max(1) as u64).max(1);
        let to = self.at - self.at % part;
        (to.saturating_sub(part * columns as u64), to)
    }

    /// The time since the refresh before the time shown, ns.
    pub fn latest(&self) -> (u64, u64) {
        (self.at.saturating_sub(self.step), self.at)
    }

    /// Step through time, ns: a tenth of what charts span, but at least one reading.
    pub fn stride(&self) -> u64 {
        (self.span / 10).max(self.step)
    }

    /// Time from `at` to the time shown, ns; 0 if `at` is later.
    pub fn ago(&self, at: u64) -> u64 {
        self.at.saturating_sub(at)
    }

    /// Text for a frame without VMs.
    pub fn nothing(&self) -> &'static str {
        if self.track.is_some() {
            "No VM at this time of the recording."
        } else {
            "No VMs yet. A VM appears here when it starts."
        }
    }

    /// Whether the time shown is before the latest reading.
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

    /// Region counts of a VM at the time shown; `None` before its first reading.
    pub fn region_totals(&self, vm: &Vm) -> Option<RegionTotals> {
        if self.is_past() {
            let values = vm.history.until(self.at)?.values;
            return Some(RegionTotals::then(&values));
        }
        Some(RegionTotals::now(&vm.regions.counts(), vm.logging && !vm.gone))
    }
}

/// Regions that lost their huge leaf, and what became of them.
#[derive(Clone, Copy, Debug)]
pub struct RegionTotals {
    /// Regions that lost their huge leaf.
    pub lost: u64,
    /// Lost regions that are huge again.
    pub recovered: u64,
    /// Lost regions that are not huge again.
    pub outstanding: u64,
    /// Lost regions that could come back: they were not taken away before.
    pub could_return: u64,
    /// Of those, how many were touched since, if all of the others are neither touched nor mapped.
    pub touched: Option<u64>,
    /// How they fared.
    pub standing: Standing,
}

impl RegionTotals {
    fn now(counts: &RegionCounts, logging: bool) -> Self {
        Self {
            lost: counts.lost,
            recovered: counts.recovered,
            outstanding: counts.outstanding,
            could_return: counts.could_return(),
            touched: (counts.small_now() == 0).then(|| counts.touched()),
            standing: counts.standing(logging),
        }
    }

    /// As they were at an earlier time, of which it is not known how they were mapped.
    fn then(values: &Values) -> Self {
        let [lost, recovered, outstanding, gone, small] = [
            MetricId::Lost,
            MetricId::Recovered,
            MetricId::Outstanding,
            MetricId::Gone,
            MetricId::SmallToTheEnd,
        ]
        .map(|metric| values[metric]);
        let standing = match (small, outstanding, recovered) {
            (1.., _, _) => Standing::Bad,
            (0, 1.., _) => Standing::Waiting,
            (0, 0, 1..) => Standing::Good,
            (0, 0, 0) => Standing::Unaffected,
        };
        let could_return = lost.saturating_sub(gone);
        Self { lost, recovered, outstanding, could_return, touched: None, standing }
    }
}

/// Colour of how regions fared.
pub fn fared(standing: Standing) -> Role {
    match standing {
        Standing::Unaffected => Role::Dim,
        Standing::Good => Role::Good,
        Standing::Waiting => Role::Warn,
        Standing::Bad => Role::Bad,
    }
}

/// Name of a VM, or a text that stands for an unknown one.
pub fn name(vm: &Vm) -> &str {
    vm.name()
}

/// Name and colour of an episode's phase.
pub fn phase(phase: Phase) -> (&'static str, Role) {
    match phase {
        Phase::Logging => ("logging", Role::Split),
        Phase::Collapsing => ("collapsing", Role::Zap),
        Phase::Recovering => ("recovering", Role::Good),
        Phase::Ended => ("ended", Role::Dim),
    }
}

/// Name and colour of an episode's outcome.
pub fn outcome(outcome: Outcome) -> (&'static str, Role) {
    let role = match outcome {
        Outcome::Running => Role::Text,
        Outcome::NothingLost | Outcome::Recovered | Outcome::RecoveredTouched => Role::Good,
        Outcome::Partly => Role::Warn,
        Outcome::NotRecovered => Role::Bad,
        Outcome::Unknown | Outcome::Untouched | Outcome::Gone => Role::Dim,
    };
    (narrow::outcome(outcome), role)
}
