//! Batches, changes, coverage and recordings for tests: arbitrary ones, and some of known content.

use std::io::Cursor;

use collapse_common::{
    Cause, SpteLayout, Transition,
    abi::{Loss, Row, VmKey},
    counter::{COUNTERS, index},
    latency::{BUCKETS, NO_LATENCIES},
    spte::frames,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    Batch, Change, Collapse, Coverage, Degraded, DetailStep, Event, EventKind, LongFault, Machine,
    Mmu, NameSource, NoProgress, Overhead, Paging, Signal, SignalStatus, Slot, SlotChange, Sptes,
    Update, VmName, VmProcess, VmReading,
    recording::{
        RecordedCommand, Recorder, RecordingEnd, RecordingError, Replay, SizeLimits, create,
    },
};

/// Makes the key of VM `number`.
pub fn key(number: u64) -> VmKey {
    VmKey { kvm: 0xffff_8880_0000_0000 + number, born: number }
}

/// Makes the process of a VM called `vm`.
pub fn process(pid: u32) -> VmProcess {
    let name = VmName { text: "vm".to_owned(), source: NameSource::Comm };
    VmProcess { pid, tid: pid + 1, comm: "qemu".to_owned(), name }
}

/// Draws a number that is small, arbitrary, or the highest below `limit`.
fn number(limit: u64) -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0..9u64, 0..limit, Just(limit - 1)]
}

fn count() -> impl Strategy<Value = u64> + Clone {
    number(1 << 44)
}

fn time() -> impl Strategy<Value = u64> + Clone {
    number(1 << 63)
}

fn pages() -> impl Strategy<Value = Option<[u64; 3]>> {
    prop::option::of([number(u64::MAX), number(u64::MAX), number(u64::MAX)])
}

/// Number of stacks that arbitrary changes refer to.
const STACKS: u32 = 3;

/// Returns the stacks that arbitrary changes refer to; the first could not be taken.
pub fn stacks() -> Vec<(u32, Vec<String>)> {
    (0..STACKS).map(|number| (number, vec!["zap".to_owned(); number as usize])).collect()
}

fn slot() -> impl Strategy<Value = Slot> {
    (any::<u16>(), any::<u16>(), number(1 << 39), number(1 << 39), any::<u32>()).prop_map(
        |(id, as_id, base_gfn, npages, flags)| Slot {
            id,
            as_id,
            base_gfn,
            npages,
            flags,
            userspace_addr: None,
        },
    )
}

/// Draws a slot of which it may be known where its memory is.
fn placed_slot() -> impl Strategy<Value = Slot> {
    (slot(), any::<Option<u64>>())
        .prop_map(|(slot, userspace_addr)| Slot { userspace_addr, ..slot })
}

fn kinds() -> impl Strategy<Value = EventKind> {
    let slot_change = prop_oneof![
        Just(SlotChange::Created),
        Just(SlotChange::Deleted),
        Just(SlotChange::LogOn),
        Just(SlotChange::LogOff),
        Just(SlotChange::Other),
    ];
    let change = (
        0..Cause::ALL.len(),
        0..14usize,
        1..=4u32,
        0..2u32,
        number(1 << 39),
        1..99u32,
        any::<bool>(),
        (any::<Option<(u64, u64)>>(), prop::option::of(0..STACKS)),
    )
        .prop_map(
            |(cause, transition, level, as_id, gfn, count, read_only, (sptes, stack))| Change {
                cause: Cause::ALL[cause],
                transition: Transition::ALL[transition],
                level,
                as_id,
                gfn: gfn - gfn % frames(level),
                count: if sptes.is_some() || stack.is_some() { 1 } else { count },
                read_only,
                sptes: sptes.map(|(old, new)| Sptes { old, new }),
                stack,
            },
        );
    prop_oneof![
        8 => change.prop_map(EventKind::Change),
        1 => (pages(), 1..9u32).prop_map(|(pages, pid)| EventKind::VmCreated { pages, process: process(pid) }),
        1 => Just(EventKind::VmSeen),
        1 => pages().prop_map(|pages| EventKind::VmDestroyed { pages }),
        1 => pages().prop_map(|pages| EventKind::VmFlushed { pages }),
        1 => Just(EventKind::VmFreed),
        1 => prop::option::of(any::<u32>()).prop_map(|vcpu| EventKind::RingFull { vcpu }),
        1 => (0..Cause::ALL.len(), prop::option::of(any::<u32>()), any::<u64>(), any::<u64>()).prop_map(
            |(cause, vcpu, address, duration)| EventKind::LongFault(LongFault {
                cause: Cause::ALL[cause], vcpu, address, duration,
            })
        ),
        1 => (prop::option::of(any::<u32>()), any::<[u64; 4]>(), any::<u32>()).prop_map(
            |(vcpu, [address, duration, faults, sequence], invalidating)| {
                EventKind::NoProgress(NoProgress {
                    vcpu, address, duration, faults, invalidating, sequence,
                })
            }
        ),
        1 => (placed_slot(), slot_change, any::<bool>())
            .prop_map(|(slot, change, logging)| EventKind::SlotChanged { slot, change, logging }),
        1 => (slot(), time(), pages(), pages(), prop::option::of(any::<u32>())).prop_map(
            |(slot, start, pages_before, pages_after, yields)| EventKind::Collapse(Collapse {
                slot, start, pages_before, pages_after, yields,
            })
        ),
    ]
}

/// Draws one to five consecutive batches.
pub fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let event = (time(), 0..4u64, 0..5u32, kinds()).prop_map(|(ts, vm, tid, kind)| Event {
        ts,
        vm: key(vm),
        tid,
        kind,
    });
    let reading =
        (0..4u64, pages(), prop::option::of(1..9u32), prop::option::of(0..9u32)).prop_map(
            |(vm, pages, pid, fd)| VmReading { vm: key(vm), pages, process: pid.map(process), fd },
        );
    let cells = || prop::collection::vec((0..COUNTERS, count()), 1..5);
    let totals = (0..4u64, 0..3u8, cells())
        .prop_map(|(vm, cause, cells)| (key(vm), Cause::from_number(cause).unwrap(), row(&cells)));
    let latency = (0..4u64, 0..3u8, cells()).prop_map(|(vm, cause, cells)| {
        let mut row = Box::new(NO_LATENCIES);
        for (at, n) in cells {
            row[at % NO_LATENCIES.len()][at % BUCKETS] = n;
        }
        (key(vm), Cause::from_number(cause).unwrap(), row)
    });
    let batch = (
        (time(), any::<bool>()),
        prop::collection::vec(event, 0..20),
        prop::collection::vec(reading, 0..3),
        prop::collection::vec(totals, 0..3),
        prop::collection::vec(latency, 0..2),
        (
            prop::collection::vec((0..4u64, count()), 0..2),
            prop::collection::vec((0..4u64, any::<u128>()), 0..2),
            prop::collection::vec((0..4u64, prop::collection::vec(placed_slot(), 0..3)), 0..2),
        ),
        ([count(), count(), count()], any::<Option<(f64, u64)>>()),
    )
        .prop_map(
            |(
                (at, settled),
                events,
                vms,
                rows,
                latencies,
                (hugetlb, uuids, slots),
                (losses, cost),
            )| {
                Batch {
                    at,
                    settled,
                    vms,
                    hugetlb: hugetlb.into_iter().map(|(vm, bytes)| (key(vm), bytes)).collect(),
                    uuids: uuids.into_iter().map(|(vm, n)| (key(vm), Uuid::from_u128(n))).collect(),
                    slots: slots.into_iter().map(|(vm, slots)| (key(vm), slots)).collect(),
                    rows,
                    latencies,
                    events,
                    stacks: stacks(),
                    losses: Loss::ALL
                        .iter()
                        .map(|loss| loss.name())
                        .chain(["odd"])
                        .zip(losses)
                        .collect(),
                    overhead: cost.map(|(percent, ns)| Overhead {
                        percent,
                        step: DetailStep::ALL[ns as usize % DetailStep::ALL.len()],
                        degraded: Degraded { no_latency_ns: ns, ..Degraded::default() },
                        ..Overhead::default()
                    }),
                }
            },
        );
    prop::collection::vec(batch, 1..6)
}

/// Makes a coverage in which every third signal is missing, so that seen and missing ones occur.
pub fn patchy_coverage() -> Coverage {
    let signals = Signal::ALL.iter().enumerate().map(|(at, signal)| SignalStatus {
        signal: *signal,
        hooks: (at % 3 > 0).then(|| vec![format!("hook {at}")]),
        reason: (at % 3 == 0).then(|| format!("reason {at}")),
    });
    Coverage {
        mmu: Mmu::Rmap,
        signals: signals.collect(),
        timed_faults: 8,
        ..full_coverage(Mmu::Rmap)
    }
}

/// Makes a coverage in which every signal is seen, each guest fault is timed, and faults are counted
/// by a hook.
pub fn full_coverage(mmu: Mmu) -> Coverage {
    let seen = |signal: &Signal| SignalStatus {
        signal: *signal,
        hooks: Some(vec![format!("hook of {}", signal.name())]),
        reason: None,
    };
    Coverage {
        mmu,
        signals: Signal::ALL.iter().map(seen).collect(),
        timed_faults: 1,
        spte: SpteLayout::NPT,
        kvm_counts_faults: false,
        collapse_rebuilds: Some(false),
        paging: Paging::default(),
    }
}

/// Makes a machine that has a name.
pub fn machine() -> Machine {
    Machine { name: Some("web7".to_owned()), kernel: "6.12".to_owned() }
}

/// Records batches, and returns the content of the file.
pub fn record(batches: &[Batch], limits: SizeLimits, command: Option<&RecordedCommand>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let file = create(&path).unwrap();
    let mut recorder = Recorder::new(file, &path, machine(), &patchy_coverage(), limits).unwrap();
    for batch in batches {
        recorder.update(&Update::Batch(batch.clone()), &patchy_coverage()).unwrap();
    }
    recorder.finish(command).unwrap();
    std::fs::read(path).unwrap()
}

/// Reads the batches of a recording, and its end.
pub fn read(bytes: &[u8]) -> (Vec<Batch>, Result<RecordingEnd, RecordingError>) {
    let mut batches = Vec::new();
    let mut replay = match Replay::new(Cursor::new(bytes)) {
        Ok(replay) => replay,
        Err(error) => return (batches, Err(error)),
    };
    loop {
        match replay.next_update() {
            Ok(Some(Update::Batch(batch))) => batches.push(batch),
            Ok(Some(_)) => {}
            Ok(None) => return (batches, Ok(replay.end().unwrap().clone())),
            Err(error) => return (batches, Err(error)),
        }
    }
}

/// Makes a change of the 4 KiB SPTE of guest frame 0. Tests set other fields by struct update:
/// `Change { level: 2, gfn: 512, ..change(Cause::EagerSplit, Transition::Split) }`.
pub const fn change(cause: Cause, transition: Transition) -> Change {
    Change {
        cause,
        transition,
        level: 1,
        as_id: 0,
        gfn: 0,
        count: 1,
        read_only: false,
        sptes: None,
        stack: None,
    }
}

/// Makes the event of a zap of 4 KiB leaves by the collapse routine, in VM 1.
pub fn zap(ts: u64, gfn: u64, count: u32) -> Event {
    let change = Change { gfn, count, ..change(Cause::Collapse, Transition::Zap) };
    Event { ts, vm: key(1), tid: 7, kind: EventKind::Change(change) }
}

/// Makes a row of totals that are zero but for these, by their positions.
pub fn row(counts: &[(usize, u64)]) -> Box<Row> {
    let mut row = Box::new([0; COUNTERS]);
    for (at, n) in counts {
        row[*at] = *n;
    }
    row
}

/// Makes `n` batches of VM 1, one per second, each with the zap of one region.
pub fn seconds(n: u64) -> Vec<Batch> {
    let batch = |at: u64| {
        let zapped = row(&[(index(Transition::Zap, 1), at * 512)]);
        Batch {
            at: at * 1_000_000_000,
            settled: true,
            vms: vec![VmReading { vm: key(1), pages: Some([at, 2, 3]), process: None, fd: None }],
            rows: vec![(key(1), Cause::Collapse, zapped)],
            events: vec![zap(at * 1_000_000_000 - 5, at * 512, 512)],
            ..Batch::default()
        }
    };
    (1..=n).map(batch).collect()
}

/// Makes the updates of a run in which KVM is reloaded after every third batch, each time with
/// programs that count from zero.
pub fn reloaded(seconds: Vec<Batch>) -> Vec<Update> {
    let second = 1_000_000_000;
    let mut updates = Vec::new();
    for (at, mut batch) in seconds.into_iter().enumerate() {
        let (now, part) = (batch.at, at as u64 / 3);
        // Totals of the unknown VM do not change, and have the same value after a reload.
        batch.rows.push((VmKey::default(), Cause::Unknown, Box::new([7; COUNTERS])));
        batch.losses = vec![("ring_full_changes", 5)];
        for (vm, ..) in &mut batch.rows[..1] {
            vm.born += part;
        }
        batch.vms[0].vm.born += part;
        batch.events[0].vm.born += part;
        updates.push(Update::Batch(batch));
        if at % 3 == 2 {
            let why = "no KVM".to_owned();
            updates.push(Update::Detached { at: now + second / 4, why });
            updates.push(Update::Unwatched { at: now + second / 3 });
            updates.push(Update::Attached { at: now + second / 2 });
        }
    }
    updates
}
