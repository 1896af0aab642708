//! How well the vCPU time that was lost to faults is known, where one fault in N is timed.

/// vCPU time that faults took, timed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallEstimate {
    /// Estimate of all of it, ns.
    pub total: u64,
    /// Its standard error, ns; 0 if every fault is timed.
    pub error: u64,
    /// Faults that spanned two ticks of the kernel's clock or more. Each is counted, so that they add nothing
    /// to the error. 0 in recordings of versions that did not tell them from others.
    pub long: u64,
    /// Part of `total` that these took, ns.
    pub long_ns: u64,
}

impl StallEstimate {
    /// The time, ns, that is exceeded in one of some 40 runs only: two errors above the estimate.
    pub fn upper(&self) -> u64 {
        self.total.saturating_add(self.error.saturating_mul(2))
    }
}

/// The standard error, ns, of the sum over all faults that is N times the sum over the timed ones: of `timed`
/// faults, `sum` is the time in ns and `squares` the sum of the squared times, ns². 0 if all are timed.
///
/// Which faults are timed has nothing to do with how long they take, so that they are a random sample: the
/// variance of the estimate is N² · n · s² · (1 − 1/N), where s² is the variance among the n timed ones. A single
/// one has none, and its whole time is taken for its deviation.
pub(crate) fn standard_error(timed: u64, sum: u64, squares: f64, one_in: u32) -> f64 {
    let (n, sum, one_in) = (timed as f64, sum as f64, f64::from(one_in.max(1)));
    let deviations = match timed {
        0 => return 0.0,
        1 => sum * sum,
        _ => (squares - sum * sum / n).max(0.0) * n / (n - 1.0),
    };
    one_in * (deviations * (1.0 - 1.0 / one_in)).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64], one_in: u32) -> f64 {
        let squares = times.iter().map(|ns| (*ns as f64).powi(2)).sum();
        standard_error(times.len() as u64, times.iter().sum(), squares, one_in)
    }

    #[test]
    fn even_times_leave_little_doubt_and_odd_ones_much() {
        let none = [of(&[], 128), of(&[1_000; 50], 128), of(&[1_000, 90_000, 7], 1)];
        assert!(none.iter().all(|error| error.abs() < 1e-6), "{none:?}");
        let mut times = vec![10_000; 127];
        times.push(12_600_000);
        // One fault of 12.6 ms stands for 1.6 s, and for as much of doubt.
        let (error, total) = (of(&times, 128), times.iter().sum::<u64>() as f64 * 128.0);
        assert!(error / total > 0.9 && error / total < 1.0, "{error} of {total}");
        let single = of(&[5_000], 128);
        assert!((single / (5_000.0 * 128.0) - 1.0).abs() < 0.01, "{single}");
    }

    proptest! {
        /// Of as many samples as one likes, some two thirds are within the error: here of faults of two
        /// kinds, and of samples that take each one in ten by chance.
        #[test]
        fn the_truth_is_within_a_few_errors(seed: u64) {
            let mut state = seed | 1;
            let mut random = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let times: Vec<u64> = (0..20_000)
                .map(|_| if random() % 20 == 0 { 40_000 + random() % 9_000 } else { 3_000 + random() % 900 })
                .collect();
            let truth: u64 = times.iter().sum();
            let sample: Vec<u64> = times.chunks(10).map(|ten| ten[random() as usize % ten.len()]).collect();
            let estimate = sample.iter().sum::<u64>() * 10;
            let off = estimate.abs_diff(truth) as f64;
            prop_assert!(off < 5.0 * of(&sample, 10), "{off} at an error of {}", of(&sample, 10));
        }
    }
}
