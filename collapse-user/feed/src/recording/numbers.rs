//! Enums that recordings store by number keep their numbers: new variants are added at the end.

use collapse_common::{
    Cause, Counter, Transition,
    counter::index,
    latency::{Outcome, Sum},
};

use super::{block::BlockKind, wire};
use crate::{DetailStep, Mmu, NoProgress, Slot, SlotChange};

/// Asserts that the names of the numbers from 0 on are `known`.
fn keeps(names: &[&str], known: &str) {
    let known: Vec<_> = known.split_whitespace().collect();
    assert_eq!(names[..known.len()], known[..], "a number was taken away or given to another");
    assert_eq!(names.len(), known.len(), "add the new name to this test");
}

#[test]
fn causes() {
    keeps(
        &Cause::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>(),
        "unknown guest_fault eager_split log_protect get_dirty_log clear_dirty_log collapse
         notifier_unmap notifier_clear notifier_protect notifier_migrate notifier_thp_collapse
         notifier_reclaim notifier_ksm notifier_other nx_recovery slot_change slot_deleted zap_range
         zap_all teardown guest_fault_logging guest_fault_collapsing notifier_numa notifier_cow
         reset_dirty_ring pre_fault memory_attributes notifier_discard notifier_discard_small
         notifier_userfaultfd",
    );
}

#[test]
fn transitions_and_counters() {
    keeps(
        &Transition::ALL.map(Transition::name),
        "noise install split zap recover recover_read_only link unlink write_protect make_writable
         clear_dirty age update split_relink",
    );
    let counters = [
        index(Transition::Install, 1),
        index(Transition::SplitRelink, 3),
        Counter::Fault as usize,
        Counter::FastFault as usize,
        Counter::RingFull as usize,
        Counter::DropSpte as usize,
        Counter::Operation as usize,
        Counter::FastFaultHuge as usize,
        Counter::Yield as usize,
        Counter::Stall as usize,
        Counter::PmlFull as usize,
        Counter::PmlFullNs as usize,
        Counter::LockWait as usize,
        Counter::LockWaitNs as usize,
        Counter::Retried as usize,
    ];
    assert_eq!(counters, [5, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68]);
    keeps(&Outcome::ALL.map(Outcome::name), "spurious fast small huge mmio");
    // The sums come after the outcomes: a new outcome would move them.
    keeps(
        &Sum::ALL.map(Sum::name),
        "timed timed_ns timed_squares long long_ns pml_full pml_full_ns calls calls_ns longest_call_ns
         lock_waits lock_waits_ns longest_lock_wait_ns retried",
    );
}

#[test]
fn kinds_of_blocks() {
    let kinds = [
        BlockKind::Header,
        BlockKind::Coverage,
        BlockKind::Baseline,
        BlockKind::Events,
        BlockKind::Batch,
        BlockKind::End,
        BlockKind::Visibility,
        BlockKind::Hugetlb,
        BlockKind::Overhead,
        BlockKind::Stacks,
        BlockKind::Host,
        BlockKind::Slots,
        BlockKind::Uuids,
    ];
    assert_eq!(kinds.map(|kind| kind as u8), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
}

/// Returns the number of a variant, which its encoding begins with.
fn number(value: &impl serde::Serialize) -> u8 {
    postcard::to_stdvec(value).unwrap()[0]
}

#[test]
fn kinds_of_events() {
    let slot =
        || Slot { id: 0, as_id: 0, base_gfn: 0, npages: 0, flags: 0, userspace_addr: None }.into();
    let process = crate::fixtures::process(1);
    let kinds = [
        wire::EventKindRecord::Change(0, 0, 0),
        wire::EventKindRecord::VmCreated(None, process),
        wire::EventKindRecord::VmSeen,
        wire::EventKindRecord::VmDestroyed(None),
        wire::EventKindRecord::VmFlushed(None),
        wire::EventKindRecord::VmFreed,
        wire::EventKindRecord::SlotChanged(slot(), SlotChange::Created, false),
        wire::EventKindRecord::Collapse(slot(), 0, None, None, None),
        wire::EventKindRecord::Single(0, 0, 0, 0),
        wire::EventKindRecord::Stacked(0, 0, 0, None),
        wire::EventKindRecord::RingFull(None),
        wire::EventKindRecord::SlotPlaced(slot(), SlotChange::Created, false, 0),
        wire::EventKindRecord::LongFault(0, None, 0, 0),
        wire::EventKindRecord::NoProgress(NoProgress {
            vcpu: None,
            address: 0,
            duration: 0,
            faults: 0,
            invalidating: 0,
            sequence: 0,
        }),
    ];
    assert_eq!(kinds.each_ref().map(number), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    let changes = [
        SlotChange::Created,
        SlotChange::Deleted,
        SlotChange::Moved,
        SlotChange::LogOn,
        SlotChange::LogOff,
        SlotChange::Other,
    ];
    assert_eq!(changes.each_ref().map(number), [0, 1, 2, 3, 4, 5]);
    let visibility = [
        wire::VisibilityRecord::Detached(0, String::new()),
        wire::VisibilityRecord::Unwatched(0),
        wire::VisibilityRecord::Attached(0),
    ];
    assert_eq!(visibility.each_ref().map(number), [0, 1, 2]);
    assert_eq!([Mmu::Tdp, Mmu::Rmap, Mmu::Shadow, Mmu::Unknown].map(|m| number(&m)), [0, 1, 2, 3]);
    assert_eq!(DetailStep::ALL.map(|step| number(&step)), [0, 1, 2, 3]);
}
