//! Regions that were small from the start and are huge now.

use std::collections::{BTreeMap, HashSet};

use collapse_common::{Cause, Transition};

use super::{FOLLOWED, Region, Touch};

/// Regions that never had a huge leaf while we watched, and got one. No recoveries: they had lost none.
#[derive(Clone, Debug, Default)]
pub(super) struct Gains {
    /// Those mapped small since their first touch.
    small: HashSet<Region>,
    by_cause: BTreeMap<Cause, u64>,
}

impl Gains {
    /// Small leaves were installed in a region that has lost none.
    pub(super) fn mapped_small(&mut self, region: Region) {
        if self.small.len() < FOLLOWED {
            self.small.insert(region);
        }
    }

    /// A region that has lost none got a huge leaf.
    pub(super) fn mapped_huge(&mut self, touch: &Touch) {
        let change = touch.change;
        // What is rebuilt in place was small, even if that was before we watched.
        let was_small = change.transition != Transition::Install && change.level == 2;
        if self.small.remove(&touch.region) || was_small {
            *self.by_cause.entry(change.cause).or_default() += 1;
        }
    }

    /// What is known of these regions holds no more.
    pub(super) fn forget(&mut self, which: impl Fn(Region) -> bool) {
        self.small.retain(|region| !which(*region));
    }

    /// What is known of this region holds no more.
    pub(super) fn forget_one(&mut self, region: Region) {
        self.small.remove(&region);
    }

    /// The times that a region became huge, by cause.
    pub(super) fn by_cause(&self) -> &BTreeMap<Cause, u64> {
        &self.by_cause
    }
}
