//! Exact counts of one VM by cause, transition and level.

use std::collections::BTreeMap;

use collapse_common::{
    Cause, Counter, Transition,
    abi::Row,
    counter::{index, transition_at},
};

/// Exact counts of one VM since attaching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    rows: BTreeMap<Cause, Box<Row>>,
}

impl Totals {
    /// Replaces the counts of one cause by newer ones. They never fall: what counted as a fault of which nothing came
    /// may have been one that was being handled.
    pub fn set(&mut self, cause: Cause, mut row: Box<Row>) {
        let retried = &mut row[Counter::Retried as usize];
        *retried = self.counter_of(cause, Counter::Retried).max(*retried);
        self.rows.insert(cause, row);
    }

    /// The counts of one cause and `more`.
    #[must_use]
    pub fn plus(&self, cause: Cause, mut more: Box<Row>) -> Box<Row> {
        for (sum, n) in
            more.iter_mut().zip(self.rows.get(&cause).into_iter().flat_map(|row| row.iter()))
        {
            *sum = sum.wrapping_add(*n);
        }
        more
    }

    /// `now`, the counts of one cause at a later time, without these.
    #[must_use]
    pub fn growth(&self, cause: Cause, mut now: Box<Row>) -> Box<Row> {
        for (n, before) in
            now.iter_mut().zip(self.rows.get(&cause).into_iter().flat_map(|row| row.iter()))
        {
            *n = n.saturating_sub(*before);
        }
        now
    }

    /// The counts by cause.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Cause, &Row)> {
        self.rows.iter().map(|(cause, row)| (*cause, &**row))
    }

    /// The counts of one cause, if there are any.
    pub(crate) fn row(&self, cause: Cause) -> Option<&Row> {
        self.rows.get(&cause).map(|row| &**row)
    }

    /// Changes of one kind at one level.
    pub fn transitions(&self, transition: Transition, level: u32) -> u64 {
        self.rows.values().map(|row| row[index(transition, level)]).sum()
    }

    /// Sum of a counter over all causes.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.rows.values().map(|row| row[counter as usize]).sum()
    }

    /// A counter, by cause.
    pub fn counter_of(&self, cause: Cause, counter: Counter) -> u64 {
        self.rows.get(&cause).map_or(0, |row| row[counter as usize])
    }

    /// A counter by cause, causes without any left out.
    pub fn counter_by_cause(&self, counter: Counter) -> BTreeMap<Cause, u64> {
        let counts = self.rows.iter().map(|(cause, row)| (*cause, row[counter as usize]));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// SPTE changes whose transition `pick` takes, at all levels and of all causes.
    pub fn changes(&self, pick: impl Fn(Transition) -> bool) -> u64 {
        let counts = self.rows.values().flat_map(|row| row.iter().enumerate());
        let picked = |at| transition_at(at).is_some_and(|(transition, _)| pick(transition));
        counts.filter(|(at, _)| picked(*at)).map(|(_, n)| n).sum()
    }

    /// Leaves of a level that went while the VM lived: split or zapped.
    pub fn leaves_gone(&self, level: u32) -> u64 {
        let rows = self.rows.iter().filter(|(cause, _)| **cause != Cause::Teardown);
        let counts = rows.flat_map(|(_, row)| row.iter().enumerate());
        let goes =
            |at| transition_at(at).is_some_and(|(change, at)| at == level && change.gauge() < 0);
        counts.filter(|(at, _)| goes(*at)).map(|(_, n)| n).sum()
    }

    /// How these changes moved KVM's gauges `pages_4k`, `pages_2m`, `pages_1g`.
    ///
    /// Splitting a leaf writes its 512 children without events of their own (6.1 and later), so each
    /// split adds them to the level below.
    pub fn gauge_change(&self) -> [i64; 3] {
        let mut change = [0; 3];
        for (at, n) in self.rows.values().flat_map(|row| row.iter().enumerate()) {
            let Some((transition, level @ 1..=3)) = transition_at(at) else { continue };
            let place = level as usize - 1;
            change[place] += transition.gauge() * *n as i64;
            if transition == Transition::Split && place > 0 {
                change[place - 1] += 512 * *n as i64;
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::counter::COUNTERS;

    use super::*;

    fn totals(cause: Cause, counts: &[(Transition, u32, u64)]) -> Totals {
        let mut row = Box::new([0; COUNTERS]);
        for (transition, level, n) in counts {
            row[index(*transition, *level)] = *n;
        }
        let mut totals = Totals::default();
        totals.set(cause, row);
        totals
    }

    /// Dirty logging on for 32 huge pages, as observed on 6.12: 5 / 32 becomes 16389 / 0.
    #[test]
    fn eager_split_moves_the_gauges() {
        let split = totals(
            Cause::EagerSplit,
            &[(Transition::Split, 2, 32), (Transition::WriteProtect, 1, 16384)],
        );
        assert_eq!(split.gauge_change(), [16384, -32, 0]);
        assert_eq!([1, 2, 3].map(|level| split.leaves_gone(level)), [0, 32, 0]);
    }

    /// What a VM has when it ends is not lost.
    #[test]
    fn teardown_takes_no_leaf_from_a_living_vm() {
        let zapped = |cause| totals(cause, &[(Transition::Zap, 2, 4)]).leaves_gone(2);
        assert_eq!([Cause::Teardown, Cause::NotifierUnmap].map(zapped), [0, 4]);
    }

    /// The two-step split of 6.1 leaves its children to later faults.
    #[test]
    fn two_step_split_adds_no_children() {
        let split = totals(
            Cause::GuestFault,
            &[
                (Transition::Zap, 2, 8),
                (Transition::SplitRelink, 2, 8),
                (Transition::Install, 1, 8),
            ],
        );
        assert_eq!(split.gauge_change(), [8, -8, 0]);
    }

    #[test]
    fn changes_are_picked_by_transition() {
        let all = totals(
            Cause::Unknown,
            &[(Transition::Install, 1, 3), (Transition::Zap, 2, 2), (Transition::Age, 1, 50)],
        );
        assert_eq!(all.changes(Transition::is_recorded), 5);
        assert_eq!(all.changes(|transition| transition == Transition::Age), 50);
    }

    #[test]
    fn growth_is_by_cause() {
        let earlier = totals(Cause::GuestFault, &[(Transition::Install, 2, 10)]);
        let mut row = Box::new([0; COUNTERS]);
        row[index(Transition::Install, 2)] = 32;
        let grown = |cause| earlier.growth(cause, row.clone())[index(Transition::Install, 2)];
        assert_eq!([grown(Cause::GuestFault), grown(Cause::Collapse)], [22, 32]);
    }

    #[test]
    fn retried_faults_never_fall() {
        let mut all = Totals::default();
        for (reading, expected) in [(3, 3), (2, 3), (4, 4)] {
            let mut row = Box::new([0; COUNTERS]);
            row[Counter::Retried as usize] = reading;
            all.set(Cause::GuestFault, row);
            assert_eq!(all.counter(Counter::Retried), expected);
        }
    }
}
