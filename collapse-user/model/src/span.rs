//! Runs of the slot-wide collapse routine, and what they did.

use std::ops::AddAssign;

use collapse_common::{Cause, Transition, abi::Pages};

use collapse_feed::{Change, Collapse, Slot};

/// One run of the collapse routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollapseSpan {
    /// The slot it ran on.
    pub slot: Slot,
    /// `CLOCK_MONOTONIC` ns at which it began.
    pub start: u64,
    /// Duration, ns; it includes waiting for `mmu_lock`.
    pub duration: u64,
    /// Changes that it made.
    pub work: Work,
    /// Leaves that guest faults installed in the slot meanwhile; `None` if it was not seen to be published.
    pub race: Option<Race>,
    /// KVM's gauges when it began.
    pub pages_before: Option<Pages>,
    /// KVM's gauges when it ended.
    pub pages_after: Option<Pages>,
    /// Times it gave up `mmu_lock` to others; `None` if not seen.
    pub yields: Option<u32>,
}

/// SPTE changes made by a run of the collapse routine.
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
pub struct Work {
    /// 4 KiB SPTEs zapped, those of page tables that were removed whole included.
    pub zapped_4k: u64,
    /// 2 MiB SPTEs zapped on the way to 1 GiB.
    pub zapped_2m: u64,
    /// Regions made huge again in place.
    pub recovered: u64,
    /// The part of them that came back write-protected.
    pub recovered_read_only: u64,
}

impl Work {
    /// Adds a recorded change, if the collapse routine made it.
    pub fn apply(&mut self, change: &Change) {
        if change.cause != Cause::Collapse {
            return;
        }
        let n = u64::from(change.count);
        match (change.transition, change.level) {
            (Transition::Zap, 1) => self.zapped_4k += n,
            (Transition::Zap, 2) => self.zapped_2m += n,
            (Transition::Recover, _) => self.recovered += n,
            (Transition::RecoverReadOnly, _) => {
                self.recovered += n;
                self.recovered_read_only += n;
            }
            _ => {}
        }
    }
}

/// Leaves that guest faults installed in a slot from the moment that it was published without dirty logging
/// until the collapse routine was through with it: did small SPTEs come back behind its back?
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
pub struct Race {
    /// 4 KiB SPTEs.
    pub installs_4k: u64,
    /// 2 MiB SPTEs: recovered before the routine ended.
    pub installs_2m: u64,
    /// Of `installs_4k`: not writable, so that the next write costs another fault.
    pub read_only_4k: u64,
    /// Of `installs_2m`: not writable.
    pub read_only_2m: u64,
}

impl Race {
    /// Adds a recorded change, if a guest fault installed it in `slot`.
    pub fn apply(&mut self, slot: &Slot, change: &Change) {
        let inside = change.as_id == u32::from(slot.as_id)
            && (slot.base_gfn..slot.base_gfn + slot.npages).contains(&change.gfn);
        if !change.cause.is_guest_fault() || !inside {
            return;
        }
        let n = u64::from(change.count);
        let read_only = change.read_only || change.transition == Transition::RecoverReadOnly;
        match (change.transition, change.level) {
            (Transition::Install, 1) => {
                self.installs_4k += n;
                self.read_only_4k += n * u64::from(read_only);
            }
            (Transition::Install | Transition::Recover | Transition::RecoverReadOnly, 2) => {
                self.installs_2m += n;
                self.read_only_2m += n * u64::from(read_only);
            }
            _ => {}
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        let Self { zapped_4k, zapped_2m, recovered, recovered_read_only } = other;
        self.zapped_4k += zapped_4k;
        self.zapped_2m += zapped_2m;
        self.recovered += recovered;
        self.recovered_read_only += recovered_read_only;
    }
}

impl AddAssign for Race {
    fn add_assign(&mut self, other: Self) {
        let Self { installs_4k, installs_2m, read_only_4k, read_only_2m } = other;
        self.installs_4k += installs_4k;
        self.installs_2m += installs_2m;
        self.read_only_4k += read_only_4k;
        self.read_only_2m += read_only_2m;
    }
}

impl CollapseSpan {
    /// A run that ended at `end` ns, did `work` and met `race`.
    pub fn new(collapse: &Collapse, end: u64, work: Work, race: Option<Race>) -> Self {
        let &Collapse { slot, start, pages_before, pages_after, yields } = collapse;
        let duration = end.saturating_sub(start);
        Self { slot, start, duration, work, race, pages_before, pages_after, yields }
    }
}

#[cfg(test)]
mod tests {
    use collapse_feed::fixtures;

    use super::*;

    const SLOT: Slot =
        Slot { id: 1, as_id: 0, base_gfn: 0x40000, npages: 16384, flags: 0, userspace_addr: None };

    fn install(cause: Cause, level: u32, gfn: u64, count: u32) -> Change {
        Change { level, gfn, count, ..fixtures::change(cause, Transition::Install) }
    }

    #[test]
    fn a_race_is_what_guest_faults_install_in_the_slot() {
        let mut race = Race::default();
        race.apply(&SLOT, &install(Cause::GuestFault, 2, 0x40000, 3));
        race.apply(&SLOT, &install(Cause::LoggedFault, 1, 0x43fff, 1));
        race.apply(&SLOT, &install(Cause::GuestFault, 1, 0x44000, 9));
        race.apply(&SLOT, &install(Cause::Collapse, 2, 0x40000, 9));
        assert_eq!(race, Race { installs_4k: 1, installs_2m: 3, ..Race::default() });
    }

    #[test]
    fn a_race_tells_what_is_not_writable() {
        let mut race = Race::default();
        let small = install(Cause::RacingFault, 1, 0x40000, 4);
        race.apply(&SLOT, &Change { read_only: true, ..small });
        race.apply(&SLOT, &small);
        let huge = install(Cause::RacingFault, 2, 0x40000, 2);
        race.apply(&SLOT, &Change { transition: Transition::RecoverReadOnly, ..huge });
        let expected = Race { installs_4k: 8, installs_2m: 2, read_only_4k: 4, read_only_2m: 2 };
        assert_eq!(race, expected);
    }

    #[test]
    fn work_is_what_the_collapse_routine_changes() {
        let mut work = Work::default();
        let change = install(Cause::Collapse, 2, 0x40000, 1);
        work.apply(&Change { transition: Transition::Recover, count: 5, ..change });
        work.apply(&Change { transition: Transition::RecoverReadOnly, count: 3, ..change });
        work.apply(&Change { transition: Transition::Zap, level: 1, count: 512, ..change });
        work.apply(&Change { transition: Transition::Zap, cause: Cause::Teardown, ..change });
        let expected = Work { zapped_4k: 512, zapped_2m: 0, recovered: 8, recovered_read_only: 3 };
        assert_eq!(work, expected);
    }
}
