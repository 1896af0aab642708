//! Regions that the NX recovery worker gave back, and that were split again for execution.

use std::collections::HashSet;

use collapse_common::{Cause, Transition};

use super::{Region, Touch};
use crate::metric::LeafChange;

/// Regions remembered at most; further ones are not counted.
const REMEMBERED: usize = 16_384;

/// Fate of the regions whose small leaves the NX recovery worker zapped.
#[derive(Clone, Debug, Default)]
pub struct NxRecovery {
    given_back: HashSet<Region>,
    zapped: u64,
    undone: u64,
}

impl NxRecovery {
    /// Takes what a change does to a region.
    pub(super) fn apply(&mut self, touch: &Touch) {
        let change = touch.change;
        match (change.cause, change.transition, change.level) {
            (Cause::NxRecovery, Transition::Zap, 1 | 2)
                if self.given_back.len() < REMEMBERED && self.given_back.insert(touch.region) =>
            {
                self.zapped += 1;
            }
            // For execution the fault splits the huge leaf, or maps small at once.
            (Cause::GuestFault, transition, level)
                if (LeafChange::Split.is(transition) && level == 2
                    || transition == Transition::Install && level == 1)
                    && self.given_back.remove(&touch.region) =>
            {
                self.undone += 1;
            }
            _ => {}
        }
    }

    /// Times that the worker zapped the small leaves of a region.
    pub fn zapped(&self) -> u64 {
        self.zapped
    }

    /// Times that a guest fault made such a region small again.
    pub fn undone(&self) -> u64 {
        self.undone
    }
}
