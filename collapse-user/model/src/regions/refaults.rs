//! Leaves installed where a huge one was lost.

use std::collections::BTreeMap;

use collapse_common::{Cause, spte::frames};

use super::{Touch, Transition};
use crate::metric::Breakdown;

/// Leaves installed in regions that had lost their huge leaf. Of a leaf that is larger than a region,
/// only the first region counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refaults {
    counts: Breakdown,
    /// The same, by why the huge leaf was lost.
    after: BTreeMap<Cause, u64>,
    /// The large leaf that was counted last, by its number.
    counted: Option<u64>,
}

impl Refaults {
    /// Takes what an install does to an outstanding region, which lost its huge leaf to `loss`; other changes are
    /// no refaults.
    pub(super) fn add(&mut self, touch: &Touch, loss: Cause) {
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
        self.counts.add(change.cause, change.level, new);
        if new > 0 {
            *self.after.entry(loss).or_default() += new;
        }
    }

    /// A change has been followed to its end.
    pub(super) fn end_of_change(&mut self) {
        self.counted = None;
    }

    /// The leaves.
    pub fn counts(&self) -> &Breakdown {
        &self.counts
    }

    /// The leaves, by why the huge leaf was lost.
    pub fn after(&self) -> &BTreeMap<Cause, u64> {
        &self.after
    }
}
