//! Regions that the host takes from the guest, and the guest faults back, again and again.

use std::collections::{BTreeMap, HashMap};

use collapse_common::{Cause, Transition};

use super::{Region, Touch};

/// Regions remembered at most; further ones are not counted.
const REMEMBERED: usize = 16_384;

/// The round from which on a region counts. Once taken and faulted back is life, and twice may be chance.
const AGAIN: u16 = 3;

/// Rounds of being taken and faulted back, by what took the memory.
#[derive(Clone, Debug, Default)]
pub struct Thrash {
    rounds: HashMap<Region, Round>,
    by_cause: BTreeMap<Cause, Thrashed>,
}

/// The rounds of one region.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// What takes it.
    cause: Cause,
    /// Whether it was taken and not faulted back yet.
    taken: bool,
    /// Times that it was taken and faulted back.
    rounds: u16,
}

/// What one cause takes again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thrashed {
    /// Regions that were taken and faulted back three times or more.
    pub regions: u64,
    /// Such times, from the third of each region on.
    pub rounds: u64,
    /// When the first of these ended, `CLOCK_MONOTONIC` ns.
    pub first: u64,
    /// When the last of these ended, `CLOCK_MONOTONIC` ns.
    pub last: u64,
}

impl Thrash {
    /// Whether changes of this kind are part of rounds.
    pub(super) fn wants(&self, cause: Cause, transition: Transition) -> bool {
        match transition {
            Transition::Zap => takes(cause),
            Transition::Install => cause.is_guest_fault() && !self.rounds.is_empty(),
            _ => false,
        }
    }

    /// Takes what a wanted change does to a region.
    pub(super) fn apply(&mut self, touch: &Touch) {
        let Self { rounds, by_cause } = self;
        let cause = touch.change.cause;
        if touch.change.transition == Transition::Zap {
            if rounds.len() < REMEMBERED || rounds.contains_key(&touch.region) {
                let new = Round { cause, taken: false, rounds: 0 };
                let round = rounds.entry(touch.region).or_insert(new);
                (round.cause, round.taken) = (cause, true);
            }
            return;
        }
        let Some(round) = rounds.get_mut(&touch.region).filter(|round| round.taken) else { return };
        round.taken = false;
        round.rounds = round.rounds.saturating_add(1);
        if round.rounds >= AGAIN {
            let new = Thrashed { first: touch.at, ..Thrashed::default() };
            let thrashed = by_cause.entry(round.cause).or_insert(new);
            thrashed.regions += u64::from(round.rounds == AGAIN);
            thrashed.rounds += 1;
            thrashed.last = touch.at;
        }
    }

    /// What was taken again and again, by cause.
    pub fn by_cause(&self) -> &BTreeMap<Cause, Thrashed> {
        &self.by_cause
    }
}

/// Whether the host takes memory away for no good of the guest's. khugepaged takes small pages to give back a
/// huge one.
fn takes(cause: Cause) -> bool {
    cause.is_notifier() && !matches!(cause, Cause::NotifierThp | Cause::NotifierUnmap)
}
