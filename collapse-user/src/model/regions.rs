//! The life of regions: lost, refaulted small, recovered.

use std::collections::HashMap;

use collapse_common::{Transition, spte::frames};

use crate::source::Change;

/// A 2 MiB-aligned range of guest frames in one address space: its first frame / 512.
type Region = (u32, u64);

/// Regions of one VM that lost their huge leaf and have not got it back, and what became of the
/// others. Memory follows outstanding regions, not guest size.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    outstanding: HashMap<Region, Outstanding>,
    counts: RegionCounts,
}

/// A region without its huge leaf.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    /// Whether the guest has a small leaf in it since: then KVM did not give it the huge one.
    refaulted_small: bool,
}

/// What became of regions that lost their huge leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RegionCounts {
    /// Times a region lost its huge leaf, to a split or a zap.
    pub lost: u64,
    /// Times a region got it back.
    pub recovered: u64,
    /// Of `recovered`: in place, by the collapse routine or at a fault, without a zap of the table.
    pub recovered_in_place: u64,
    /// Of `recovered`: came back write-protected.
    pub recovered_read_only: u64,
    /// Regions whose VM went away while they were outstanding.
    pub gone: u64,
    /// Regions that have not got it back.
    pub outstanding: u64,
    /// Of `outstanding`: mapped small again since.
    pub refaulted_small: u64,
    /// Of `outstanding`: not touched since.
    pub untouched: u64,
}

impl Regions {
    /// Follows recorded changes.
    pub fn apply(&mut self, change: &Change) {
        match (change.transition, change.level) {
            (Transition::Split | Transition::Zap | Transition::SplitRelink, 2) => {
                self.each(change, Self::lose);
            }
            (Transition::Install | Transition::Recover | Transition::RecoverReadOnly, 2) => {
                self.each(change, |regions, region| regions.recover(region, change.transition));
            }
            (Transition::Install, 1) => {
                self.each(change, Self::refault_small);
            }
            (Transition::Zap, 1) => self.each(change, Self::zap_small),
            _ => {}
        }
    }

    /// The VM is gone.
    pub fn end(&mut self) {
        self.counts.gone += self.outstanding.len() as u64;
        self.outstanding = HashMap::new();
    }

    /// The counts now.
    pub fn counts(&self) -> RegionCounts {
        let outstanding = self.outstanding.len() as u64;
        let refaulted_small =
            self.outstanding.values().filter(|region| region.refaulted_small).count() as u64;
        RegionCounts {
            outstanding,
            refaulted_small,
            untouched: outstanding - refaulted_small,
            ..self.counts
        }
    }

    fn each(&mut self, change: &Change, mut visit: impl FnMut(&mut Self, Region)) {
        let last = change.gfn + (u64::from(change.count).max(1) - 1) * frames(change.level);
        for region in change.gfn / frames(2)..=last / frames(2) {
            visit(self, (change.as_id, region));
        }
    }

    fn lose(&mut self, region: Region) {
        // A zap and the link after it are one loss (two-step split).
        self.outstanding.entry(region).or_insert_with(|| {
            self.counts.lost += 1;
            Outstanding { refaulted_small: false }
        });
    }

    fn recover(&mut self, region: Region, transition: Transition) {
        if self.outstanding.remove(&region).is_some() {
            self.counts.recovered += 1;
            self.counts.recovered_in_place += u64::from(transition != Transition::Install);
            self.counts.recovered_read_only += u64::from(transition == Transition::RecoverReadOnly);
        }
    }

    fn refault_small(&mut self, region: Region) {
        if let Some(region) = self.outstanding.get_mut(&region) {
            region.refaulted_small = true;
        }
    }

    fn zap_small(&mut self, region: Region) {
        if let Some(region) = self.outstanding.get_mut(&region) {
            region.refaulted_small = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::Cause;
    use proptest::prelude::*;

    use super::*;

    fn change(transition: Transition, level: u32, gfn: u64, count: u32) -> Change {
        Change { cause: Cause::Unknown, transition, level, as_id: 0, gfn, count, read_only: false }
    }

    fn follow(changes: &[(Transition, u32, u64, u32)]) -> RegionCounts {
        let mut regions = Regions::default();
        for &(transition, level, gfn, count) in changes {
            regions.apply(&change(transition, level, gfn, count));
        }
        regions.counts()
    }

    use Transition::{Install, Recover, RecoverReadOnly, Split, SplitRelink, Zap};

    #[test]
    fn zapped_and_refaulted_huge() {
        // 6.12: split, small SPTEs zapped by the collapse routine, huge again at the next touch.
        let counts =
            follow(&[(Split, 2, 0x40000, 32), (Zap, 1, 0x40000, 16384), (Install, 2, 0x40000, 30)]);
        assert_eq!((counts.lost, counts.recovered, counts.untouched), (32, 30, 2));
        assert_eq!((counts.refaulted_small, counts.recovered_in_place), (0, 0));
    }

    #[test]
    fn rebuilt_in_place() {
        let counts =
            follow(&[(Split, 2, 0, 8), (Recover, 2, 0, 5), (RecoverReadOnly, 2, 5 * 512, 3)]);
        assert_eq!((counts.recovered, counts.recovered_in_place), (8, 8));
        assert_eq!(counts.recovered_read_only, 3);
    }

    #[test]
    fn two_step_split_is_one_loss() {
        let counts = follow(&[(Zap, 2, 512, 1), (SplitRelink, 2, 512, 1), (Install, 1, 600, 1)]);
        assert_eq!((counts.lost, counts.outstanding, counts.refaulted_small), (1, 1, 1));
    }

    #[test]
    fn first_touch_is_no_recovery() {
        assert_eq!(follow(&[(Install, 2, 0, 32)]), RegionCounts::default());
    }

    #[test]
    fn an_ended_vm_leaves_nothing_outstanding() {
        let mut regions = Regions::default();
        regions.apply(&change(Zap, 2, 0, 4));
        regions.end();
        assert_eq!((regions.counts().gone, regions.counts().outstanding), (4, 0));
    }

    proptest! {
        /// Whatever happens, every loss is accounted for.
        #[test]
        fn losses_add_up(
            steps in prop::collection::vec(
                (prop::sample::select(Transition::ALL.to_vec()), 1u32..=3, 0u64..20_000, 1u32..2000),
                0..60,
            ),
        ) {
            let mut regions = Regions::default();
            for (transition, level, gfn, count) in steps {
                let gfn = gfn & !(frames(level) - 1);
                regions.apply(&change(transition, level, gfn, count));
                let counts = regions.counts();
                prop_assert_eq!(counts.lost, counts.recovered + counts.outstanding + counts.gone);
                prop_assert_eq!(counts.outstanding, counts.untouched + counts.refaulted_small);
            }
        }
    }
}
