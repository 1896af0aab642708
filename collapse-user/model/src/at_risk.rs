//! Huge leaves that the guest may write to in memory under dirty logging: what it writes there is not logged.
//!
//! KVM maps by 4 KiB what it logs, and decides so by the memslot's flag. When the flag changes, it waits until no vCPU
//! works with the old memslot, and only then goes on to where the switch is seen. So a huge leaf installed in a slot
//! that was logged before, and is logged after, was installed against the rule, with two exceptions that are waited
//! for: a record can be younger than its time stamp, until it is read; and a slot is no longer logged some time before
//! its switch is seen, which takes as long as a vCPU keeps KVM waiting. Leaves that were there before do not count:
//! with `KVM_DIRTY_LOG_INITIALLY_SET` they stay until they are cleared.

use std::collections::BTreeMap;

use collapse_common::Transition;
use collapse_feed::{Change, Slot, SlotChange, Sptes};

/// How long a slot has to stay logged after a leaf was read for it to count, ns. Switching a slot takes milliseconds.
pub const SETTLED: u64 = 10_000_000_000;

/// Most leaves that are waited for or kept: one is one too many.
const KEPT: usize = 64;

/// Address space and id of a memslot.
type SlotId = (u16, u16);

/// A huge leaf that was installed in a slot under dirty logging, or some one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The slot.
    pub slot: SlotId,
    /// Since when its dirty logging was known to be on, `CLOCK_MONOTONIC` ns.
    pub logged_since: u64,
    /// When, at the earliest, `CLOCK_MONOTONIC` ns.
    pub at: u64,
    /// First guest frame.
    pub gfn: u64,
    /// Level: 2 or 3.
    pub level: u32,
    /// Number of leaves.
    pub count: u32,
    /// The SPTE before and after; `None` if changes are recorded in runs.
    pub sptes: Option<Sptes>,
    /// When it was read, `CLOCK_MONOTONIC` ns; `None` until the batch is in.
    read: Option<u64>,
}

/// Huge leaves that the guest may write to in memory under dirty logging.
#[derive(Clone, Debug, Default)]
pub struct AtRisk {
    /// Slots under dirty logging, and since when they are known to be.
    logged: BTreeMap<SlotId, (u64, Slot)>,
    waiting: Vec<Installed>,
    certain: Vec<Installed>,
    /// Whether any slot was under dirty logging.
    any: bool,
    /// Why some may have been missed.
    doubt: Option<&'static str>,
}

impl AtRisk {
    /// Those whose slot stayed logged for long enough, the first first; no more than some are kept.
    pub fn certain(&self) -> &[Installed] {
        &self.certain
    }

    /// Whether there are others, of which nothing can be said yet.
    pub fn is_undecided(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether any slot was seen under dirty logging, so that there could be some.
    pub fn could_be(&self) -> bool {
        self.any
    }

    /// Why some may have been missed; `None` if none was.
    pub fn doubt(&self) -> Option<&'static str> {
        self.doubt
    }

    /// Something was lost, perhaps a switch: what is logged is not known any more.
    pub(crate) fn lose(&mut self) {
        self.logged.clear();
        self.waiting.clear();
        self.doubt = Some("a switch of dirty logging may be among what was lost");
    }

    /// Not every change is recorded.
    pub(crate) fn leave_out(&mut self) {
        self.doubt.get_or_insert("changes were left out to keep to the overhead budget");
    }

    /// Follows a change of a slot, as it is after it.
    pub(crate) fn slot(&mut self, at: u64, slot: &Slot, change: SlotChange) {
        let id = (slot.as_id, slot.id);
        let logs = slot.is_logging() && change != SlotChange::Deleted;
        let goes_on = logs && change == SlotChange::Other && self.logged.contains_key(&id);
        if !goes_on {
            self.waiting.retain(|installed| installed.slot != id);
            self.logged.remove(&id);
        }
        self.any |= logs;
        if logs {
            self.logged.entry(id).or_insert((at, *slot));
        }
    }

    /// Learns all slots of a VM that was there before, as they are at `at` ns.
    pub(crate) fn learn(&mut self, at: u64, slots: &[Slot]) {
        let logged = slots.iter().filter(|slot| slot.is_logging());
        self.logged = logged.map(|slot| ((slot.as_id, slot.id), (at, *slot))).collect();
        self.any |= !self.logged.is_empty();
        self.waiting.clear();
    }

    /// Follows changes of SPTEs, all made at `at` ns or later.
    pub(crate) fn change(&mut self, at: u64, change: &Change) {
        let huge = change.level > 1 && !change.read_only;
        if self.logged.is_empty() || !huge {
            return;
        }
        if !matches!(change.transition, Transition::Install | Transition::Recover) {
            return;
        }
        let holds = |slot: &Slot| {
            let end = slot.base_gfn.saturating_add(slot.npages);
            u32::from(slot.as_id) == change.as_id && (slot.base_gfn..end).contains(&change.gfn)
        };
        let slot = self.logged.iter().find(|(_, (since, slot))| *since < at && holds(slot));
        if let Some((id, (since, _))) = slot.filter(|_| self.waiting.len() < KEPT) {
            let &Change { gfn, level, count, sptes, .. } = change;
            let (slot, logged_since, read) = (*id, *since, None);
            self.waiting.push(Installed { slot, logged_since, at, gfn, level, count, sptes, read });
        }
    }

    /// Closes a batch that was read at `at` ns.
    pub(crate) fn close(&mut self, at: u64) {
        for installed in &mut self.waiting {
            installed.read.get_or_insert(at);
        }
        let is_settled = |installed: &mut Installed| {
            installed.read.is_some_and(|read| at.saturating_sub(read) >= SETTLED)
        };
        let room = KEPT.saturating_sub(self.certain.len());
        let settled = self.waiting.extract_if(.., is_settled).take(room);
        self.certain.extend(settled);
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::{Cause, abi::LOG_DIRTY_PAGES};
    use collapse_feed::fixtures;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn slot(flags: u32) -> Slot {
        Slot { id: 1, as_id: 0, base_gfn: 0x4_0000, npages: 16384, flags, userspace_addr: None }
    }

    fn install(level: u32, gfn: u64) -> Change {
        Change { level, gfn, ..fixtures::change(Cause::GuestFault, Transition::Install) }
    }

    /// Dirty logging on for a slot at 1 s.
    fn logged() -> AtRisk {
        let mut at_risk = AtRisk::default();
        at_risk.slot(S, &slot(LOG_DIRTY_PAGES), SlotChange::LogOn);
        at_risk
    }

    fn after(seconds: u64, at_risk: &mut AtRisk) -> usize {
        (2..=seconds).for_each(|second| at_risk.close(second * S));
        at_risk.certain().len()
    }

    #[test]
    fn a_writable_huge_leaf_in_a_logged_slot() {
        let mut at_risk = logged();
        let sptes = Some(Sptes { old: 0, new: 0x8000_0000_4020_0bf7 });
        at_risk.change(2 * S, &Change { sptes, ..install(2, 0x4_0200) });
        assert!(at_risk.is_undecided());
        assert_eq!(after(11, &mut at_risk), 0, "not for long enough");
        assert_eq!(after(12, &mut at_risk), 1);
        let found = at_risk.certain()[0];
        assert_eq!((found.slot, found.logged_since, found.gfn), ((0, 1), S, 0x4_0200));
        assert!(found.sptes == sptes && !at_risk.is_undecided());
        // One that comes back huge in place is the same.
        let mut at_risk = logged();
        let recover = fixtures::change(Cause::Unknown, Transition::Recover);
        at_risk.change(2 * S, &Change { level: 2, gfn: 0x4_0000, ..recover });
        assert_eq!(after(20, &mut at_risk), 1);
    }

    #[test]
    fn what_kvm_may_do() {
        let of = |change: &Change| {
            let mut at_risk = logged();
            at_risk.change(2 * S, change);
            (at_risk.is_undecided(), after(20, &mut at_risk))
        };
        assert_eq!(of(&install(2, 0x4_0000)), (true, 1));
        assert_eq!(of(&install(1, 0x4_0000)), (false, 0), "small");
        assert_eq!(of(&install(2, 0x8_0000)), (false, 0), "in another slot");
        let smm = Change { as_id: 1, ..install(2, 0x4_0000) };
        assert_eq!(of(&smm), (false, 0), "in another address space");
        let read_only = Change { read_only: true, ..install(2, 0x4_0000) };
        assert_eq!(of(&read_only), (false, 0), "its first write faults");
        let back = fixtures::change(Cause::Collapse, Transition::RecoverReadOnly);
        assert_eq!(of(&Change { level: 2, gfn: 0x4_0000, ..back }), (false, 0));
    }

    /// Records come late, and a slot is not logged any more some time before its switch is seen.
    #[test]
    fn a_switch_before_long_voids_it() {
        for change in [SlotChange::LogOff, SlotChange::Deleted, SlotChange::Moved] {
            let mut at_risk = logged();
            at_risk.change(2 * S, &install(2, 0x4_0000));
            assert_eq!(after(5, &mut at_risk), 0);
            let flags = if change == SlotChange::LogOff { 0 } else { LOG_DIRTY_PAGES };
            at_risk.slot(6 * S, &slot(flags), change);
            assert_eq!(after(60, &mut at_risk), 0, "{change:?}");
            assert!(!at_risk.is_undecided());
        }
        // Another flag changes nothing.
        let mut at_risk = logged();
        at_risk.change(2 * S, &install(2, 0x4_0000));
        at_risk.slot(3 * S, &slot(LOG_DIRTY_PAGES), SlotChange::Other);
        assert_eq!(after(60, &mut at_risk), 1);
        // One from before the switch, whose record comes after it.
        let mut at_risk = logged();
        at_risk.change(S - 1, &install(2, 0x4_0000));
        assert!(!at_risk.is_undecided());
    }

    #[test]
    fn a_loss_may_have_been_a_switch() {
        let mut at_risk = logged();
        at_risk.change(2 * S, &install(2, 0x4_0000));
        at_risk.lose();
        at_risk.change(3 * S, &install(2, 0x4_0000));
        assert_eq!(after(60, &mut at_risk), 0);
        assert!(at_risk.doubt().is_some() && !at_risk.is_undecided());
    }

    #[test]
    fn slots_from_before_count_from_when_they_were_read() {
        let mut at_risk = AtRisk::default();
        at_risk.change(2 * S, &install(2, 0x4_0000));
        at_risk.learn(3 * S, &[slot(LOG_DIRTY_PAGES)]);
        assert!(!at_risk.is_undecided());
        at_risk.change(4 * S, &install(3, 0x4_0000));
        assert_eq!(after(20, &mut at_risk), 1);
    }
}
