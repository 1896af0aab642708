//! The episodes of one VM: dirty logging on, split, off, collapse, recovery.

mod cost;
mod record;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
};

pub use cost::{EpisodeCost, FaultCost, NoCost, PmlFullCost};
pub use record::{CollapseSums, Episode, Outcome, Phase};

use super::{regions::Step, span::CollapseSpan};
use collapse_feed::{Change, Slot, SlotChange};

/// Episodes kept per VM; older ones are only counted.
pub const EPISODES_KEPT: usize = 64;

/// `KVM_MEM_READONLY`: the collapse routine does not run for such a slot.
const READ_ONLY: u32 = 2;

/// Slots by address space and id.
pub type Slots = BTreeMap<(u16, u16), Slot>;

/// The episodes of one VM. At most the latest is in progress: dirty logging going on for the VM as a
/// whole begins one and ends the one before. The slot of a display that is logged all the time begins
/// none.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    kept: VecDeque<Episode>,
    count: u32,
    /// Slots of the latest whose collapse run is due.
    due: BTreeSet<(u16, u16)>,
    /// The first episode that lost regions since the last reading of totals.
    in_reading: Option<NonZeroU32>,
    /// Cost by the VM's totals when they were last credited, and at the last reading.
    credited: EpisodeCost,
    read: EpisodeCost,
}

/// Guest frames of the slots with dirty logging.
fn logging_slots(known: &Slots) -> BTreeMap<(u16, u16), u64> {
    known
        .iter()
        .filter(|(_, slot)| slot.is_logging())
        .map(|(key, slot)| (*key, slot.npages))
        .collect()
}

impl Episodes {
    /// The latest episodes, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Episode> + ExactSizeIterator {
        self.kept.iter()
    }

    /// All episodes.
    pub fn count(&self) -> u64 {
        self.count.into()
    }

    /// The episode that regions lost now belong to.
    pub(super) fn losing(&self) -> Option<NonZeroU32> {
        self.kept.back().filter(|episode| episode.is_losing()).map(|episode| episode.number)
    }

    /// Starts with these slots known at `at` ns, when we begin to watch. `logging` says whether their
    /// dirty logging concerns the VM as a whole.
    pub(super) fn start(&mut self, at: u64, known: &Slots, logging: bool) {
        *self = Self::default();
        if logging {
            self.begin(at, true).slots = logging_slots(known);
        }
    }

    /// A slot changed at `at` ns. `known` are the slots before that, `watched` is when we began to
    /// watch, ns, and `logging` says whether dirty logging concerns the VM as a whole now.
    pub(super) fn slot(
        &mut self,
        at: u64,
        watched: u64,
        known: &Slots,
        slot: Slot,
        change: SlotChange,
        logging: bool,
    ) {
        let key = (slot.as_id, slot.id);
        let was_on = known.get(&key).is_some_and(Slot::is_logging);
        let is_on = change != SlotChange::Deleted && slot.is_logging();
        // It must have been on before we watched, or its mark was lost.
        let unseen = !was_on
            && (change == SlotChange::LogOff
                || is_on && !matches!(change, SlotChange::Created | SlotChange::LogOn));
        if unseen {
            self.begin_before(watched, is_on);
        } else if logging && !self.is_logging() {
            self.begin(at, false).slots = logging_slots(known);
        }
        let Some(episode) = self.kept.back_mut() else { return };
        // A display's slot, say, or one of a VM that has ended.
        let mine = unseen || episode.phase == Phase::Logging || episode.slots.contains_key(&key);
        if !(was_on || is_on || unseen) || !mine || episode.phase == Phase::Ended && !unseen {
            return;
        }
        episode.slots.insert(key, slot.npages);
        if is_on {
            return;
        }
        if change != SlotChange::Deleted && slot.flags & READ_ONLY == 0 {
            self.due.insert(key);
        }
        if !logging {
            self.kept.iter_mut().for_each(|episode| episode.logging_again = false);
            let Some(episode) = self.kept.back_mut() else { return };
            if unseen || episode.log_off.is_none() {
                episode.log_off = Some(at);
            }
            let collapsed = self.due.is_empty();
            episode.enter(at, if collapsed { Phase::Recovering } else { Phase::Collapsing });
        }
    }

    /// SPTEs changed.
    pub(super) fn change(&mut self, at: u64, change: &Change) {
        if let Some(episode) = self.kept.back_mut().filter(|episode| episode.is_losing()) {
            episode.change(at, change);
        }
    }

    /// Something happened to a region that belongs to `episode`.
    pub(super) fn step(&mut self, at: u64, episode: Option<NonZeroU32>, step: Step) {
        let Some(number) = episode else { return };
        let Some(first) = self.kept.front().map(|first| first.number.get()) else { return };
        let place = number.get().checked_sub(first).map(|place| place as usize);
        if let Some(episode) = place.and_then(|place| self.kept.get_mut(place)) {
            episode.step(at, step);
            episode.enter(at, episode.phase);
        }
    }

    /// The collapse routine ran.
    pub(super) fn collapse(&mut self, at: u64, span: &CollapseSpan) {
        let key = (span.slot.as_id, span.slot.id);
        let Some(episode) = self.kept.back_mut() else { return };
        if !episode.slots.contains_key(&key) {
            return;
        }
        episode.collapse.add(span);
        self.due.remove(&key);
        if episode.phase == Phase::Collapsing && self.due.is_empty() {
            episode.enter(at, Phase::Recovering);
        }
    }

    /// The VM ended.
    pub(super) fn end(&mut self, at: u64) {
        if let Some(episode) = self.kept.back_mut() {
            episode.enter(at, Phase::Ended);
        }
    }

    /// The VM's totals were read: their change since the reading before is the cost of the episode
    /// that was in progress meanwhile. `since_start` is the cost by the VM's totals since we
    /// watch; `None` if they were read for the first time, so that their change is unknown.
    ///
    /// Totals are read after the events, so they may already hold faults of an episode whose begin
    /// comes with the next batch: a change that is of no episode waits for one reading.
    pub(super) fn credit(&mut self, since_start: Option<EpisodeCost>) {
        let first = self.in_reading;
        self.in_reading = self.losing();
        let read = since_start.unwrap_or_default();
        if let Some(first) = first {
            let cost = match since_start {
                None => Err(NoCost::BeganBefore),
                Some(_) if first.get() < self.count => Err(NoCost::Shared),
                Some(read) => Ok(read - self.credited),
            };
            for episode in self.kept.iter_mut().filter(|episode| episode.number >= first) {
                episode.cost = match (episode.cost, cost) {
                    (Ok(before), Ok(cost)) => Ok(before.plus(cost)),
                    (Err(reason), _) | (_, Err(reason)) => Err(reason),
                };
            }
            self.credited = read;
        } else {
            self.credited = self.read;
        }
        self.read = read;
    }

    fn is_logging(&self) -> bool {
        self.kept.back().is_some_and(|episode| episode.phase == Phase::Logging)
    }

    fn begin(&mut self, at: u64, before: bool) -> &mut Episode {
        self.end(at);
        self.kept.iter_mut().for_each(|episode| episode.logging_again = true);
        self.due.clear();
        let number = NonZeroU32::MIN.saturating_add(self.count);
        self.count = number.get();
        self.in_reading = self.in_reading.or(Some(number));
        if self.kept.len() == EPISODES_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Episode::new(number, at, before));
        let last = self.kept.len() - 1;
        &mut self.kept[last]
    }

    /// Begins an episode whose log-on was not seen, unless the slot belongs to one already.
    fn begin_before(&mut self, watched: u64, is_on: bool) {
        // Slots that log from before we watched are of one episode, although each becomes known
        // only as its logging goes off, when those before it may be through.
        let joins =
            |latest: &Episode| latest.phase == Phase::Logging || latest.began_before && !is_on;
        let latest = self.kept.back();
        if !latest.is_some_and(joins) {
            let earliest = latest.and_then(|latest| latest.log_off).unwrap_or_default();
            self.begin(earliest.max(watched), true);
        }
    }
}
