//! Durations by half octave.

use collapse_common::latency::{BUCKETS, bucket, lower_bound};

/// A histogram of durations in ns, over the buckets of [`collapse_common::latency`]: two per octave
/// from 128 ns on, the first for all below, the last (from 275 s on) without an upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum: Option<u64>,
    /// Bounds of what is in it.
    bounds: Option<(u64, u64)>,
    /// Whether the bounds are durations in it: every one was added by itself.
    exact: bool,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: Some(0), bounds: None, exact: true }
    }
}

impl Histogram {
    /// A histogram of which only the buckets are known, and perhaps the sum of its durations, ns.
    /// The shortest and the longest duration are then bounds of buckets.
    pub fn from_buckets(buckets: &[u64; BUCKETS], sum: Option<u64>) -> Self {
        let first = buckets.iter().position(|n| *n > 0);
        let last = buckets.iter().rposition(|n| *n > 0);
        let bounds = first.zip(last).map(|(first, last)| (lower_bound(first), end(last)));
        let sum = if bounds.is_none() { Some(0) } else { sum };
        Self { buckets: *buckets, sum, bounds, exact: bounds.is_none() }
    }

    /// Adds a duration, ns.
    pub fn add(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.sum = self.sum.map(|sum| sum.saturating_add(ns));
        self.bounds = Some(self.bounds.map_or((ns, ns), |(min, max)| (min.min(ns), max.max(ns))));
    }

    /// Adds all that another histogram holds.
    pub fn merge(&mut self, other: &Self) {
        for (n, more) in self.buckets.iter_mut().zip(other.buckets) {
            *n += more;
        }
        self.sum = self.sum.zip(other.sum).map(|(sum, more)| sum.saturating_add(more));
        self.exact &= other.exact;
        self.bounds = match (self.bounds, other.bounds) {
            (Some(ours), Some(theirs)) => Some((ours.0.min(theirs.0), ours.1.max(theirs.1))),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum, ns; `None` if unknown.
    pub fn sum(&self) -> Option<u64> {
        self.sum
    }

    /// Their mean, ns; `None` if the sum is unknown or there is none.
    pub fn mean(&self) -> Option<u64> {
        self.sum?.checked_div(self.count())
    }

    /// The shortest, or the lower bound of its bucket, ns; `None` if there is none.
    pub fn min(&self) -> Option<u64> {
        self.bounds.map(|(min, _)| min)
    }

    /// The longest, or the upper bound of its bucket, ns; `None` if there is none. What is in the
    /// last bucket may be longer.
    pub fn max(&self) -> Option<u64> {
        self.bounds.map(|(_, max)| max)
    }

    /// Whether the shortest and the longest are durations in it, rather than bounds of their buckets.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The duration, ns, that a share `p` (0 to 1) of them does not exceed; `None` if there is none.
    ///
    /// Exact to within its bucket, so wrong by less than half of the true value (from 128 ns on, and
    /// up to 275 s where the longest is not exact), and never outside the shortest and the longest.
    pub fn quantile(&self, p: f64) -> Option<u64> {
        let (min, max) = self.bounds?;
        let rank = (p.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut before = 0;
        for (at, n) in self.buckets.iter().enumerate() {
            if before + n >= rank {
                let low = lower_bound(at).max(min);
                let high = if at == BUCKETS - 1 { max } else { end(at).min(max) };
                // The durations of a bucket are taken to be spread evenly over it.
                let width = u128::from(high.saturating_sub(low));
                let into = width * u128::from(rank - before) / u128::from(*n);
                return Some((low + into as u64).clamp(min, max));
            }
            before += n;
        }
        Some(max)
    }

    /// A bound of the sum of their squares, ns²: none is longer than its bucket, or than the longest.
    pub(crate) fn squares_at_most(&self) -> f64 {
        let longest = self.max().unwrap_or_default();
        let square = |(at, n): (usize, &u64)| {
            let most = if at == BUCKETS - 1 { longest } else { end(at).min(longest) };
            *n as f64 * (most as f64).powi(2)
        };
        self.buckets.iter().enumerate().map(square).sum()
    }

    /// Buckets that hold any: lower bound, ns, and count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        buckets.map(|(at, n)| (lower_bound(at), *n))
    }
}

/// The longest duration of a bucket, ns; the shortest of the last one, which has no end.
fn end(at: usize) -> u64 {
    if at == BUCKETS - 1 { lower_bound(at) } else { lower_bound(at + 1) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for ns in durations {
            histogram.add(*ns);
        }
        histogram
    }

    #[test]
    fn nothing_has_no_quantiles() {
        let none = Histogram::default();
        assert_eq!((none.count(), none.quantile(0.5), none.mean()), (0, None, None));
        assert_eq!((none.min(), none.max(), none.sum()), (None, None, Some(0)));
        assert_eq!(Histogram::from_buckets(&[0; BUCKETS], None), none);
    }

    #[test]
    fn one_duration_is_every_quantile() {
        let one = of(&[5_000]);
        assert_eq!([0.0, 0.5, 1.0].map(|p| one.quantile(p)), [Some(5_000); 3]);
    }

    #[test]
    fn hours_are_bounded_by_the_longest() {
        let hours = of(&[3_600_000_000_000, 7_200_000_000_000]);
        assert_eq!(hours.quantile(1.0), Some(7_200_000_000_000));
        assert!(hours.quantile(0.5) >= hours.min());
    }

    #[test]
    fn what_the_kernel_counted_is_known_by_its_buckets() {
        let mut buckets = [0; BUCKETS];
        buckets[bucket(1_000)] = 3;
        buckets[bucket(9_000)] = 1;
        let histogram = Histogram::from_buckets(&buckets, Some(12_000));
        assert_eq!((histogram.count(), histogram.mean()), (4, Some(3_000)));
        assert_eq!((histogram.min(), histogram.max()), (Some(768), Some(12_287)));
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(768, 3), (8_192, 1)]);
        // Bounds are no durations, and no more are those of a sum with them in it.
        let mut all = of(&[5_000]);
        assert!(all.is_exact() && !histogram.is_exact());
        all.merge(&histogram);
        assert!(!all.is_exact());
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((0u32..64, any::<u64>()).prop_map(|(shift, ns)| ns >> shift), 1..80)
    }

    proptest! {
        /// A quantile is within the bucket of the true one, and so within half of it.
        #[test]
        fn quantiles_are_as_precise_as_promised(
            mut durations in prop::collection::vec(128u64..200_000_000_000, 1..80), p in 0.0f64..=1.0,
        ) {
            let histogram = of(&durations);
            durations.sort_unstable();
            let rank = (p * durations.len() as f64).ceil().max(1.0) as usize;
            let (exact, found) = (durations[rank - 1], histogram.quantile(p).unwrap());
            prop_assert_eq!(bucket(found), bucket(exact));
            prop_assert!(found.abs_diff(exact) * 2 <= exact);
        }

        /// Quantiles never decrease, and end at the longest.
        #[test]
        fn quantiles_are_in_order(durations in durations(), p in 0.0f64..=1.0, q in 0.0f64..=1.0) {
            let histogram = of(&durations);
            let (low, high) = if p < q { (p, q) } else { (q, p) };
            prop_assert!(histogram.quantile(low) <= histogram.quantile(high));
            prop_assert_eq!(histogram.quantile(1.0), histogram.max());
        }

        /// Two merged are one of all.
        #[test]
        fn merging_is_adding(left in durations(), right in durations()) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(merged, of(&[left, right].concat()));
        }
    }
}
