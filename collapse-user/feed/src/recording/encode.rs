//! Encoding of batches as payloads.

use std::{collections::BTreeMap, io};

use collapse_common::{abi::VmKey, counter::COUNTERS, latency::NO_LATENCIES, spte::frames};
use serde::Serialize;

use super::{
    block::{self, BlockKind},
    wire::{
        BatchRecord, CellsRecord, ChangeKind, Changed, CodecState, EventKindRecord, EventRecord,
        EventsRecord, HugetlbRecord, ReadingRecord, SlotsRecord, UuidsRecord, VisibilityRecord,
        vm_record,
    },
};
use crate::{Batch, Change, Event, EventKind, LongFault, VmReading};

/// Maximum number of events in a block, which bounds the memory of a reader.
const EVENTS: usize = 1 << 14;

/// An encoder of batches as the blocks of one segment.
#[derive(Debug, Default)]
pub struct Encoder {
    state: CodecState,
    vms: Places<VmKey>,
    threads: Places<(u32, u32)>,
    changes: Places<ChangeKind>,
    losses: BTreeMap<&'static str, (u32, u64)>,
}

/// Numbers given to values in the order in which they first occur.
#[derive(Debug)]
struct Places<T>(BTreeMap<T, u32>);

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Copy> Places<T> {
    /// Returns the number of a value; one that occurs for the first time is added to `new`.
    fn of<N>(&mut self, named: T, new: &mut Vec<N>, record: impl FnOnce(T) -> N) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(named).or_insert_with(|| {
            new.push(record(named));
            next
        })
    }
}

/// Appends a block that holds one value.
pub fn append(kind: BlockKind, value: &impl Serialize, to: &mut Vec<u8>) -> io::Result<()> {
    let payload = postcard::to_stdvec(value).map_err(io::Error::other)?;
    block::append(kind, &payload, to)
}

impl Encoder {
    /// Appends the blocks of a batch. The last one is of `kind`.
    pub fn batch(&mut self, kind: BlockKind, batch: &Batch, to: &mut Vec<u8>) -> io::Result<()> {
        if !batch.stacks.is_empty() {
            append(BlockKind::Stacks, &batch.stacks, to)?;
        }
        for events in batch.events.chunks(EVENTS) {
            append(BlockKind::Events, &self.events(events), to)?;
        }
        if let Some(overhead) = &batch.overhead {
            append(BlockKind::Overhead, overhead, to)?;
        }
        if !batch.hugetlb.is_empty() {
            append(BlockKind::Hugetlb, &self.hugetlb(batch), to)?;
        }
        if !batch.uuids.is_empty() {
            append(BlockKind::Uuids, &self.uuids(batch), to)?;
        }
        if !batch.slots.is_empty() {
            append(BlockKind::Slots, &self.slots(batch), to)?;
        }
        append(kind, &self.counts(batch), to)?;
        for event in batch.events.iter().filter(|event| matches!(event.kind, EventKind::VmFreed)) {
            if let Some(place) = self.vms.0.get(&event.vm) {
                self.state.forget(*place);
            }
        }
        Ok(())
    }

    /// Appends the block of an [`Update::Detached`](crate::Update::Detached).
    pub fn detached(&mut self, at: u64, why: &str, to: &mut Vec<u8>) -> io::Result<()> {
        append(
            BlockKind::Visibility,
            &VisibilityRecord::Detached(self.since_batch(at), why.to_owned()),
            to,
        )
    }

    /// Appends the block of an [`Update::Unwatched`](crate::Update::Unwatched).
    pub fn unwatched(&mut self, at: u64, to: &mut Vec<u8>) -> io::Result<()> {
        append(BlockKind::Visibility, &VisibilityRecord::Unwatched(self.since_batch(at)), to)
    }

    /// Appends the block of an [`Update::Attached`](crate::Update::Attached).
    pub fn attached(&mut self, at: u64, to: &mut Vec<u8>) -> io::Result<()> {
        self.state.start_over();
        for (_, n) in self.losses.values_mut() {
            *n = 0;
        }
        append(BlockKind::Visibility, &VisibilityRecord::Attached(self.since_batch(at)), to)
    }

    fn since_batch(&mut self, at: u64) -> i64 {
        let since = at.wrapping_sub(self.state.at) as i64;
        self.state.at = at;
        since
    }

    fn events(&mut self, events: &[Event]) -> EventsRecord {
        let mut record = EventsRecord::default();
        for event in events {
            let vm = self.vms.of(event.vm, &mut record.vms, vm_record);
            let thread = self.threads.of((vm, event.tid), &mut record.threads, |thread| thread);
            let ts = event.ts.wrapping_sub(self.state.ts) as i64;
            self.state.ts = event.ts;
            let kind = self.kind(event, &mut record.changes);
            record.events.push(EventRecord { ts, thread, kind });
        }
        record
    }

    fn kind(&mut self, event: &Event, new: &mut Vec<ChangeKind>) -> EventKindRecord {
        match &event.kind {
            EventKind::Change(change) => {
                let &Change {
                    cause,
                    transition,
                    level,
                    as_id,
                    gfn,
                    count,
                    read_only,
                    sptes,
                    stack,
                } = change;
                let (cause, transition) = (cause as u8, transition as u8);
                let kind = ChangeKind { cause, transition, level, as_id, read_only };
                let place = self.changes.of(kind, new, |kind| kind);
                let since = gfn.wrapping_sub(self.state.gfn) as i64;
                self.state.gfn = gfn.wrapping_add(u64::from(count).wrapping_mul(frames(level)));
                let sptes = sptes.map(|sptes| {
                    let before = std::mem::replace(&mut self.state.sptes, sptes);
                    let since_before = |new: u64, old: u64| new.wrapping_sub(old) as i64;
                    (since_before(sptes.old, before.old), since_before(sptes.new, before.new))
                });
                match (stack, sptes) {
                    (Some(stack), sptes) => EventKindRecord::Stacked(place, since, stack, sptes),
                    (None, Some((old, new))) => EventKindRecord::Single(place, since, old, new),
                    (None, None) => EventKindRecord::Change(place, since, count),
                }
            }
            EventKind::VmCreated { pages, process } => {
                EventKindRecord::VmCreated(*pages, process.clone())
            }
            EventKind::RingFull { vcpu } => EventKindRecord::RingFull(*vcpu),
            &EventKind::LongFault(LongFault { cause, vcpu, address, duration }) => {
                EventKindRecord::LongFault(cause as u8, vcpu, address, duration)
            }
            &EventKind::NoProgress(none) => EventKindRecord::NoProgress(none),
            EventKind::VmSeen => EventKindRecord::VmSeen,
            EventKind::VmDestroyed { pages } => EventKindRecord::VmDestroyed(*pages),
            EventKind::VmFlushed { pages } => EventKindRecord::VmFlushed(*pages),
            EventKind::VmFreed => EventKindRecord::VmFreed,
            EventKind::SlotChanged { slot, change, logging } => {
                let (record, change, logging) = ((*slot).into(), *change, *logging);
                match slot.userspace_addr {
                    Some(at) => EventKindRecord::SlotPlaced(record, change, logging, at),
                    None => EventKindRecord::SlotChanged(record, change, logging),
                }
            }
            EventKind::Collapse(collapse) => EventKindRecord::Collapse(
                collapse.slot.into(),
                event.ts.wrapping_sub(collapse.start) as i64,
                collapse.pages_before,
                collapse.pages_after,
                collapse.yields,
            ),
        }
    }

    fn hugetlb(&mut self, batch: &Batch) -> HugetlbRecord {
        let mut record = HugetlbRecord::default();
        for (vm, bytes) in &batch.hugetlb {
            let vm = self.vms.of(*vm, &mut record.vms, vm_record);
            record.bytes.push((vm, *bytes));
        }
        record
    }

    fn uuids(&mut self, batch: &Batch) -> UuidsRecord {
        let mut record = UuidsRecord::default();
        for (vm, uuid) in &batch.uuids {
            let vm = self.vms.of(*vm, &mut record.vms, vm_record);
            record.uuids.push((vm, uuid.into_bytes()));
        }
        record
    }

    fn slots(&mut self, batch: &Batch) -> SlotsRecord {
        let mut record = SlotsRecord::default();
        for (vm, slots) in &batch.slots {
            let vm = self.vms.of(*vm, &mut record.vms, vm_record);
            let slots = slots.iter().map(|slot| ((*slot).into(), slot.userspace_addr));
            record.slots.push((vm, slots.collect()));
        }
        record
    }

    fn counts(&mut self, batch: &Batch) -> BatchRecord {
        let mut record = BatchRecord {
            at: self.since_batch(batch.at),
            settled: batch.settled,
            ..BatchRecord::default()
        };
        for reading in &batch.vms {
            let vm = self.vms.of(reading.vm, &mut record.vms, vm_record);
            record.readings.push(changed(vm, self.state.readings.get(&vm), reading));
            self.state.readings.insert(vm, reading.clone());
        }
        for (vm, cause, row) in &batch.rows {
            let vm = self.vms.of(*vm, &mut record.vms, vm_record);
            let before = self.state.rows.insert((vm, *cause), row.clone());
            let known = before.is_some();
            let before = before.unwrap_or_else(|| Box::new([0; COUNTERS]));
            let cells = differences(before.iter(), row.iter());
            if !known || !cells.is_empty() {
                record.rows.push(CellsRecord { vm, cause: *cause as u8, cells });
            }
        }
        for (vm, cause, latencies) in &batch.latencies {
            let vm = self.vms.of(*vm, &mut record.vms, vm_record);
            let before = self.state.latencies.insert((vm, *cause), latencies.clone());
            let known = before.is_some();
            let before = before.unwrap_or_else(|| Box::new(NO_LATENCIES));
            let cells = differences(before.iter().flatten(), latencies.iter().flatten());
            if !known || !cells.is_empty() {
                record.latencies.push(CellsRecord { vm, cause: *cause as u8, cells });
            }
        }
        for (name, n) in &batch.losses {
            let next = self.losses.len() as u32;
            let known = self.losses.get(name).copied();
            let (place, before) = known.unwrap_or_else(|| {
                record.loss_names.push((*name).to_owned());
                (next, 0)
            });
            if known.is_none() || before != *n {
                record.losses.push((place, n.wrapping_sub(before)));
            }
            self.losses.insert(name, (place, *n));
        }
        record
    }
}

fn changed(vm: u32, before: Option<&VmReading>, now: &VmReading) -> ReadingRecord {
    let pages_before = before.and_then(|before| before.pages);
    let pages = now.pages.map(|pages| {
        let before = pages_before.unwrap_or_default();
        std::array::from_fn(|size| pages[size].wrapping_sub(before[size]) as i64)
    });
    let process_changed = before.is_none_or(|before| before.process != now.process);
    let fd_changed = before.is_none_or(|before| before.fd != now.fd);
    ReadingRecord {
        vm,
        pages: Changed::when(now.pages != pages_before, || pages),
        process: Changed::when(process_changed, || now.process.clone()),
        fd: Changed::when(fd_changed, || now.fd),
    }
}

fn differences<'a>(
    before: impl Iterator<Item = &'a u64>,
    now: impl Iterator<Item = &'a u64>,
) -> Vec<(u16, u64)> {
    let changes = before.zip(now).map(|(before, now)| now.wrapping_sub(*before));
    changes.enumerate().filter(|(_, n)| *n != 0).map(|(at, n)| (at as u16, n)).collect()
}
