//! Histograms in octaves.

use collapse_model::Histogram;

use crate::family::Value;

/// Octaves of a histogram's buckets, by powers of two ns: each bucket ends at twice the one before. The model
/// has two buckets per octave, so that no count is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octaves {
    /// Upper bound of the first bucket, as a power of two.
    pub first: u32,
    /// Upper bound of the last bucket but the one without a bound.
    pub last: u32,
}

/// Guest faults: from half a microsecond to four seconds.
pub(crate) const FAULTS: Octaves = Octaves { first: 9, last: 32 };

/// What takes a system call or a migration: from an eighth of a millisecond to some five minutes.
pub(crate) const OPERATIONS: Octaves = Octaves { first: 17, last: 38 };

impl Octaves {
    /// Upper bounds, in seconds.
    pub fn bounds(self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| (1_u64 << power) as f64 / 1e9)
    }

    /// A histogram in these octaves. Its sum is not a number where it is not known.
    pub(crate) fn of(self, histogram: &Histogram) -> Value {
        let mut counts = vec![0; (self.last - self.first) as usize + 2];
        for (low, n) in histogram.buckets() {
            // A bucket that begins at 2^k is below 2^(k+1).
            let end = low.checked_ilog2().map_or(0, |power| power + 1);
            let place = end.clamp(self.first, self.last + 1) - self.first;
            counts[place as usize] += n;
        }
        let sum = histogram.sum().map_or(f64::NAN, |ns| ns as f64 / 1e9);
        let bounds = self.bounds().chain([f64::INFINITY]);
        Value::Histogram { sum, count: histogram.count(), buckets: bounds.zip(counts).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every duration is in the first bucket whose bound it is below.
        #[test]
        fn durations_are_below_their_bound(ns in prop::collection::vec(0_u64..1 << 40, 1..50)) {
            for octaves in [FAULTS, OPERATIONS] {
                let mut histogram = Histogram::default();
                for ns in &ns {
                    histogram.add(*ns);
                }
                let Value::Histogram { sum, count, buckets } = octaves.of(&histogram) else {
                    unreachable!("a histogram was asked for");
                };
                prop_assert_eq!(count, ns.len() as u64);
                let all = ns.iter().sum::<u64>() as f64 / 1e9;
                prop_assert!((sum - all).abs() < 1e-9);
                let mut below = 0;
                for (bound, n) in buckets {
                    below += n;
                    // The model's last bucket begins at 275 s and has no end.
                    let all = ns.iter().filter(|ns| (**ns as f64) < bound * 1e9).count() as u64;
                    prop_assert_eq!(below, all);
                }
            }
        }
    }
}
