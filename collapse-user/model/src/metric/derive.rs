//! Changes as people count them, derived from what the kernel side counts. Only here are the two
//! halves of a split put together.

use std::collections::BTreeMap;

use collapse_common::{
    Cause, Transition,
    abi::{Row, VmKey},
    counter::index,
};
use collapse_feed::{Change, Event};

use crate::Totals;

/// Levels of leaves: 4 KiB, 2 MiB, 1 GiB.
pub const LEVELS: [u32; 3] = [1, 2, 3];

/// A kind of change to leaves, as every output counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafChange {
    /// A huge leaf became a page table, in one step or in two (5.10, 6.1, rmap and shadow MMU).
    Split,
    /// A leaf became non-present, other than as the first step of a split.
    Zap,
    /// A leaf was installed.
    Install,
    /// A page table became a huge leaf, in place.
    Rebuild,
    /// A leaf lost its write permission.
    WriteProtect,
    /// A leaf kept its permissions and lost its dirty bit, as dirty logging does it with PML.
    ClearDirty,
}

impl LeafChange {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Split,
        Self::Zap,
        Self::Install,
        Self::Rebuild,
        Self::WriteProtect,
        Self::ClearDirty,
    ];

    /// Transitions that count as such a change. A zap may be taken back by the relink after it, which
    /// makes both one split.
    pub const fn transitions(self) -> &'static [Transition] {
        match self {
            Self::Split => &[Transition::Split, Transition::SplitRelink],
            Self::Zap => &[Transition::Zap],
            Self::Install => &[Transition::Install],
            Self::Rebuild => &[Transition::Recover, Transition::RecoverReadOnly],
            Self::WriteProtect => &[Transition::WriteProtect],
            Self::ClearDirty => &[Transition::ClearDirty],
        }
    }

    /// Whether a transition counts as such a change.
    pub fn is(self, transition: Transition) -> bool {
        self.transitions().contains(&transition)
    }

    /// Such changes in one row at one level.
    fn in_row(self, row: &Row, level: u32) -> u64 {
        let count = |transition: &Transition| row[index(*transition, level)];
        let all = self.transitions().iter().map(count).sum::<u64>();
        match self {
            Self::Zap => all.saturating_sub(count(&Transition::SplitRelink)),
            _ => all,
        }
    }
}

impl Totals {
    /// Changes of one kind, of all causes and at all levels.
    pub fn count(&self, change: LeafChange) -> u64 {
        self.rows().map(|(_, row)| in_row(change, row)).sum()
    }

    /// Changes of one kind, of one cause, at all levels.
    pub fn count_of(&self, change: LeafChange, cause: Cause) -> u64 {
        self.row(cause).map_or(0, |row| in_row(change, row))
    }

    /// Changes of one kind, by cause and level.
    pub fn breakdown(&self, change: LeafChange) -> Breakdown {
        let mut breakdown = Breakdown::default();
        for (cause, row) in self.rows() {
            for level in LEVELS {
                breakdown.add(cause, level, change.in_row(row, level));
            }
        }
        breakdown
    }
}

fn in_row(change: LeafChange, row: &Row) -> u64 {
    LEVELS.iter().map(|level| change.in_row(row, *level)).sum()
}

/// Leaves by cause and level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    /// Those above zero.
    counts: BTreeMap<(Cause, u32), u64>,
}

impl Breakdown {
    pub(crate) fn add(&mut self, cause: Cause, level: u32, n: u64) {
        if n > 0 {
            *self.counts.entry((cause, level)).or_default() += n;
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Those of one level.
    pub fn of_level(&self, level: u32) -> u64 {
        self.counts.iter().filter(|((_, at), _)| *at == level).map(|(_, n)| n).sum()
    }

    /// All of them by cause and level, those without any left out.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u32, u64)> {
        self.counts.iter().map(|((cause, level), n)| (*cause, *level, *n))
    }

    /// All of them by cause, causes without any left out.
    pub fn by_cause(&self) -> BTreeMap<Cause, u64> {
        let mut by_cause = BTreeMap::new();
        for ((cause, _), n) in &self.counts {
            *by_cause.entry(*cause).or_default() += n;
        }
        by_cause
    }

    /// The part that is at `levels`.
    #[must_use]
    pub fn at(&self, levels: &[u32]) -> Self {
        let counts = self.counts.iter().filter(|((_, level), _)| levels.contains(level));
        Self { counts: counts.map(|(key, n)| (*key, *n)).collect() }
    }
}

/// The latest recorded zap of each thread, with a note about it, until it proves to be the first half
/// of a split in two steps.
#[derive(Clone, Debug)]
pub struct FirstHalves<T> {
    zaps: BTreeMap<(VmKey, u32), (Leaf, T)>,
}

/// Address space, level and guest frame.
type Leaf = (u32, u32, u64);

impl<T> Default for FirstHalves<T> {
    fn default() -> Self {
        Self { zaps: BTreeMap::new() }
    }
}

impl<T> FirstHalves<T> {
    /// Takes note of a zap.
    pub fn zapped(&mut self, event: &Event, zap: &Change, note: T) {
        self.zaps.insert((event.vm, event.tid), (leaf(zap), note));
    }

    /// The note about the zap that is the first half of the split whose second half is `relink`, if
    /// that zap was seen.
    pub fn of(&mut self, event: &Event, relink: &Change) -> Option<T> {
        let (zapped, note) = self.zaps.remove(&(event.vm, event.tid))?;
        (zapped == leaf(relink)).then_some(note)
    }
}

fn leaf(change: &Change) -> Leaf {
    (change.as_id, change.level, change.gfn)
}

#[cfg(test)]
mod tests {
    use collapse_common::counter::COUNTERS;
    use proptest::prelude::*;

    use super::*;

    /// Changes of a transition at a level, and their number.
    type Count = (Transition, u32, u64);

    fn totals(rows: &[(Cause, Vec<Count>)]) -> Totals {
        let mut totals = Totals::default();
        for (cause, counts) in rows {
            let mut row = Box::new([0; COUNTERS]);
            for (transition, level, n) in counts {
                row[index(*transition, *level)] = *n;
            }
            totals.set(*cause, row);
        }
        totals
    }

    #[test]
    fn a_split_in_two_steps_is_one_split_and_no_zap() {
        let totals = totals(&[
            (Cause::LoggedFault, vec![(Transition::Zap, 2, 8), (Transition::SplitRelink, 2, 7)]),
            (Cause::EagerSplit, vec![(Transition::Split, 2, 3)]),
            (Cause::Collapse, vec![(Transition::Zap, 1, 512)]),
        ]);
        let splits = totals.breakdown(LeafChange::Split);
        assert_eq!((splits.total(), splits.of_level(2)), (10, 10));
        let by_cause = BTreeMap::from([(Cause::EagerSplit, 3), (Cause::LoggedFault, 7)]);
        assert_eq!(splits.by_cause(), by_cause);
        let zaps = totals.breakdown(LeafChange::Zap);
        assert_eq!([1, 2, 3].map(|level| zaps.of_level(level)), [512, 1, 0]);
        let by_cause = BTreeMap::from([(Cause::Collapse, 512), (Cause::LoggedFault, 1)]);
        assert_eq!(zaps.by_cause(), by_cause);
        assert_eq!(zaps.at(&[2]).total(), 1);
    }

    #[test]
    fn page_tables_are_no_leaves() {
        let tables =
            [(Cause::GuestFault, vec![(Transition::Link, 2, 5), (Transition::Unlink, 4, 5)])];
        assert!(LeafChange::ALL.iter().all(|change| totals(&tables).count(*change) == 0));
    }

    proptest! {
        /// However changes are looked at, they add up to the same.
        #[test]
        fn counts_add_up(
            counts in prop::collection::vec((0..Cause::ALL.len(), 0..14usize, 1u32..=3, 0u64..1_000), 0..40),
        ) {
            let mut rows: BTreeMap<Cause, Vec<_>> = BTreeMap::new();
            for (cause, transition, level, n) in counts {
                let change = (Transition::ALL[transition], level, n);
                rows.entry(Cause::ALL[cause]).or_default().push(change);
            }
            let totals = totals(&rows.into_iter().collect::<Vec<_>>());
            for change in LeafChange::ALL {
                let breakdown = totals.breakdown(change);
                let by_cause = breakdown.by_cause();
                prop_assert_eq!(breakdown.total(), totals.count(change));
                prop_assert_eq!(breakdown.total(), by_cause.values().sum::<u64>());
                let by_level: u64 = LEVELS.iter().map(|level| breakdown.of_level(*level)).sum();
                prop_assert_eq!(breakdown.total(), by_level);
                for (cause, n) in by_cause {
                    prop_assert_eq!(totals.count_of(change, cause), n);
                }
            }
        }
    }
}
