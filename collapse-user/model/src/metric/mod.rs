//! Metrics: what is counted of a VM, each declared once, as a row of the [`METRICS`] table. Every
//! output is made from that table.

mod derive;
mod table;

use std::ops::Index;

use collapse_common::{Cause, Counter};
use collapse_feed::{Coverage, Mmu, Signal};

pub use derive::{Breakdown, FirstHalves, LEVELS, LeafChange};
pub use table::{METRICS, MetricId};

use crate::{History, RegionCounts, Regions, Totals, Vm};

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Which row it is.
    pub id: MetricId,
    /// Key in JSON, CSV and lines. Never renamed.
    pub key: &'static str,
    /// Name for people.
    pub label: &'static str,
    /// Title of a narrow column, in at most five columns.
    pub title: &'static str,
    /// Meaning, as part of a sentence.
    pub help: &'static str,
    /// Path to its number, or to what is summed up by it, in a VM's part of the JSON report.
    pub path: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// Unit of its number.
    pub unit: Unit,
    /// Which way it should go from one run to the next; `None` if neither is better by itself.
    pub better: Option<Better>,
    /// Signal without which it is unknown.
    pub needs: Needs,
    /// Subject, for its colour.
    pub tone: Tone,
    /// How much it matters where there is little room.
    pub prominence: Prominence,
    source: Source,
}

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows, and is looked at as a rate.
    Counter,
    /// A number that goes up and down.
    Gauge,
}

/// Unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// SPTEs that map guest memory.
    Leaves,
    /// Regions of 2 MiB.
    Regions,
    /// Guest faults.
    Faults,
    /// Exits of vCPUs.
    Exits,
    /// Waits for a lock.
    Waits,
    /// Time, ns.
    Nanoseconds,
}

impl Unit {
    /// The unit in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leaves => "leaves",
            Self::Regions => "regions",
            Self::Faults => "faults",
            Self::Exits => "exits",
            Self::Waits => "waits",
            Self::Nanoseconds => "ns",
        }
    }
}

/// The direction in which a metric improves.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// Requirement for a metric to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// SPTE changes of the MMU that VMs use.
    Changes,
    /// One signal.
    Signal(Signal),
}

impl Needs {
    /// The signal of its own, if it is not the changes of SPTEs that it needs.
    pub fn own(self) -> Option<Signal> {
        match self {
            Self::Changes => None,
            Self::Signal(signal) => Some(signal),
        }
    }

    /// The signal that it comes to on an MMU.
    pub fn signal(self, mmu: Mmu) -> Signal {
        match self {
            Self::Changes => mmu.essential_signal(),
            Self::Signal(signal) => signal,
        }
    }
}

/// Subject of a metric, by which views choose its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// Small leaves.
    Small,
    /// Huge leaves.
    Huge,
    /// Splits.
    Split,
    /// Zaps.
    Zap,
    /// Guest faults.
    Fault,
}

/// How much a metric matters where there is little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prominence {
    /// Only where every metric is: reports, tables of numbers, traces.
    Reported,
    /// Among the host's rates, too.
    Listed,
    /// With charts and a column of its own, too.
    Charted {
        /// The column's name in settings. Never renamed.
        column: &'static str,
        /// Columns of greater weight go first where there is no room.
        weight: u8,
    },
}

/// Where a metric's number is from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Exact counts of changes to leaves.
    Leaves(LeafChange),
    /// A counter of the kernel side.
    Counter(Counter),
    /// Leaves installed at some levels in regions that had lost their huge leaf.
    Refaults(&'static [u32]),
    /// Regions that got their huge leaf back, however it was.
    Recoveries,
    /// Regions that were small from the start and became huge.
    Gains,
    /// Regions, followed one by one.
    Regions(fn(&RegionCounts) -> u64),
}

impl MetricId {
    /// The row.
    pub fn metric(self) -> &'static Metric {
        &METRICS[self as usize]
    }
}

impl Metric {
    /// Metrics that have charts and columns.
    pub fn charted() -> impl Iterator<Item = &'static Self> {
        METRICS.iter().filter(|metric| matches!(metric.prominence, Prominence::Charted { .. }))
    }

    /// Metrics whose rates are listed, charts or not.
    pub fn listed() -> impl Iterator<Item = &'static Self> {
        METRICS.iter().filter(|metric| metric.prominence != Prominence::Reported)
    }

    /// Metrics that only grow.
    pub fn counters() -> impl Iterator<Item = &'static Self> {
        METRICS.iter().filter(|metric| metric.kind == MetricKind::Counter)
    }

    /// Metrics that go up and down.
    pub fn gauges() -> impl Iterator<Item = &'static Self> {
        METRICS.iter().filter(|metric| metric.kind == MetricKind::Gauge)
    }

    /// The weight of its column: the greater, the earlier it goes where there is no room.
    pub fn weight(&self) -> u8 {
        match self.prominence {
            Prominence::Charted { weight, .. } => weight,
            _ => u8::MAX,
        }
    }

    /// Whether its number is known where `coverage` is what is seen.
    pub fn is_known(&self, coverage: &Coverage) -> bool {
        coverage.sees(self.needs.signal(coverage.mmu))
    }

    /// Whether reports give its number. Counts of SPTE changes they give in any case, as their format
    /// has no null there.
    pub fn is_reported(&self, coverage: &Coverage) -> bool {
        self.needs.own().is_none_or(|signal| coverage.sees(signal))
    }

    /// Whether it counts leaves, and so by level and cause.
    pub fn has_levels(&self) -> bool {
        matches!(self.source, Source::Leaves(_) | Source::Refaults(_))
    }

    /// Returns its leaves by cause and level; `None` if it does not count leaves.
    pub fn breakdown(&self, vm: &Vm) -> Option<Breakdown> {
        match self.source {
            Source::Leaves(change) => Some(vm.totals().breakdown(change)),
            Source::Refaults(levels) => Some(vm.regions.refaults().at(levels)),
            _ => None,
        }
    }

    /// The changes to leaves that it counts. Of recoveries, those in place: the others are installs.
    pub fn leaf_change(&self) -> Option<LeafChange> {
        match self.source {
            Source::Leaves(change) => Some(change),
            Source::Recoveries => Some(LeafChange::Rebuild),
            _ => None,
        }
    }

    /// The kernel side's counter that it is.
    pub fn counter(&self) -> Option<Counter> {
        match self.source {
            Source::Counter(counter) => Some(counter),
            _ => None,
        }
    }

    /// Returns its number for one cause, where it has causes.
    pub fn of_cause(&self, totals: &Totals, cause: Cause) -> Option<u64> {
        let changes = self.leaf_change().map(|change| totals.count_of(change, cause));
        changes.or_else(|| Some(totals.counter_of(cause, self.counter()?)))
    }

    /// Returns its rate between `from` and `to` ns, per second; `None` where that is not known.
    pub fn rate(&self, history: &History, coverage: &Coverage, time: (u64, u64)) -> Option<f64> {
        self.rates(history, coverage, time, 1).pop().flatten()
    }

    /// Returns its rates per second in each of `parts` equal parts of the time between `from` and `to` ns;
    /// `None` where that is not known.
    pub fn rates(
        &self,
        history: &History,
        coverage: &Coverage,
        (from, to): (u64, u64),
        parts: usize,
    ) -> Vec<Option<f64>> {
        if self.is_known(coverage) {
            history.rates(from, to, parts, self.id)
        } else {
            vec![None; parts]
        }
    }

    fn of(&self, totals: &Totals, regions: &Regions) -> u64 {
        match self.source {
            Source::Leaves(change) => totals.count(change),
            Source::Counter(counter) => totals.counter(counter),
            Source::Refaults(levels) => {
                levels.iter().map(|level| regions.refaults().of_level(*level)).sum()
            }
            Source::Recoveries => regions.counts().recovered,
            Source::Gains => regions.became_huge().values().sum(),
            Source::Regions(of) => of(&regions.counts()),
        }
    }
}

/// The number of every metric, since watching began. Those that are not seen are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Values([u64; METRICS.len()]);

impl Index<MetricId> for Values {
    type Output = u64;

    fn index(&self, metric: MetricId) -> &u64 {
        &self.0[metric as usize]
    }
}

impl Values {
    /// The numbers that totals and regions come to.
    pub(crate) fn of(totals: &Totals, regions: &Regions) -> Self {
        Self(std::array::from_fn(|at| METRICS[at].of(totals, regions)))
    }

    /// These numbers and others.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        self.with(more, |_, n, more| n.saturating_add(more))
    }

    /// The growth of counters since `earlier`; gauges as they are.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, |kind, n, earlier| match kind {
            MetricKind::Counter => n.saturating_sub(earlier),
            MetricKind::Gauge => n,
        })
    }

    /// One value for two times: where counters stood later, and the higher of what gauges showed.
    #[must_use]
    pub(crate) fn merged(self, later: Self) -> Self {
        self.with(later, |kind, n, later| match kind {
            MetricKind::Counter => later,
            MetricKind::Gauge => n.max(later),
        })
    }

    /// The counters alone, gauges at zero.
    #[must_use]
    pub(crate) fn counters(self) -> Self {
        self.with(Self::default(), |kind, n, _| match kind {
            MetricKind::Counter => n,
            MetricKind::Gauge => 0,
        })
    }

    /// These numbers, but for one metric.
    #[must_use]
    pub fn but(mut self, metric: MetricId, n: u64) -> Self {
        self.0[metric as usize] = n;
        self
    }

    fn with(self, other: Self, each: impl Fn(MetricKind, u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| each(METRICS[at].kind, self.0[at], other.0[at])))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_where_their_ids_point() {
        assert!(METRICS.iter().enumerate().all(|(at, metric)| metric.id as usize == at));
    }

    #[test]
    fn names_are_unique_and_short() {
        let unique = |name: fn(&Metric) -> &str| {
            METRICS.iter().map(name).collect::<BTreeSet<_>>().len() == METRICS.len()
        };
        assert!(unique(|metric| metric.key) && unique(|metric| metric.label));
        assert!(unique(|metric| metric.title) && unique(|metric| metric.path));
        assert!(METRICS.iter().all(|metric| metric.title.len() <= 5), "columns are narrow");
        assert!(Metric::listed().all(|metric| metric.help.len() <= 38), "help has two columns");
        let columns = Metric::charted().map(|metric| match metric.prominence {
            Prominence::Charted { column, .. } => column,
            _ => "",
        });
        let columns: Vec<_> = columns.collect();
        assert_eq!(columns.iter().collect::<BTreeSet<_>>().len(), columns.len());
    }

    #[test]
    fn only_counters_have_rates() {
        assert!(Metric::listed().all(|metric| metric.kind == MetricKind::Counter));
    }

    #[test]
    fn gauges_are_no_sums_over_time() {
        let value = |splits, outstanding| {
            Values::default().but(MetricId::Splits, splits).but(MetricId::Outstanding, outstanding)
        };
        assert_eq!(value(9, 3).since(value(4, 8)), value(5, 3));
        assert_eq!(value(4, 8).merged(value(9, 3)), value(9, 8));
        assert_eq!(value(9, 3).counters(), value(9, 0));
        assert_eq!(value(9, 3).plus(value(1, 1)), value(10, 4));
    }
}
