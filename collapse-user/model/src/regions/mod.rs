//! The life of regions: lost, zapped, refaulted small, recovered, taken away.

mod counts;
mod gains;
mod giants;
mod lost;
mod nx;
mod refaults;
mod returned;
mod taken;
#[cfg(test)]
mod tests;
mod thrash;
mod unlogged;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
};

use collapse_common::{Cause, Transition, spte::frames};

pub use counts::{Mapping, Recovery, RegionCounts, Standing, Step};
pub use giants::{GiantCounts, Giants};
pub use lost::{Lost, Region};
pub use nx::NxRecovery;
pub use returned::{RETURNED_KEPT, Returned, ReturnedRegions};
pub use thrash::{Thrash, Thrashed};

use gains::Gains;
use refaults::Refaults;
use taken::{Leaving, Taking};
use unlogged::Unlogged;

use super::{episode::Slots, histogram::Histogram, metric::Breakdown};
use collapse_feed::{Change, Slot};

/// Most outstanding regions followed per VM: 16 TiB of guest memory.
const FOLLOWED: usize = 1 << 23;

/// Regions of one VM that lost their huge leaf and have not got it back, and what became of the
/// others. Memory follows outstanding regions, not guest size.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    outstanding: HashMap<Region, Lost>,
    leaving: Leaving,
    gains: Gains,
    unlogged: Unlogged,
    counts: RegionCounts,
    not_followed: u64,
    lost_by_cause: BTreeMap<Cause, u64>,
    refaults: Refaults,
    nx: NxRecovery,
    thrash: Thrash,
    giants: Giants,
    returned: ReturnedRegions,
    time_to_refault: Histogram,
    time_to_recover: Histogram,
    time_to_recover_from_loss: Histogram,
}

/// Effect of a run of changes on one region.
#[derive(Clone, Copy)]
struct Touch<'a> {
    /// When, `CLOCK_MONOTONIC` ns.
    at: u64,
    change: &'a Change,
    region: Region,
    /// How many of the run's SPTEs are in the region, if they are smaller than it.
    leaves: u16,
}

impl Regions {
    /// Follows recorded changes, all taken to be made at `at` ns, in a VM with `slots`. Regions that they
    /// lose belong to `episode`. `report` gets each step of each region, with the episode that the region
    /// belongs to.
    pub fn apply(
        &mut self,
        at: u64,
        change: &Change,
        slots: &Slots,
        episode: Option<NonZeroU32>,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        if change.level == 3 {
            self.giants.apply(at, change);
        } else if change.transition == Transition::Install {
            self.giants.install_smaller(change);
        }
        match (change.transition, change.level) {
            // A 1 GiB leaf that is split leaves huge leaves behind.
            (Transition::Split | Transition::SplitRelink, 2) | (Transition::Zap, 2 | 3) => {
                each(at, change, |touch| self.lose(touch, episode, report));
            }
            (Transition::Install | Transition::Recover | Transition::RecoverReadOnly, 2 | 3) => {
                each(at, change, |touch| self.recover(touch, report));
            }
            (Transition::Install | Transition::Zap, 1) => {
                each(at, change, |touch| self.remap(touch, slots, report));
            }
            _ => {}
        }
        self.refaults.end_of_change();
        if matches!(change.cause, Cause::NxRecovery | Cause::GuestFault) && change.level <= 2 {
            each(at, change, |touch| self.nx.apply(&touch));
        }
        if self.thrash.wants(change.cause, change.transition) {
            each(at, change, |touch| self.thrash.apply(&touch));
        }
    }

    /// Dirty logging went off for a slot at `at` ns: from then on its regions can be huge again.
    pub fn log_off(&mut self, slot: &Slot, at: u64) {
        self.unlogged.log_off(slot, at);
    }

    /// The counts now.
    pub fn counts(&self) -> RegionCounts {
        self.counts
    }

    /// Losses that were one too many to follow, and are in no count.
    pub fn not_followed(&self) -> u64 {
        self.not_followed
    }

    /// Losses, by why.
    pub fn lost_by_cause(&self) -> &BTreeMap<Cause, u64> {
        &self.lost_by_cause
    }

    /// Regions that have not got their huge leaf back, in no order.
    pub fn outstanding(&self) -> impl Iterator<Item = (Region, &Lost)> {
        self.outstanding.iter().map(|(region, lost)| (*region, lost))
    }

    /// How a region that has not got its huge leaf back is mapped; `None` if it never lost it, or has
    /// it again.
    pub fn mapping(&self, region: Region) -> Option<Mapping> {
        let zapped = || self.leaving.is_huge(region).then_some(Mapping::None);
        self.outstanding.get(&region).map(Lost::mapping).or_else(zapped)
    }

    /// Times that a region which was small from the start became huge, by cause. They are no recoveries.
    pub fn became_huge(&self) -> &BTreeMap<Cause, u64> {
        self.gains.by_cause()
    }

    /// Leaves installed in regions that had lost their huge leaf.
    pub fn refaults(&self) -> &Breakdown {
        self.refaults.counts()
    }

    /// The same, by why the huge leaf was lost: the faults that each such cause cost the guest.
    pub fn refaults_after(&self) -> &BTreeMap<Cause, u64> {
        self.refaults.after()
    }

    /// Regions that got their huge leaf back.
    pub fn returned(&self) -> &ReturnedRegions {
        &self.returned
    }

    /// Regions that the NX recovery worker gave back, by what became of them.
    pub fn nx_recovery(&self) -> &NxRecovery {
        &self.nx
    }

    /// Ranges of 1 GiB that lost their leaf of this size.
    pub fn giants(&self) -> &Giants {
        &self.giants
    }

    /// Regions that the host took from the guest again and again.
    pub fn thrash(&self) -> &Thrash {
        &self.thrash
    }

    /// How long regions that had lost their huge leaf had nothing mapped, until the next leaf of any
    /// size, ns.
    pub fn time_to_refault(&self) -> &Histogram {
        &self.time_to_refault
    }

    /// How long regions that could have a huge leaf went without, ns: from when their dirty logging went off,
    /// or from the loss if that was later.
    pub fn time_to_recover(&self) -> &Histogram {
        &self.time_to_recover
    }

    /// How long regions went without a huge leaf, from the loss on, ns.
    pub fn time_to_recover_from_loss(&self) -> &Histogram {
        &self.time_to_recover_from_loss
    }

    fn lose(
        &mut self,
        touch: Touch,
        episode: Option<NonZeroU32>,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        let Change { cause, transition, .. } = *touch.change;
        let taking = Taking::of(touch.change);
        match taking {
            None => self.stays(touch.region, report),
            Some(Taking::Unmap) => self.leaving.forget(touch.region),
            Some(Taking::Slot) => {}
        }
        if let Some(lost) = self.outstanding.get_mut(&touch.region) {
            // A zap and the link after it are one loss (two-step split).
            if transition == Transition::SplitRelink {
                lost.relink();
            }
            return;
        }
        self.returned.remove(touch.region);
        self.gains.forget_one(touch.region);
        let lost = Lost {
            at: touch.at,
            zapped: (transition == Transition::Zap).then(|| lost::stamp(touch.at)).flatten(),
            refaulted: None,
            episode,
            // The children of a split are written without changes of their own.
            small: if transition == Transition::Split { frames(2) as u16 } else { 0 },
            cause,
            split: transition != Transition::Zap,
        };
        match taking {
            None => self.lost(touch.region, lost, report),
            Some(Taking::Slot) if self.leaving.huge(touch.region, lost) => {}
            Some(Taking::Slot) => self.not_followed += 1,
            Some(Taking::Unmap) => {
                self.counts.step(Step::TakenAway);
                report(episode, Step::TakenAway);
            }
        }
    }

    /// A region was lost, for sure.
    fn lost(
        &mut self,
        region: Region,
        lost: Lost,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        if self.outstanding.len() >= FOLLOWED {
            self.not_followed += 1;
            return;
        }
        self.outstanding.insert(region, lost);
        *self.lost_by_cause.entry(lost.cause).or_default() += 1;
        let step = Step::Lost(lost.mapping());
        self.counts.step(step);
        report(lost.episode, step);
    }

    fn recover(&mut self, touch: Touch, report: &mut impl FnMut(Option<NonZeroU32>, Step)) {
        self.stays(touch.region, report);
        let Some(lost) = self.outstanding.remove(&touch.region) else {
            self.gains.mapped_huge(&touch);
            return;
        };
        self.refaults.add(&touch, lost.cause);
        let Change { cause, transition, .. } = *touch.change;
        let how = match transition {
            Transition::Install => Recovery::Refault,
            _ if cause.is_guest_fault() => Recovery::Promotion,
            _ => Recovery::InPlace,
        };
        let empty_for = lost.empty_for(touch.at).filter(|_| lost.refaulted.is_none());
        let to_refault = match how {
            // Something must have zapped it, if only its record comes later.
            Recovery::Refault => Some(empty_for.unwrap_or(0)),
            Recovery::Promotion => empty_for,
            Recovery::InPlace => None,
        };
        if let Some(ns) = to_refault {
            self.time_to_refault.add(ns);
        }
        let since = self.unlogged.since(touch.region, lost.at);
        let took = touch.at.saturating_sub(since);
        self.time_to_recover.add(took);
        self.time_to_recover_from_loss.add(touch.at.saturating_sub(lost.at));
        let read_only = transition == Transition::RecoverReadOnly;
        let returned = Returned { lost, since, at: touch.at, cause, how, read_only };
        self.returned.insert(touch.region, returned);
        let step = Step::Recovered { from: lost.mapping(), how, read_only, took };
        self.counts.step(step);
        report(lost.episode, step);
    }

    fn remap(
        &mut self,
        touch: Touch,
        slots: &Slots,
        report: &mut impl FnMut(Option<NonZeroU32>, Step),
    ) {
        let is_install = touch.change.transition == Transition::Install;
        if is_install {
            self.stays(touch.region, report);
        }
        let taking = Taking::of(touch.change);
        let Some(lost) = self.outstanding.get_mut(&touch.region) else {
            if is_install {
                self.gains.mapped_small(touch.region);
            } else if taking == Some(Taking::Unmap) {
                self.gains.forget_one(touch.region);
            }
            return;
        };
        self.refaults.add(&touch, lost.cause);
        let before = lost.mapping();
        if is_install {
            if let Some(ns) = lost.install(touch.at, touch.leaves) {
                self.time_to_refault.add(ns);
            }
        } else {
            lost.zap(touch.at, touch.leaves);
        }
        let after = lost.mapping();
        if before != after {
            let step = Step::Remapped(before, after);
            let episode = lost.episode;
            self.counts.step(step);
            report(episode, step);
        }
        match taking {
            Some(Taking::Slot) => self.leaving.small(touch.region, before),
            Some(Taking::Unmap) => self.unmapped(touch, slots, before, report),
            None => {}
        }
    }
}

/// Regions that a run of changes touches.
pub fn regions_of(change: &Change) -> impl Iterator<Item = Region> {
    let step = frames(change.level);
    let start = change.gfn & !(step - 1);
    let end = start.saturating_add(u64::from(change.count).max(1).saturating_mul(step));
    let as_id = change.as_id;
    (start / frames(2)..end.div_ceil(frames(2)))
        .map(move |index| Region::of(as_id, index * frames(2)))
}

/// Visits every region that a run of changes touches.
fn each<'a>(at: u64, change: &'a Change, mut visit: impl FnMut(Touch<'a>)) {
    let step = frames(change.level);
    let start = change.gfn & !(step - 1);
    let end = start.saturating_add(u64::from(change.count).max(1).saturating_mul(step));
    for index in start / frames(2)..end.div_ceil(frames(2)) {
        let first = index * frames(2);
        let inside = end.min(first + frames(2)) - start.max(first);
        let leaves = (inside / step) as u16;
        visit(Touch { at, change, region: Region::of(change.as_id, first), leaves });
    }
}
