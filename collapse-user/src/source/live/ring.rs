//! Records from the ring and from open blocks, brought into the order of time.

use std::time::Duration;

use collapse_common::{
    abi::{
        Block, Mark, RECORD_BLOCK, RECORD_MARK, RECORD_SINGLE, RECORD_STACKED, RECORD_VCPU_MARK,
        RowOwner, Single, Stacked, VcpuMark,
    },
    runs::Cursor,
};

use collapse_feed::clock::monotonic_ns;

use crate::{
    identity,
    source::{Event, decode, maps::Maps, stacks::Stacks},
};

/// How hard to try to read a run list that is being changed.
#[derive(Clone, Copy)]
pub struct Patience {
    /// Readings of one list.
    pub tries: usize,
    /// Time between them: a program that was preempted while it changed the list has to finish.
    pub pause: Duration,
}

/// Our place in every run list, and events on their way out.
pub struct Ring {
    /// By run list.
    cursors: Vec<Cursor>,
    /// Events read but not handed out yet.
    pending: Vec<Event>,
    /// Ring-buffer records that this build does not understand.
    unknown: u64,
}

impl Ring {
    /// Starts at the beginning of `lists` run lists.
    pub fn new(lists: usize) -> Self {
        Self { cursors: vec![Cursor::default(); lists], pending: Vec::new(), unknown: 0 }
    }

    /// Reads what the ring and the open blocks hold. Returns the time up to which no event is missing,
    /// `CLOCK_MONOTONIC` ns.
    ///
    /// The lists are copied before the ring is read: blocks that left a list before it was copied are in
    /// the ring by then, so that each change is taken once, see [`Cursor`].
    pub fn read(
        &mut self,
        maps: &mut Maps,
        stacks: &mut Stacks,
        sees_yields: bool,
        patience: Patience,
        owner: impl Fn(&Maps, u32) -> Option<RowOwner>,
    ) -> u64 {
        let at = monotonic_ns();
        let lists = maps.run_lists(patience.tries, patience.pause);
        let (mut runs, mut singles, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(record) = maps.ring.next() {
            if let Some(block) = read_record::<Block>(&record, RECORD_BLOCK) {
                if let Some(cursor) = self.cursors.get_mut(block.list as usize) {
                    cursor.block(&block, |run| runs.push(run));
                }
            } else if let Some(single) = read_record::<Single>(&record, RECORD_SINGLE) {
                singles.push((single, None));
            } else if let Some(stacked) = read_record::<Stacked>(&record, RECORD_STACKED) {
                singles.push((stacked.single, Some(stacks.number(stacked.stack))));
            } else if let Some(mark) = read_record::<Mark>(&record, RECORD_MARK) {
                let event = decode::mark(&mark, sees_yields, identity::process_of_thread);
                self.pending.extend(event);
            } else if let Some(mark) = read_record::<VcpuMark>(&record, RECORD_VCPU_MARK) {
                marks.push(mark);
            } else {
                self.unknown += 1;
            }
        }
        for (cursor, list) in self.cursors.iter_mut().zip(&lists) {
            if let Some(list) = list {
                cursor.open(list, at, |run| runs.push(run));
            }
        }
        for (single, stack) in &singles {
            if let Some(owner) = owner(maps, single.key.row()) {
                self.pending.extend(decode::single(single, *stack, &owner));
            }
        }
        for mark in &marks {
            if let Some(owner) = owner(maps, mark.row) {
                self.pending.extend(decode::vcpu_mark(mark, &owner));
            }
        }
        for run in &runs {
            if let Some(owner) = owner(maps, run.key.row()) {
                self.pending.extend(decode::run(run, &owner));
            }
        }
        at
    }

    /// Returns the events that were read and not handed out.
    pub fn pending(&self) -> &[Event] {
        &self.pending
    }

    /// Hands out events up to a time, oldest first. Later ones are held back: an older one may still
    /// come.
    pub fn hand_out(&mut self, up_to: u64) -> Vec<Event> {
        self.pending.sort_by_key(|event| event.ts);
        let held = self.pending.partition_point(|event| event.ts <= up_to);
        let held = self.pending.split_off(held);
        std::mem::replace(&mut self.pending, held)
    }

    /// Returns the number of changes that the kernel side counts as lost with their block, and that were read
    /// before.
    pub fn salvaged(&self) -> u64 {
        self.cursors.iter().map(Cursor::salvaged).sum()
    }

    /// Returns the number of ring-buffer records that this build does not understand.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }
}

/// Reads a ring-buffer record as a `T`, if its first word and its size fit.
fn read_record<T: aya::Pod>(bytes: &[u8], kind: u32) -> Option<T> {
    let tag = bytes.first_chunk::<4>().map(|word| u32::from_ne_bytes(*word));
    if tag != Some(kind) || bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, and any bytes are a valid `Pod`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use collapse_common::abi::VmKey;
    use proptest::prelude::*;

    use super::*;
    use crate::source::EventKind;

    proptest! {
        /// Each event is handed out once, in the order of time, and none before its time has come.
        #[test]
        fn events_come_in_order(times in prop::collection::vec(0..50u64, 0..40), up_to in 0..50u64) {
            let event = |ts: &u64| Event { ts: *ts, vm: VmKey::default(), tid: 0, kind: EventKind::VmSeen };
            let mut ring = Ring::new(0);
            ring.pending.extend(times.iter().map(event));
            let first = ring.hand_out(up_to);
            prop_assert!(first.iter().all(|event| event.ts <= up_to));
            let rest = ring.hand_out(u64::MAX);
            let all: Vec<_> = first.iter().chain(&rest).map(|event| event.ts).collect();
            let mut sorted = times;
            sorted.sort_unstable();
            prop_assert_eq!(all, sorted);
        }
    }

    #[test]
    fn a_record_is_read_by_its_first_word_and_its_size() {
        let mut bytes = vec![0; size_of::<Single>()];
        bytes[..4].copy_from_slice(&RECORD_SINGLE.to_ne_bytes());
        bytes[4..8].copy_from_slice(&7u32.to_ne_bytes());
        assert_eq!(read_record::<Single>(&bytes, RECORD_SINGLE).map(|single| single.tid), Some(7));
        assert!(read_record::<Single>(&bytes, RECORD_MARK).is_none());
        assert!(read_record::<Single>(&bytes[..bytes.len() - 1], RECORD_SINGLE).is_none());
        assert!(read_record::<Single>(&[], RECORD_SINGLE).is_none());
    }
}
