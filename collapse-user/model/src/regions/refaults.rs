//! Leaves installed where a huge one was lost.

use std::collections::BTreeMap;

use collapse_common::{Cause, spte::frames};

use super::{Touch, Transition};

/// Leaves installed in regions that had lost their huge leaf, by size and cause. Of a leaf that is
/// larger than a region, only the first region counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refaults {
    counts: BTreeMap<(Cause, u32), u64>,
    /// The large leaf that was counted last, by its number.
    counted: Option<u64>,
}

impl Refaults {
    /// Takes what an install does to an outstanding region; other changes are no refaults.
    pub(super) fn add(&mut self, touch: &Touch) {
        let change = touch.change;
        if change.transition != Transition::Install {
            return;
        }
        let leaf = touch.region.gfn() / frames(change.level);
        let new = match change.level {
            1 => u64::from(touch.leaves),
            2 => 1,
            _ => u64::from(self.counted.replace(leaf) != Some(leaf)),
        };
        *self.counts.entry((change.cause, change.level)).or_default() += new;
    }

    /// A change has been followed to its end.
    pub(super) fn end_of_change(&mut self) {
        self.counted = None;
    }

    /// Counts of one level.
    pub fn of_level(&self, level: u32) -> u64 {
        self.counts.iter().filter(|((_, at), _)| *at == level).map(|(_, n)| n).sum()
    }

    /// Counts by cause.
    pub fn by_cause(&self) -> BTreeMap<Cause, u64> {
        let mut by_cause = BTreeMap::new();
        for ((cause, _), n) in &self.counts {
            *by_cause.entry(*cause).or_default() += n;
        }
        by_cause
    }
}
