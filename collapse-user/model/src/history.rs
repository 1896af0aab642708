//! How a VM, or the host, did over time.

use std::collections::VecDeque;

use collapse_common::abi::Pages;

use super::metric::{MetricId, Values};

/// Samples kept at each resolution.
pub const KEPT: usize = 480;

/// Samples merged into one of the next coarser resolution.
pub const MERGED: usize = 8;

/// Resolutions. At one reading a second: every second of the latest 8 minutes, 8 seconds for another
/// hour, 64 seconds for 8 hours, and 8.5 minutes for almost three days.
const TIERS: usize = 4;

/// Where a VM, or the host, stood at one reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sample {
    /// `CLOCK_MONOTONIC` ns of the reading.
    pub at: u64,
    /// KVM's gauges; `None` where this kernel has none.
    pub pages: Option<Pages>,
    /// Counts until then; gauges as at this reading, or at the one merged into it that had the most.
    pub values: Values,
    /// Whether dirty logging was on at this reading, or at one that was merged into it.
    pub logging: bool,
}

impl Sample {
    /// One sample in place of this one and a later one.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        Self {
            values: self.values.merged(later.values),
            logging: self.logging || later.logging,
            ..later
        }
    }
}

/// Samples over time, of bounded number: the older, the coarser. [`KEPT`] are kept at each resolution;
/// of what is older, every [`MERGED`] become one, and the oldest of the coarsest fall off.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By resolution, finest first; each oldest first.
    tiers: [VecDeque<Sample>; TIERS],
}

impl History {
    /// Takes a sample later than all before. Returns what was counted since the one before.
    pub fn push(&mut self, sample: Sample) -> Values {
        let before = self.last().map(|last| last.values).unwrap_or_default();
        self.tiers[0].push_back(sample);
        for tier in 0..TIERS {
            if self.tiers[tier].len() < KEPT + MERGED {
                break;
            }
            let merged = self.tiers[tier].drain(..MERGED).reduce(Sample::merged);
            if let (Some(coarser), Some(merged)) = (self.tiers.get_mut(tier + 1), merged) {
                coarser.push_back(merged);
            }
        }
        sample.values.since(before)
    }

    /// Forgets samples from before `at` ns.
    pub fn forget(&mut self, at: u64) {
        for tier in self.tiers.iter_mut().rev() {
            tier.drain(..tier.partition_point(|sample| sample.at < at));
        }
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.tiers.iter().rev().flatten()
    }

    /// The oldest sample.
    pub fn first(&self) -> Option<&Sample> {
        self.samples().next()
    }

    /// The latest sample.
    pub fn last(&self) -> Option<&Sample> {
        self.samples().next_back()
    }

    /// The latest sample at `at` ns or before.
    pub fn until(&self, at: u64) -> Option<&Sample> {
        self.tiers.iter().find_map(|tier| {
            let after = tier.partition_point(|sample| sample.at <= at);
            tier.get(after.checked_sub(1)?)
        })
    }

    /// The earliest sample after `at` ns.
    fn after(&self, at: u64) -> Option<&Sample> {
        self.tiers
            .iter()
            .rev()
            .find_map(|tier| tier.get(tier.partition_point(|sample| sample.at <= at)))
    }

    /// How much a metric grew per second in each of `parts` equal parts of the time between `from` and `to`
    /// ns; `None` where that is not known. Between samples, counts are taken to grow evenly.
    pub fn rates(&self, from: u64, to: u64, parts: usize, metric: MetricId) -> Vec<Option<f64>> {
        let seconds = to.saturating_sub(from) as f64 / parts as f64 / 1e9;
        let counts: Vec<_> = borders(from, to, parts).map(|at| self.count_at(at, metric)).collect();
        let rate = |pair: &[Option<f64>]| {
            let (before, after) = pair[0].zip(pair[1]).filter(|_| seconds > 0.0)?;
            Some((after - before) / seconds)
        };
        counts.windows(2).map(rate).collect()
    }

    /// The sample that each of `parts` equal parts of the time between `from` and `to` ns ends with;
    /// `None` before the first and after the last.
    pub fn gauges(&self, from: u64, to: u64, parts: usize) -> Vec<Option<&Sample>> {
        let end = self.last().map_or(0, |last| last.at);
        let pairs = borders(from, to, parts).zip(borders(from, to, parts).skip(1));
        pairs.map(|(from, to)| self.until(to).filter(|_| from <= end)).collect()
    }

    fn count_at(&self, at: u64, metric: MetricId) -> Option<f64> {
        let before = self.until(at)?;
        let count = before.values[metric] as f64;
        let Some(after) = self.after(at) else { return (before.at == at).then_some(count) };
        let share = (at - before.at) as f64 / (after.at - before.at) as f64;
        Some(count + (after.values[metric] as f64 - count) * share)
    }
}

/// Where `parts` equal parts of a time begin and end.
fn borders(from: u64, to: u64, parts: usize) -> impl Iterator<Item = u64> {
    let length = u128::from(to.saturating_sub(from));
    (0..=parts).map(move |part| from + (length * part as u128 / parts.max(1) as u128) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn sample(second: u64) -> Sample {
        let values = Values::default().but(MetricId::Splits, second * 10);
        Sample { at: second * S, values, ..Sample::default() }
    }

    fn seconds(count: u64) -> History {
        let mut history = History::default();
        for second in 1..=count {
            history.push(sample(second));
        }
        history
    }

    #[test]
    fn a_day_fits() {
        let history = seconds(86_400);
        let first = history.first().unwrap();
        assert!(first.at <= 600 * S, "{first:?}");
        assert_eq!(history.last().unwrap().at, 86_400 * S);
        assert!(history.samples().count() <= TIERS * (KEPT + MERGED));
    }

    #[test]
    fn the_oldest_falls_off() {
        let history = seconds(400_000);
        assert!(history.first().unwrap().at > S);
        assert!(history.samples().count() <= TIERS * (KEPT + MERGED));
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut history = seconds(5_000);
        history.forget(4_000 * S);
        let first = history.first().unwrap().at;
        assert!((4_000 * S..4_010 * S).contains(&first), "{first}");
        assert_eq!(history.last().unwrap().at, 5_000 * S);
        history.forget(9_000 * S);
        assert_eq!(history.samples().count(), 0);
    }

    #[test]
    fn a_push_tells_what_is_new() {
        let mut history = History::default();
        assert_eq!(history.push(sample(3))[MetricId::Splits], 30);
        assert_eq!(history.push(sample(5))[MetricId::Splits], 20);
    }

    #[test]
    fn merging_forgets_no_peak() {
        let mut history = History::default();
        let values = Values::default().but(MetricId::Outstanding, 32);
        history.push(Sample { values, logging: true, ..sample(1) });
        for second in 2..1_000 {
            history.push(sample(second));
        }
        let first = history.first().unwrap();
        let outstanding = first.values[MetricId::Outstanding];
        assert_eq!((first.at, outstanding, first.logging), (8 * S, 32, true));
    }

    #[test]
    fn rates_are_per_second_at_every_resolution() {
        let history = seconds(5_000);
        for (from, to) in [(4_900, 5_000), (100, 5_000), (64, 900)] {
            for rate in history.rates(from * S, to * S, 40, MetricId::Splits) {
                assert!((rate.unwrap() - 10.0).abs() < 1e-6, "{rate:?} from {from} to {to}");
            }
        }
    }

    #[test]
    fn what_was_not_watched_is_unknown() {
        let mut history = History::default();
        history.push(sample(10));
        history.push(sample(20));
        let rates = history.rates(0, 20 * S, 4, MetricId::Splits);
        assert_eq!(rates, [None, None, Some(10.0), Some(10.0)]);
        let gauges = history.gauges(0, 40 * S, 4);
        let at: Vec<_> = gauges.iter().map(|sample| sample.map(|sample| sample.at / S)).collect();
        assert_eq!(at, [Some(10), Some(20), Some(20), None]);
    }

    proptest! {
        /// Whatever the times, samples stay in order, and no part is counted twice.
        #[test]
        fn parts_add_up(steps in prop::collection::vec(1u64..5_000_000_000, 2..3_000), parts in 1usize..90) {
            let mut history = History::default();
            let mut at = 0;
            for step in steps {
                at += step;
                let values = Values::default().but(MetricId::Splits, at / 1_000);
                history.push(Sample { at, values, ..Sample::default() });
            }
            let samples: Vec<_> = history.samples().collect();
            prop_assert!(samples.is_sorted_by(|a, b| a.at < b.at));
            let (first, last) = (samples[0], samples[samples.len() - 1]);
            let rates = history.rates(first.at, last.at, parts, MetricId::Splits);
            let seconds = (last.at - first.at) as f64 / parts as f64 / 1e9;
            let sum: f64 = rates.iter().flatten().map(|rate| rate * seconds).sum();
            let exact = last.values.since(first.values)[MetricId::Splits] as f64;
            prop_assert!((sum - exact).abs() <= exact * 1e-6 + 1e-3, "{sum} {exact}");
        }
    }
}
