//! Any batches.

use collapse_common::{
    Cause, Transition,
    abi::{Loss, VmKey},
    counter::COUNTERS,
    latency::{BUCKETS, OUTCOMES},
    spte::frames,
};
use proptest::prelude::*;

use crate::{
    identity::{VmProcess, name_from},
    source::{
        Batch, Change, Collapse, Event, EventKind, Slot, SlotChange, Sptes, VmReading,
        cost::{Degraded, Overhead, Step},
    },
};

/// A VM.
pub fn key(number: u64) -> VmKey {
    VmKey { kvm: 0xffff_8880_0000_0000 + number, born: number }
}

fn process(pid: u32) -> VmProcess {
    VmProcess { pid, tid: pid + 1, comm: "qemu".to_owned(), name: name_from(pid, &[], "", b"vm") }
}

/// Small, or as high as it can be.
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

/// Stacks that changes name.
const STACKS: u32 = 3;

/// All of them, one of which could not be taken.
pub fn stacks() -> Vec<(u32, Vec<String>)> {
    (0..STACKS).map(|number| (number, vec!["zap".to_owned(); number as usize])).collect()
}

fn kinds() -> impl Strategy<Value = EventKind> {
    let slot = || {
        (any::<u16>(), any::<u16>(), number(1 << 39), number(1 << 39), any::<u32>()).prop_map(
            |(id, as_id, base_gfn, npages, flags)| Slot { id, as_id, base_gfn, npages, flags },
        )
    };
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
        1 => (slot(), slot_change, any::<bool>())
            .prop_map(|(slot, change, logging)| EventKind::SlotChanged { slot, change, logging }),
        1 => (slot(), time(), pages(), pages(), prop::option::of(any::<u32>())).prop_map(
            |(slot, start, pages_before, pages_after, yields)| EventKind::Collapse(Collapse {
                slot, start, pages_before, pages_after, yields,
            })
        ),
    ]
}

/// Some batches, one after the other.
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
    let row = (0..4u64, 0..3u8, cells()).prop_map(|(vm, cause, cells)| {
        let mut row = Box::new([0; COUNTERS]);
        for (at, n) in cells {
            row[at] = n;
        }
        (key(vm), Cause::from_number(cause).unwrap(), row)
    });
    let latency = (0..4u64, 0..3u8, cells()).prop_map(|(vm, cause, cells)| {
        let mut row = Box::new([[0; BUCKETS]; OUTCOMES]);
        for (at, n) in cells {
            row[at % OUTCOMES][at % BUCKETS] = n;
        }
        (key(vm), Cause::from_number(cause).unwrap(), row)
    });
    let batch = (
        (time(), any::<bool>()),
        prop::collection::vec(event, 0..20),
        prop::collection::vec(reading, 0..3),
        prop::collection::vec(row, 0..3),
        prop::collection::vec(latency, 0..2),
        prop::collection::vec((0..4u64, count()), 0..2),
        ([count(), count(), count()], any::<Option<(f64, u64)>>()),
    )
        .prop_map(|((at, settled), events, vms, rows, latencies, hugetlb, (losses, cost))| Batch {
            at,
            settled,
            vms,
            hugetlb: hugetlb.into_iter().map(|(vm, bytes)| (key(vm), bytes)).collect(),
            rows,
            latencies,
            events,
            stacks: stacks(),
            losses: Loss::ALL.iter().map(|loss| loss.name()).chain(["odd"]).zip(losses).collect(),
            overhead: cost.map(|(percent, ns)| Overhead {
                percent,
                step: Step::ALL[ns as usize % Step::ALL.len()],
                degraded: Degraded { no_latency_ns: ns, ..Degraded::default() },
                ..Overhead::default()
            }),
        });
    prop::collection::vec(batch, 1..6)
}
