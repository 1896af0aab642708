//! Regions whose memory goes away: with its slot, by the VMM's munmap, or with the VM.

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU32,
};

use collapse_common::{Cause, Transition};

use super::{FOLLOWED, Lost, Mapping, Region, Regions, Step, Touch, each};
use crate::episode::Slots;
use collapse_feed::{Change, Slot};

/// How a zap takes memory away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// By the deletion of a slot: perhaps of another one, as KVM may zap the whole VM (always up to 6.12).
    Slot,
    /// By the VMM's munmap.
    Unmap,
}

impl Taking {
    /// The way in which `change` takes memory away, if it does.
    pub(super) fn of(change: &Change) -> Option<Self> {
        match (change.transition, change.cause) {
            (Transition::Zap, Cause::SlotGone) => Some(Self::Slot),
            (Transition::Zap, Cause::NotifierUnmap) => Some(Self::Unmap),
            _ => None,
        }
    }
}

/// What the deletion of a slot zapped in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zapped {
    /// A huge leaf: a loss if the slot was another.
    Huge(Lost),
    /// Small leaves of a region that was lost before, and was mapped like this.
    Small(Mapping),
}

/// Regions that the deletion of a slot zapped, until it is known whether they were in that slot: when the
/// deletion is through, or the guest touches them.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaving(HashMap<Region, Zapped>);

impl Leaving {
    /// Takes note of a huge leaf. Returns whether there was room.
    pub(super) fn huge(&mut self, region: Region, lost: Lost) -> bool {
        let room = self.0.len() < FOLLOWED;
        if room {
            self.0.entry(region).or_insert(Zapped::Huge(lost));
        }
        room
    }

    /// Takes note of small leaves of an outstanding region, before they go.
    pub(super) fn small(&mut self, region: Region, before: Mapping) {
        self.0.entry(region).or_insert(Zapped::Small(before));
    }

    /// What was noted of a region holds no more.
    pub(super) fn forget(&mut self, region: Region) {
        self.0.remove(&region);
    }

    /// Whether a huge leaf of the region went, and it is not known yet whether it is lost.
    pub(super) fn is_huge(&self, region: Region) -> bool {
        matches!(self.0.get(&region), Some(Zapped::Huge(_)))
    }
}

impl Regions {
    /// A slot was deleted, or moved away from this place: its regions are taken away. Others that its
    /// deletion zapped are lost. `logged` says whether its dirty logging was on.
    pub fn slot_gone(
        &mut self,
        slot: &Slot,
        logged: bool,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        self.unlogged.forget(slot);
        self.giants.slot_gone(slot);
        self.take(|region| region.is_in(slot), |_, _| logged, report);
        let left: Vec<_> = self.leaving.0.keys().copied().collect();
        for region in left {
            self.stays(region, report);
        }
        self.leaving.0.shrink_to_fit();
    }

    /// The VM is gone, and `slots` with it.
    pub fn end(&mut self, slots: &Slots, report: &mut impl FnMut(Option<NonZeroU32>, Step)) {
        self.giants.end();
        self.take(|_| true, |region, lost| is_logged(slots, region, lost), report);
        self.leaving.0.shrink_to_fit();
        self.outstanding.shrink_to_fit();
    }

    /// The teardown of the VM changed SPTEs.
    pub fn teardown(&mut self, at: u64, change: &Change) {
        if change.transition == Transition::Zap && matches!(change.level, 2 | 3) {
            each(at, change, |_| self.counts.step(Step::TakenAwayWithVm));
        }
    }

    /// The VMM unmapped the memory under a region's last leaf.
    pub(super) fn unmapped(
        &mut self,
        touch: Touch,
        slots: &Slots,
        before: Mapping,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        let Entry::Occupied(lost) = self.outstanding.entry(touch.region) else { return };
        if lost.get().small == 0 {
            let lost = lost.remove();
            let small = before != Mapping::None && !is_logged(slots, touch.region, &lost);
            let step = Step::Gone { from: lost.mapping(), small };
            self.counts.step(step);
            report(lost.episode, step);
        }
    }

    /// The guest can still use a region: what the deletion of a slot zapped there is lost.
    pub(super) fn stays(
        &mut self,
        region: Region,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        // Nearly always nothing is, and hashing takes longer than all the rest.
        if !self.leaving.0.is_empty()
            && let Some(Zapped::Huge(lost)) = self.leaving.0.remove(&region)
        {
            self.lost(region, lost, report);
        }
    }

    fn take(
        &mut self,
        which: impl Fn(Region) -> bool,
        logged: impl Fn(Region, &Lost) -> bool,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        self.returned.retain(|region| !which(region));
        self.gains.forget(&which);
        let mut before = HashMap::new();
        for (region, zapped) in self.leaving.0.extract_if(|region, _| which(*region)) {
            match zapped {
                Zapped::Huge(lost) => {
                    self.counts.step(Step::TakenAway);
                    report(lost.episode, Step::TakenAway);
                }
                Zapped::Small(mapping) => _ = before.insert(region, mapping),
            }
        }
        for (region, lost) in self.outstanding.extract_if(|region, _| which(*region)) {
            let from = lost.mapping();
            let was = before.get(&region).copied().unwrap_or(from);
            let step = Step::Gone { from, small: was != Mapping::None && !logged(region, &lost) };
            self.counts.step(step);
            report(lost.episode, step);
        }
    }
}

/// Whether dirty logging is on for the slot of a region, so that KVM has to map it small. A slot that is not
/// known was there before we watched, and its dirty logging was not switched since: the cause of the loss
/// decides.
fn is_logged(slots: &Slots, region: Region, lost: &Lost) -> bool {
    match slots.values().find(|slot| region.is_in(slot)) {
        Some(slot) => slot.is_logging(),
        None => matches!(lost.cause, Cause::LoggedFault | Cause::ClearDirtyLog),
    }
}
