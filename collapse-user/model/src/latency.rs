//! How long guest faults kept vCPUs from their guest.

use std::collections::BTreeMap;

use collapse_common::{
    Cause,
    latency::{BUCKETS, Latencies, Outcome},
};

use super::histogram::Histogram;

/// Latencies of one VM's guest faults since attaching, by cause and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultLatencies {
    rows: BTreeMap<Cause, Box<Latencies>>,
}

impl FaultLatencies {
    /// Replaces the latencies of one cause by newer ones.
    pub fn set(&mut self, cause: Cause, latencies: Box<Latencies>) {
        self.rows.insert(cause, latencies);
    }

    /// These latencies without `earlier` ones.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rows = self.rows.clone();
        for (cause, row) in &mut rows {
            let Some(before) = earlier.rows.get(cause) else { continue };
            for (n, before) in row.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
                *n = n.saturating_sub(*before);
            }
        }
        Self { rows }
    }

    /// Causes with any fault in them.
    pub fn causes(&self) -> impl Iterator<Item = Cause> {
        let faulted = |row: &Latencies| row.as_flattened().iter().any(|n| *n > 0);
        self.rows.iter().filter(move |(_, row)| faulted(row)).map(|(cause, _)| *cause)
    }

    /// How many faults of one cause came to `outcome`.
    pub fn count(&self, cause: Cause, outcome: Outcome) -> u64 {
        self.rows.get(&cause).map_or(0, |row| row[outcome as usize].iter().sum())
    }

    /// The faults that `pick` takes. `sum` is the time that they took together, ns, if it is known.
    pub fn histogram(&self, pick: impl Fn(Cause, Outcome) -> bool, sum: Option<u64>) -> Histogram {
        let mut buckets = [0; BUCKETS];
        for (cause, row) in &self.rows {
            for (outcome, counts) in Outcome::ALL.iter().zip(row.iter()) {
                if pick(*cause, *outcome) {
                    buckets.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
                }
            }
        }
        Histogram::from_buckets(&buckets, sum)
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::latency::{OUTCOMES, bucket};

    use super::*;

    fn latencies(cause: Cause, faults: &[(Outcome, u64, u64)]) -> FaultLatencies {
        let mut row = Box::new([[0; BUCKETS]; OUTCOMES]);
        for (outcome, ns, n) in faults {
            row[*outcome as usize][bucket(*ns)] += n;
        }
        let mut latencies = FaultLatencies::default();
        latencies.set(cause, row);
        latencies
    }

    #[test]
    fn picks_by_cause_and_outcome() {
        let mut all = latencies(
            Cause::RacingFault,
            &[(Outcome::Nothing, 1_000, 184), (Outcome::Huge, 5_000, 12)],
        );
        all.set(
            Cause::GuestFault,
            latencies(Cause::GuestFault, &[(Outcome::Huge, 5_000, 3)]).rows[&Cause::GuestFault]
                .clone(),
        );
        assert_eq!(all.count(Cause::RacingFault, Outcome::Nothing), 184);
        assert_eq!(all.histogram(|_, outcome| outcome == Outcome::Huge, None).count(), 15);
        let racing = all.histogram(|cause, _| cause == Cause::RacingFault, Some(196_000));
        assert_eq!((racing.count(), racing.mean()), (196, Some(1_000)));
    }

    #[test]
    fn since_subtracts_by_cause() {
        let earlier = latencies(Cause::GuestFault, &[(Outcome::Small, 700, 4)]);
        let later = latencies(Cause::GuestFault, &[(Outcome::Small, 700, 9)]);
        assert_eq!(later.since(&earlier).count(Cause::GuestFault, Outcome::Small), 5);
        assert_eq!(later.since(&later).causes().count(), 0);
    }
}
