//! Ranges of 1 GiB that lost their leaf of this size. It is a loss of its own: 512 leaves of 2 MiB in its place are
//! no recovery.

use std::collections::{BTreeMap, HashMap};

use collapse_common::{Cause, Transition, spte::frames};
use collapse_feed::{Change, Slot};

use super::taken::Taking;

/// Ranges of 1 GiB by what became of them.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct GiantCounts {
    /// Times that one lost its 1 GiB leaf, to a split or a zap, while the guest could still use the memory.
    pub lost: u64,
    /// Times that one got it back.
    pub recovered: u64,
    /// Those that were taken away, with their memslot, by the VMM's munmap or with the VM, before they got it back.
    pub gone: u64,
    /// Those whose 1 GiB leaf went with its memslot or with the memory under it: no loss, and not in `lost`.
    pub taken_away: u64,
    /// Those that have not got it back.
    pub outstanding: u64,
    /// Of `outstanding`: mapped by smaller leaves.
    pub mapped_smaller: u64,
}

/// A 1 GiB-aligned range of guest frames: address space and first guest frame.
type Gib = (u32, u64);

/// The loss of a 1 GiB leaf.
#[derive(Clone, Copy, Debug)]
struct Loss {
    at: u64,
    cause: Cause,
    /// Whether smaller leaves are in its place.
    smaller: bool,
}

/// Ranges of 1 GiB of one VM that lost their leaf of this size and have not got it back. Only changes of such leaves
/// are followed, and these are few.
#[derive(Clone, Debug, Default)]
pub struct Giants {
    outstanding: HashMap<Gib, Loss>,
    /// Zapped by the deletion of a slot, perhaps of another one.
    leaving: HashMap<Gib, Loss>,
    counts: GiantCounts,
    lost_by_cause: BTreeMap<Cause, u64>,
}

impl Giants {
    /// The counts now.
    pub fn counts(&self) -> GiantCounts {
        GiantCounts {
            outstanding: self.outstanding.len() as u64,
            mapped_smaller: self.smaller().count() as u64,
            ..self.counts
        }
    }

    /// Losses, by why.
    pub fn lost_by_cause(&self) -> &BTreeMap<Cause, u64> {
        &self.lost_by_cause
    }

    /// When the latest of those that are mapped by smaller leaves now lost theirs, `CLOCK_MONOTONIC` ns, and why;
    /// `None` if none is.
    pub fn latest_loss(&self) -> Option<(u64, Cause)> {
        self.smaller().map(|loss| (loss.at, loss.cause)).max_by_key(|(at, _)| *at)
    }

    fn smaller(&self) -> impl Iterator<Item = &Loss> {
        self.outstanding.values().filter(|loss| loss.smaller)
    }

    /// Smaller leaves were installed.
    pub(super) fn install_smaller(&mut self, change: &Change) {
        // Nearly always none is.
        if self.outstanding.is_empty() {
            return;
        }
        let (from, step) = (change.gfn, frames(change.level));
        let end = from.saturating_add(u64::from(change.count).max(1).saturating_mul(step));
        for ((as_id, gfn), loss) in &mut self.outstanding {
            let inside = *gfn < end && from < gfn.saturating_add(frames(3));
            loss.smaller |= inside && *as_id == change.as_id;
        }
    }

    /// Follows changes of 1 GiB leaves, all taken to be made at `at` ns.
    pub(super) fn apply(&mut self, at: u64, change: &Change) {
        let step = frames(3);
        let first = change.gfn & !(step - 1);
        for index in 0..u64::from(change.count).max(1) {
            let gib = (change.as_id, first.saturating_add(index.saturating_mul(step)));
            match change.transition {
                Transition::Split | Transition::SplitRelink | Transition::Zap => {
                    let smaller = change.transition != Transition::Zap;
                    let loss = Loss { at, cause: change.cause, smaller };
                    self.lose(gib, loss, Taking::of(change));
                }
                Transition::Install | Transition::Recover | Transition::RecoverReadOnly => {
                    self.stays(gib);
                    if self.outstanding.remove(&gib).is_some() {
                        self.counts.recovered += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// A slot was deleted, or moved away from this place. Others that its deletion zapped are lost.
    pub(super) fn slot_gone(&mut self, slot: &Slot) {
        let end = slot.base_gfn.saturating_add(slot.npages);
        self.take(|(as_id, gfn)| {
            *as_id == u32::from(slot.as_id) && (slot.base_gfn..end).contains(gfn)
        });
        let left: Vec<_> = self.leaving.keys().copied().collect();
        for gib in left {
            self.stays(gib);
        }
    }

    /// The VM is gone.
    pub(super) fn end(&mut self) {
        self.take(|_| true);
    }

    fn lose(&mut self, gib: Gib, loss: Loss, taking: Option<Taking>) {
        if let Some(before) = self.outstanding.get_mut(&gib) {
            // A zap and the link after it are one loss (two-step split).
            before.smaller |= loss.smaller;
            return;
        }
        match taking {
            None => {
                self.leaving.remove(&gib);
                self.lost(gib, loss);
            }
            Some(Taking::Slot) => _ = self.leaving.entry(gib).or_insert(loss),
            Some(Taking::Unmap) => self.counts.taken_away += 1,
        }
    }

    fn lost(&mut self, gib: Gib, loss: Loss) {
        self.counts.lost += 1;
        *self.lost_by_cause.entry(loss.cause).or_default() += 1;
        self.outstanding.insert(gib, loss);
    }

    /// The guest can still use it: what the deletion of a slot zapped there is lost.
    fn stays(&mut self, gib: Gib) {
        if let Some(loss) = self.leaving.remove(&gib) {
            self.lost(gib, loss);
        }
    }

    fn take(&mut self, which: impl Fn(&Gib) -> bool) {
        self.counts.taken_away += self.leaving.extract_if(|gib, _| which(gib)).count() as u64;
        self.counts.gone += self.outstanding.extract_if(|gib, _| which(gib)).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use Transition::{Install, Recover, RecoverReadOnly, Split, SplitRelink, Zap};
    use collapse_feed::fixtures;
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 18;

    fn change(cause: Cause, transition: Transition, gfn: u64, count: u32) -> Change {
        Change { level: 3, gfn, count, ..fixtures::change(cause, transition) }
    }

    fn slot(base_gfn: u64, npages: u64) -> Slot {
        Slot { id: 1, as_id: 0, base_gfn, npages, flags: 0, userspace_addr: None }
    }

    fn after(changes: &[(Cause, Transition, u64, u32)]) -> Giants {
        let mut giants = Giants::default();
        for (at, (cause, transition, gfn, count)) in (1..).zip(changes) {
            giants.apply(at, &change(*cause, *transition, *gfn, *count));
        }
        giants
    }

    #[test]
    fn a_loss_and_its_recovery() {
        let split = (Cause::EagerSplit, Split, GIB, 2);
        let giants = after(&[split]);
        let counts =
            GiantCounts { lost: 2, outstanding: 2, mapped_smaller: 2, ..GiantCounts::default() };
        assert_eq!(giants.counts(), counts);
        assert_eq!(giants.lost_by_cause(), &BTreeMap::from([(Cause::EagerSplit, 2)]));
        assert_eq!(giants.latest_loss(), Some((1, Cause::EagerSplit)));
        for back in [Install, Recover, RecoverReadOnly] {
            let giants = after(&[split, (Cause::Collapse, back, GIB, 1)]);
            assert_eq!(
                (giants.counts().recovered, giants.counts().outstanding),
                (1, 1),
                "{back:?}"
            );
        }
        // A split in two steps is one loss, and a first touch no recovery.
        let twice =
            after(&[(Cause::GuestFault, Zap, 0, 1), (Cause::GuestFault, SplitRelink, 0, 1)]);
        assert_eq!(twice.counts().lost, 1);
        assert_eq!(after(&[(Cause::GuestFault, Install, 0, 4)]).counts(), GiantCounts::default());
    }

    #[test]
    fn smaller_leaves_are_no_recovery() {
        let mut giants = after(&[(Cause::NotifierClear, Zap, 0, 2)]);
        assert_eq!((giants.counts().mapped_smaller, giants.latest_loss()), (0, None));
        let install = fixtures::change(Cause::GuestFault, Install);
        giants.install_smaller(&Change { level: 2, gfn: GIB, count: 512, ..install });
        giants.install_smaller(&Change { level: 2, gfn: 0, count: 512, as_id: 1, ..install });
        let counts = giants.counts();
        assert_eq!((counts.recovered, counts.outstanding, counts.mapped_smaller), (0, 2, 1));
        assert_eq!(giants.latest_loss(), Some((1, Cause::NotifierClear)));
    }

    #[test]
    fn what_goes_with_its_memory_is_not_lost() {
        let unmapped = after(&[(Cause::NotifierUnmap, Zap, 0, 1)]);
        assert_eq!((unmapped.counts().lost, unmapped.counts().taken_away), (0, 1));
        // The deletion of a slot of one GiB zaps all four of the VM.
        let mut giants = after(&[(Cause::SlotGone, Zap, 0, 4)]);
        assert_eq!(giants.counts(), GiantCounts::default());
        giants.slot_gone(&slot(GIB, GIB));
        let counts = giants.counts();
        assert_eq!((counts.lost, counts.taken_away, counts.outstanding), (3, 1, 3));
        giants.apply(9, &change(Cause::GuestFault, Install, 0, 1));
        giants.end();
        let counts = giants.counts();
        assert_eq!((counts.recovered, counts.gone, counts.outstanding), (1, 2, 0));
    }

    proptest! {
        #[test]
        fn every_loss_comes_to_something(
            changes in prop::collection::vec((0usize..6, 0u64..4, 1u32..3), 0..40),
            gone in 0u64..4,
        ) {
            let kinds = [
                (Cause::EagerSplit, Split), (Cause::NotifierClear, Zap), (Cause::SlotGone, Zap),
                (Cause::GuestFault, Install), (Cause::Collapse, Recover), (Cause::NotifierUnmap, Zap),
            ];
            let changes: Vec<_> = changes.into_iter().map(|(kind, gib, count)| {
                let (cause, transition) = kinds[kind];
                (cause, transition, gib * GIB, count)
            }).collect();
            let mut giants = after(&changes);
            giants.slot_gone(&slot(gone * GIB, GIB));
            giants.end();
            let counts = giants.counts();
            prop_assert_eq!(counts.outstanding, 0);
            prop_assert_eq!(counts.lost, counts.recovered + counts.gone);
            prop_assert_eq!(giants.lost_by_cause().values().sum::<u64>(), counts.lost);
        }
    }
}
