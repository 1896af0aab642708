//! How long guest faults kept vCPUs from their guest.

use std::collections::BTreeMap;

use collapse_common::{
    Cause, Counter,
    latency::{BUCKETS, Latencies, Outcome, SQUARE_UNIT, SUMS, Sum, Timed},
};

use super::{
    histogram::Histogram,
    stall::{StallEstimate, standard_error},
    times::TimeTaken,
    totals::Totals,
};

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

    /// `now`, the latencies of one cause at a later time, without these.
    #[must_use]
    pub fn growth(&self, cause: Cause, mut now: Box<Latencies>) -> Box<Latencies> {
        let before = self.rows.get(&cause).map_or(&[][..], |row| row.as_flattened());
        let sums = now[SUMS];
        for (n, before) in now.as_flattened_mut().iter_mut().zip(before) {
            *n = n.saturating_sub(*before);
        }
        for timed in [Timed::CALLS, Timed::LOCK_WAITS] {
            let [_, _, longest] = timed.positions();
            if now[SUMS][longest] > 0 {
                now[SUMS][longest] = sums[longest];
            }
        }
        now
    }

    /// Causes of guest faults with any fault in them.
    pub fn causes(&self) -> impl Iterator<Item = Cause> {
        let faulted = |row: &Latencies| row.as_flattened().iter().any(|n| *n > 0);
        let faults = self.rows.iter().filter(|(cause, _)| cause.is_guest_fault());
        faults.filter(move |(_, row)| faulted(row)).map(|(cause, _)| *cause)
    }

    /// The time that one kind took in operations and guest faults of one cause; `None` if none has ended.
    pub fn time(&self, cause: Cause, timed: Timed) -> Option<TimeTaken> {
        let sums = &self.rows.get(&cause)?[SUMS];
        let [count, total_ns, longest] = timed.positions().map(|at| sums[at]);
        let longest_ns = Some(longest).filter(|ns| *ns > 0);
        (count > 0).then_some(TimeTaken { count, total_ns, longest_ns })
    }

    /// How many faults of one cause came to `outcome`.
    pub fn count(&self, cause: Cause, outcome: Outcome) -> u64 {
        self.rows.get(&cause).map_or(0, |row| row[outcome as usize].iter().sum())
    }

    /// A sum over the rows of the causes that are picked.
    pub fn sum(&self, pick: impl Fn(Cause) -> bool, sum: Sum) -> u64 {
        let rows = self.rows.iter().filter(|(cause, _)| pick(**cause));
        rows.map(|(_, row)| row[SUMS][sum as usize]).sum()
    }

    fn histogram(&self, pick: impl Fn(Cause, Outcome) -> bool, sum: Option<u64>) -> Histogram {
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

/// Guest faults that were timed, one in [`TimedFaults::one_in`].
#[derive(Clone, Copy, Debug)]
pub struct TimedFaults<'a> {
    latencies: &'a FaultLatencies,
    totals: &'a Totals,
    one_in: u32,
}

impl<'a> TimedFaults<'a> {
    pub(super) fn new(latencies: &'a FaultLatencies, totals: &'a Totals, one_in: u32) -> Self {
        Self { latencies, totals, one_in }
    }

    /// One in how many faults was timed; 0 for none.
    pub fn one_in(&self) -> u32 {
        self.one_in
    }

    /// Causes with any of them.
    pub fn causes(&self) -> impl Iterator<Item = Cause> {
        self.latencies.causes()
    }

    /// All of them but those on emulated device memory, ns.
    pub fn all(&self) -> Histogram {
        self.histogram(|_| true, self.totals.counter(Counter::Stall))
    }

    /// Those of one cause, ns.
    pub fn of_cause(&self, cause: Cause) -> Histogram {
        self.histogram(|other| other == cause, self.totals.counter_of(cause, Counter::Stall))
    }

    fn histogram(&self, pick: impl Fn(Cause) -> bool, stall: u64) -> Histogram {
        let sum =
            match (self.latencies.sum(&pick, Sum::Timed), self.latencies.sum(&pick, Sum::Long)) {
                // Recorded by a version that kept no sums, and that scaled what the timed faults took.
                (0, 0) => Some(stall / u64::from(self.one_in.max(1))),
                (_, 0) => Some(self.latencies.sum(&pick, Sum::TimedNs)),
                // Which of the long faults were timed is not known.
                _ => None,
            };
        self.latencies.histogram(|cause, outcome| outcome != Outcome::Mmio && pick(cause), sum)
    }

    /// Estimates the time that all faults took, timed or not.
    pub fn stall(&self) -> StallEstimate {
        self.estimate_of(|_| true, self.totals.counter(Counter::Stall))
    }

    /// Estimates the time that all faults of one cause took, timed or not.
    pub fn stall_of(&self, cause: Cause) -> StallEstimate {
        let total = self.totals.counter_of(cause, Counter::Stall);
        self.estimate_of(|other| other == cause, total)
    }

    fn estimate_of(&self, pick: impl Fn(Cause) -> bool, total: u64) -> StallEstimate {
        let sum = |which| self.latencies.sum(&pick, which);
        let (timed, long) = (sum(Sum::Timed), sum(Sum::Long));
        let error = if timed == 0 && long == 0 {
            // Recorded by a version that kept no sums: the error that follows from the buckets is no less
            // than the true one.
            let timed = self.histogram(&pick, total);
            let sum = total / u64::from(self.one_in.max(1));
            standard_error(timed.count(), sum, timed.squares_at_most(), self.one_in)
        } else {
            let squares = sum(Sum::TimedSquares) as f64 * (SQUARE_UNIT * SQUARE_UNIT) as f64;
            standard_error(timed, sum(Sum::TimedNs), squares, self.one_in)
        };
        let error = error.round() as u64;
        StallEstimate { total, error, long, long_ns: sum(Sum::LongNs) }
    }

    /// Those that came to one outcome, ns. How long they took together is not known.
    pub fn of_outcome(&self, outcome: Outcome) -> Histogram {
        self.latencies.histogram(|_, other| other == outcome, None)
    }

    /// An estimate of how many faults of one cause came to one outcome, timed or not.
    pub fn estimate(&self, cause: Cause, outcome: Outcome) -> u64 {
        self.latencies.count(cause, outcome) * u64::from(self.one_in)
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::{
        counter::COUNTERS,
        latency::{NO_LATENCIES, bucket},
    };

    use super::*;

    fn latencies(cause: Cause, faults: &[(Outcome, u64, u64)]) -> FaultLatencies {
        let mut row = Box::new(NO_LATENCIES);
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
    fn the_longest_operation_of_a_window_is_known_if_it_was_longer_than_those_before() {
        let times = |calls, ns, longest| {
            let mut row = Box::new(NO_LATENCIES);
            row[SUMS][Sum::Calls as usize] = calls;
            row[SUMS][Sum::CallsNs as usize] = ns;
            row[SUMS][Sum::LongestCallNs as usize] = longest;
            row
        };
        let mut before = FaultLatencies::default();
        before.set(Cause::Collapse, times(2, 50, 40));
        let since = |now| {
            let mut since = FaultLatencies::default();
            since.set(Cause::Collapse, before.growth(Cause::Collapse, now));
            since.time(Cause::Collapse, Timed::CALLS)
        };
        let time = |longest_ns| Some(TimeTaken { count: 1, total_ns: 30, longest_ns });
        assert_eq!(since(times(3, 80, 40)), time(None));
        assert_eq!(
            since(times(3, 110, 60)),
            Some(TimeTaken { count: 1, total_ns: 60, longest_ns: Some(60) })
        );
        assert_eq!(since(times(2, 50, 40)), None);
        assert!(before.causes().next().is_none());
    }

    /// Recordings of earlier versions have no sums: one fault in 128 was timed, and its time stood for those
    /// of 128.
    #[test]
    fn without_sums_the_mean_follows_from_the_stall() {
        let latencies = latencies(Cause::LoggedFault, &[(Outcome::Fast, 2_000, 10)]);
        let mut row = Box::new([0; COUNTERS]);
        row[Counter::Stall as usize] = 10 * 2_000 * 128;
        let mut totals = Totals::default();
        totals.set(Cause::LoggedFault, row);
        let timed = TimedFaults::new(&latencies, &totals, 128);
        assert_eq!(timed.all().mean(), Some(2_000));
        assert_eq!(timed.of_cause(Cause::LoggedFault).mean(), Some(2_000));
        assert_eq!(timed.of_outcome(Outcome::Fast).mean(), None);
        assert_eq!(timed.estimate(Cause::LoggedFault, Outcome::Fast), 1_280);
    }

    /// One fault of 12.6 ms among 128 timed ones stands for 1.6 s, and is known to be no better than that.
    #[test]
    fn a_single_long_fault_is_no_certainty() {
        let faults = [(Outcome::Fast, 2_000, 127), (Outcome::Fast, 12_600_000, 1)];
        let latencies = latencies(Cause::LoggedFault, &faults);
        let mut row = Box::new([0; COUNTERS]);
        row[Counter::Stall as usize] = (127 * 2_000 + 12_600_000) * 128;
        let mut totals = Totals::default();
        totals.set(Cause::LoggedFault, row);
        let stall = TimedFaults::new(&latencies, &totals, 128).stall();
        let [total, error, upper] =
            [stall.total, stall.error, stall.upper()].map(|ns| ns / 1_000_000);
        assert!(total == 1_645 && (1_500..2_200).contains(&error) && upper > 4_000, "{stall:?}");
        let exact = TimedFaults::new(&latencies, &totals, 1).stall();
        assert_eq!((exact.error, exact.upper()), (0, exact.total));
        let of_cause = TimedFaults::new(&latencies, &totals, 128);
        assert_eq!(of_cause.stall_of(Cause::LoggedFault), stall);
        assert_eq!(of_cause.stall_of(Cause::GuestFault), StallEstimate::default());
    }

    #[test]
    fn emulated_devices_and_long_faults_are_apart() {
        let faults = [(Outcome::Fast, 2_000, 10), (Outcome::Mmio, 9_000_000, 3)];
        let mut latencies = latencies(Cause::LoggedFault, &faults);
        let row = latencies.rows.get_mut(&Cause::LoggedFault).unwrap();
        row[SUMS][Sum::Timed as usize] = 10;
        row[SUMS][Sum::TimedNs as usize] = 21_000;
        let totals = Totals::default();
        let timed = TimedFaults::new(&latencies, &totals, 128);
        assert_eq!((timed.all().count(), timed.all().mean()), (10, Some(2_100)));
        assert_eq!(timed.of_outcome(Outcome::Mmio).count(), 3);
        let row = latencies.rows.get_mut(&Cause::LoggedFault).unwrap();
        row[SUMS][Sum::TimedSquares as usize] = 10 * (2_112 / SQUARE_UNIT).pow(2);
        row[SUMS][Sum::Long as usize] = 1;
        row[SUMS][Sum::LongNs as usize] = 12_600_000;
        let mut row = Box::new([0; COUNTERS]);
        row[Counter::Stall as usize] = 12_600_000 + 128 * 21_000;
        let mut totals = Totals::default();
        totals.set(Cause::LoggedFault, row);
        let timed = TimedFaults::new(&latencies, &totals, 128);
        assert_eq!(timed.all().mean(), None, "which of the long ones were timed is not known");
        // The long one adds nothing to the error.
        let stall = timed.stall();
        assert_eq!((stall.total, stall.long, stall.long_ns), (15_288_000, 1, 12_600_000));
        assert!((50_000..150_000).contains(&stall.error), "{stall:?}");
    }

    #[test]
    fn growth_is_by_cause() {
        let row = |n| {
            latencies(Cause::GuestFault, &[(Outcome::Small, 700, n)]).rows[&Cause::GuestFault]
                .clone()
        };
        let earlier = latencies(Cause::GuestFault, &[(Outcome::Small, 700, 4)]);
        let mut since = FaultLatencies::default();
        for (cause, left) in [(Cause::GuestFault, 5), (Cause::RacingFault, 9)] {
            since.set(cause, earlier.growth(cause, row(9)));
            assert_eq!(since.count(cause, Outcome::Small), left);
        }
        since.set(Cause::GuestFault, earlier.growth(Cause::GuestFault, row(4)));
        assert_eq!(since.causes().collect::<Vec<_>>(), [Cause::RacingFault]);
    }
}
