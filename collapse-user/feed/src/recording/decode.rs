//! Decoding of payloads to batches. Payloads are not trusted.

use std::collections::BTreeSet;

use collapse_common::{
    Cause, Transition,
    abi::{Loss, VmKey},
    counter::{COUNTERS, transition_at},
    latency::{BUCKETS, NO_LATENCIES, SUMS},
    spte::frames,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    Malformed,
    wire::{
        BatchRecord, CellsRecord, ChangeKind, Changed, CodecState, EventKindRecord, EventRecord,
        EventsRecord, HugetlbRecord, ReadingRecord, SlotRecord, SlotsRecord, StacksRecord,
        UuidsRecord, VisibilityRecord, VmRecord, vm_key,
    },
};
use crate::{
    Batch, Change, Collapse, Event, EventKind, LongFault, Overhead, Slot, Sptes, Update, VmReading,
};

/// Maximum number of events of a batch: more than occur in a second, few enough for memory.
const MAX_EVENTS: usize = 1 << 23;

/// Maximum number of kinds of losses, and maximum length of the name of one, bytes.
const MAX_LOSSES: usize = 64;
const MAX_LOSS_NAME: usize = 64;

/// Bound above any guest frame number: x86 has 52 bits of physical address.
const MAX_GFN: u64 = 1 << 40;
const TOO_LONG: Malformed = "a range of guest frames is too long";

/// Maximum number of guest frames mapped by the leaves of one run: 16 TiB, more than a guest has.
const MAX_RUN: u64 = 1 << 32;

/// Bounds above any count (500 000 a second for a year) and above any sum of times (two years in ns).
/// With them, sums over all counts of a VM cannot overflow. KVM's own gauges have no bound.
const MAX_COUNT: u64 = 1 << 44;
const MAX_SUM: u64 = 1 << 56;
const TOO_MUCH: Malformed = "a count is too high";

/// Bound above any time: 292 years in ns.
const MAX_TIME: u64 = 1 << 63;
const TOO_LATE: Malformed = "a time is too late";

/// Maximum numbers of VMs, threads and kinds of changes in a segment.
const MAX_VMS: usize = 1 << 18;
const MAX_THREADS: usize = 1 << 22;
const MAX_KINDS: usize = 1 << 14;
const TOO_MANY: Malformed = "too many VMs, threads or kinds of changes";

/// Maximum number of stacks in a segment, of functions in a stack, and of bytes in the name of one.
const MAX_STACKS: usize = 1 << 16;
const MAX_FRAMES: usize = 1 << 8;
const MAX_NAME: usize = 1 << 9;

const NO_VM: Malformed = "an unknown VM";

/// A decoder of the blocks of one segment to batches.
#[derive(Debug, Default)]
pub struct Decoder {
    state: CodecState,
    vms: Vec<VmKey>,
    threads: Vec<(VmKey, u32)>,
    changes: Vec<Change>,
    losses: Vec<(&'static str, u64)>,
    /// Events of the incomplete batch, as are the fields below.
    events: Vec<Event>,
    hugetlb: Vec<(VmKey, u64)>,
    uuids: Vec<(VmKey, Uuid)>,
    slots: Vec<(VmKey, Vec<Slot>)>,
    stacks: StacksRecord,
    overhead: Option<Overhead>,
    /// Numbers of all stacks so far.
    known_stacks: BTreeSet<u32>,
}

/// Decodes the value of a payload.
pub fn value<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err("a block's encoding is broken"),
    }
}

impl Decoder {
    /// Decodes a part of the next batch's events.
    pub fn events(&mut self, record: EventsRecord) -> Result<(), Malformed> {
        self.name(record.vms)?;
        if self.threads.len() + record.threads.len() > MAX_THREADS
            || self.changes.len() + record.changes.len() > MAX_KINDS
        {
            return Err(TOO_MANY);
        }
        for (vm, tid) in record.threads {
            self.threads.push((self.vm(vm)?, tid));
        }
        for kind in record.changes {
            self.changes.push(change(kind)?);
        }
        if self.events.len() + record.events.len() > MAX_EVENTS {
            return Err("a batch is too long");
        }
        for event in record.events {
            let event = self.event(event)?;
            self.events.push(event);
        }
        Ok(())
    }

    /// Decodes the stacks of the next batch.
    pub fn stacks(&mut self, record: StacksRecord) -> Result<(), Malformed> {
        self.known_stacks.extend(record.iter().map(|(number, _)| *number));
        let fits = |name: &String| name.len() <= MAX_NAME && !name.contains(char::is_control);
        let fit = |(_, frames): &(u32, Vec<String>)| {
            frames.len() <= MAX_FRAMES && frames.iter().all(fits)
        };
        if self.known_stacks.len().max(self.stacks.len() + record.len()) > MAX_STACKS
            || !record.iter().all(fit)
        {
            return Err("too many or too large stacks");
        }
        self.stacks.extend(record);
        Ok(())
    }

    /// Keeps the overhead for the next batch.
    pub fn overhead(&mut self, overhead: Overhead) {
        self.overhead = Some(overhead);
    }

    /// Decodes the memory from hugetlbfs of the next batch.
    pub fn hugetlb(&mut self, record: HugetlbRecord) -> Result<(), Malformed> {
        self.vms.extend(record.vms.into_iter().map(vm_key));
        for (vm, bytes) in record.bytes {
            self.hugetlb.push((self.vm(vm)?, bytes));
        }
        Ok(())
    }

    /// Decodes the UUIDs of the next batch.
    pub fn uuids(&mut self, record: UuidsRecord) -> Result<(), Malformed> {
        self.name(record.vms)?;
        for (vm, uuid) in record.uuids {
            self.uuids.push((self.vm(vm)?, Uuid::from_bytes(uuid)));
        }
        Ok(())
    }

    /// Decodes the memslots, in the next batch, of VMs that existed before.
    pub fn slots(&mut self, record: SlotsRecord) -> Result<(), Malformed> {
        self.name(record.vms)?;
        for (vm, slots) in record.slots {
            let vm = self.vm(vm)?;
            let placed = |(slot, at)| checked(slot).map(|slot| Slot { userspace_addr: at, ..slot });
            self.slots.push((vm, slots.into_iter().map(placed).collect::<Result<_, _>>()?));
        }
        Ok(())
    }

    /// Decodes the rest of a batch, and completes it.
    pub fn batch(&mut self, record: BatchRecord) -> Result<Batch, Malformed> {
        self.name(record.vms)?;
        let mut batch = Batch {
            at: self.later(record.at)?,
            settled: record.settled,
            events: std::mem::take(&mut self.events),
            hugetlb: std::mem::take(&mut self.hugetlb),
            uuids: std::mem::take(&mut self.uuids),
            slots: std::mem::take(&mut self.slots),
            stacks: std::mem::take(&mut self.stacks),
            overhead: self.overhead.take(),
            ..Batch::default()
        };
        for reading in record.readings {
            batch.vms.push(self.reading(reading)?);
        }
        for CellsRecord { vm, cause, cells } in record.rows {
            let (key, cause) = (self.vm(vm)?, known_cause(cause)?);
            let row = self.state.rows.entry((vm, cause));
            let row = row.or_insert_with(|| Box::new([0; COUNTERS]));
            add(row.as_mut_slice(), &cells, |at| {
                if transition_at(at).is_some() { MAX_COUNT } else { MAX_SUM }
            })?;
            batch.rows.push((key, cause, row.clone()));
        }
        for CellsRecord { vm, cause, cells } in record.latencies {
            let (key, cause) = (self.vm(vm)?, known_cause(cause)?);
            let latencies = self.state.latencies.entry((vm, cause));
            let latencies = latencies.or_insert_with(|| Box::new(NO_LATENCIES));
            add(latencies.as_flattened_mut(), &cells, |at| {
                if at < SUMS * BUCKETS { MAX_COUNT } else { MAX_SUM }
            })?;
            batch.latencies.push((key, cause, latencies.clone()));
        }
        for name in record.loss_names {
            if self.losses.len() >= MAX_LOSSES || name.len() > MAX_LOSS_NAME {
                return Err("too many kinds of losses");
            }
            self.losses.push((loss_name(name), 0));
        }
        for (place, n) in record.losses {
            let loss = self.losses.get_mut(place as usize).ok_or("an unknown loss")?;
            loss.1 = below(loss.1.wrapping_add(n), MAX_COUNT)?;
            batch.losses.push(*loss);
        }
        let freed = |event: &&Event| matches!(event.kind, EventKind::VmFreed);
        for event in batch.events.iter().filter(freed) {
            if let Some(place) = self.vms.iter().position(|vm| *vm == event.vm) {
                self.state.forget(place as u32);
            }
        }
        Ok(batch)
    }

    /// Decodes a change in whether anything is seen.
    pub fn visibility(&mut self, record: VisibilityRecord) -> Result<Update, Malformed> {
        Ok(match record {
            VisibilityRecord::Detached(since, why) => {
                Update::Detached { at: self.later(since)?, why }
            }
            VisibilityRecord::Unwatched(since) => Update::Unwatched { at: self.later(since)? },
            VisibilityRecord::Attached(since) => {
                self.state.start_over();
                for (_, n) in &mut self.losses {
                    *n = 0;
                }
                Update::Attached { at: self.later(since)? }
            }
        })
    }

    fn later(&mut self, since: i64) -> Result<u64, Malformed> {
        self.state.at = time(self.state.at, since)?;
        Ok(self.state.at)
    }

    fn name(&mut self, vms: Vec<VmRecord>) -> Result<(), Malformed> {
        if self.vms.len() + vms.len() > MAX_VMS {
            return Err(TOO_MANY);
        }
        self.vms.extend(vms.into_iter().map(vm_key));
        Ok(())
    }

    fn vm(&self, place: u32) -> Result<VmKey, Malformed> {
        self.vms.get(place as usize).copied().ok_or(NO_VM)
    }

    fn event(&mut self, record: EventRecord) -> Result<Event, Malformed> {
        let (vm, tid) = *self.threads.get(record.thread as usize).ok_or("an unknown thread")?;
        let ts = time(self.state.ts, record.ts)?;
        self.state.ts = ts;
        let kind = match record.kind {
            EventKindRecord::Change(place, since, count) => {
                EventKind::Change(self.change(place, since, count)?)
            }
            EventKindRecord::Single(place, since, old, new) => {
                let sptes = Some(self.sptes(old, new));
                EventKind::Change(Change { sptes, ..self.change(place, since, 1)? })
            }
            EventKindRecord::Stacked(place, since, stack, sptes) => {
                if !self.known_stacks.contains(&stack) {
                    return Err("an unknown stack");
                }
                let sptes = sptes.map(|(old, new)| self.sptes(old, new));
                let stack = Some(stack);
                EventKind::Change(Change { sptes, stack, ..self.change(place, since, 1)? })
            }
            EventKindRecord::VmCreated(pages, process) => EventKind::VmCreated { pages, process },
            EventKindRecord::RingFull(vcpu) => EventKind::RingFull { vcpu },
            EventKindRecord::LongFault(cause, vcpu, address, duration) => {
                let cause = Cause::from_number(cause).ok_or("an unknown cause")?;
                EventKind::LongFault(LongFault { cause, vcpu, address, duration })
            }
            EventKindRecord::NoProgress(none) => EventKind::NoProgress(none),
            EventKindRecord::VmSeen => EventKind::VmSeen,
            EventKindRecord::VmDestroyed(pages) => EventKind::VmDestroyed { pages },
            EventKindRecord::VmFlushed(pages) => EventKind::VmFlushed { pages },
            EventKindRecord::VmFreed => EventKind::VmFreed,
            EventKindRecord::SlotChanged(slot, change, logging) => {
                EventKind::SlotChanged { slot: checked(slot)?, change, logging }
            }
            EventKindRecord::SlotPlaced(slot, change, logging, at) => {
                let slot = Slot { userspace_addr: Some(at), ..checked(slot)? };
                EventKind::SlotChanged { slot, change, logging }
            }
            EventKindRecord::Collapse(slot, duration, pages_before, pages_after, yields) => {
                let start = time(ts, duration.wrapping_neg())?;
                let slot = checked(slot)?;
                EventKind::Collapse(Collapse { slot, start, pages_before, pages_after, yields })
            }
        };
        Ok(Event { ts, vm, tid, kind })
    }

    fn sptes(&mut self, old: i64, new: i64) -> Sptes {
        let before = self.state.sptes;
        self.state.sptes = Sptes {
            old: before.old.wrapping_add_signed(old),
            new: before.new.wrapping_add_signed(new),
        };
        self.state.sptes
    }

    fn change(&mut self, place: u32, since: i64, count: u32) -> Result<Change, Malformed> {
        let kind = self.changes.get(place as usize).ok_or("an unknown kind of change")?;
        let gfn = self.state.gfn.wrapping_add_signed(since);
        let end = u64::from(count)
            .checked_mul(frames(kind.level))
            .filter(|frames| kind.level > 3 || *frames <= MAX_RUN)
            .and_then(|frames| frames.checked_add(gfn))
            .filter(|end| *end <= MAX_GFN)
            .ok_or(TOO_LONG)?;
        self.state.gfn = end;
        Ok(Change { gfn, count, ..*kind })
    }

    fn reading(&mut self, record: ReadingRecord) -> Result<VmReading, Malformed> {
        let vm = self.vm(record.vm)?;
        let nothing = VmReading { vm, pages: None, process: None, fd: None };
        let reading = self.state.readings.entry(record.vm).or_insert(nothing);
        if let Changed::To(pages) = record.pages {
            let before = reading.pages.unwrap_or_default();
            reading.pages = pages.map(|change| {
                std::array::from_fn(|size| before[size].wrapping_add_signed(change[size]))
            });
        }
        if let Changed::To(process) = record.process {
            reading.process = process;
        }
        if let Changed::To(fd) = record.fd {
            reading.fd = fd;
        }
        Ok(reading.clone())
    }
}

fn checked(slot: SlotRecord) -> Result<Slot, Malformed> {
    let slot = Slot::from(slot);
    let end = slot.base_gfn.checked_add(slot.npages);
    if end.is_some_and(|end| end <= MAX_GFN) { Ok(slot) } else { Err(TOO_LONG) }
}

fn change(kind: ChangeKind) -> Result<Change, Malformed> {
    let ChangeKind { cause, transition, level, as_id, read_only } = kind;
    if !(1..=5).contains(&level) {
        return Err("an unknown level");
    }
    let transition = Transition::from_number(transition).ok_or("an unknown transition")?;
    let cause = known_cause(cause)?;
    Ok(Change {
        cause,
        transition,
        level,
        as_id,
        gfn: 0,
        count: 0,
        read_only,
        sptes: None,
        stack: None,
    })
}

fn known_cause(number: u8) -> Result<Cause, Malformed> {
    Cause::from_number(number).ok_or("an unknown cause")
}

fn add(
    counts: &mut [u64],
    cells: &[(u16, u64)],
    limit: impl Fn(usize) -> u64,
) -> Result<(), Malformed> {
    for (at, n) in cells {
        let at = usize::from(*at);
        let count = counts.get_mut(at).ok_or("an unknown count")?;
        *count = below(count.wrapping_add(*n), limit(at))?;
    }
    Ok(())
}

fn below(count: u64, limit: u64) -> Result<u64, Malformed> {
    if count < limit { Ok(count) } else { Err(TOO_MUCH) }
}

fn time(before: u64, since: i64) -> Result<u64, Malformed> {
    let time = before.wrapping_add_signed(since);
    if time < MAX_TIME { Ok(time) } else { Err(TOO_LATE) }
}

/// Returns the name of a loss for the life of the program. A name that only another build knows is
/// leaked: such names are few and short.
fn loss_name(name: String) -> &'static str {
    Loss::from_name(&name).map_or_else(|| &*name.leak(), Loss::name)
}
