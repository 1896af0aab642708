//! From the layouts of the ring to events. Pure.

use collapse_common::{
    Cause,
    abi::{
        self, LOG_DIRTY_PAGES, Mark, MarkKind, Pages, RowOwner, Run, Single, UNKNOWN_PAGES,
        UNKNOWN_VCPU, VcpuMark, VcpuMarkKind, VmGauges,
    },
    counter::transition_at,
};

use super::{Change, Collapse, Event, EventKind, Slot, SlotChange, Sptes};
use crate::identity;
use collapse_feed::{LongFault, NoProgress, VmProcess};

/// Returns the event of a run whose row belongs to `owner`; `None` if its counter is no transition.
pub fn run(run: &Run, owner: &RowOwner) -> Option<Event> {
    let (transition, level) = transition_at(run.key.counter())?;
    let change = Change {
        cause: cause(owner),
        transition,
        level,
        as_id: run.key.as_id(),
        gfn: run.gfn,
        count: run.count,
        read_only: run.key.is_read_only(),
        sptes: None,
        stack: None,
    };
    Some(Event { ts: run.ts, vm: owner.vm, tid: run.tid, kind: EventKind::Change(change) })
}

/// Returns the event of a change that is a record of its own, with the number of its stack.
pub fn single(single: &Single, stack: Option<u32>, owner: &RowOwner) -> Option<Event> {
    let &Single { tid, ts, gfn, key, old, new, .. } = single;
    let mut event = run(&Run { ts, gfn, key, tid, count: 1 }, owner)?;
    if let EventKind::Change(change) = &mut event.kind {
        // The second half of a split in two steps stands for both, and has no SPTEs.
        change.sptes = ((old, new) != (0, 0)).then_some(Sptes { old, new });
        change.stack = stack;
    }
    Some(event)
}

/// Returns the event of a mark; `None` if this build does not know its kind. `process` looks up the
/// process of a thread id.
pub fn mark(
    mark: &Mark,
    sees_yields: bool,
    process: impl FnOnce(u32) -> Option<VmProcess>,
) -> Option<Event> {
    let pid = (mark.thread >> 32) as u32;
    let kind = match MarkKind::from_number(mark.kind)? {
        MarkKind::VmCreated => {
            let tid = mark.thread as u32;
            let process = process(tid).unwrap_or_else(|| creator(pid, tid, &mark.comm));
            EventKind::VmCreated { pages: pages(mark.pages), process }
        }
        MarkKind::VmSeen => EventKind::VmSeen,
        MarkKind::VmDestroyed => EventKind::VmDestroyed { pages: pages(mark.pages) },
        MarkKind::VmFlushed => EventKind::VmFlushed { pages: pages(mark.pages) },
        MarkKind::VmFreed => EventKind::VmFreed,
        MarkKind::SlotChanged => EventKind::SlotChanged {
            slot: Slot { userspace_addr: userspace_addr(mark), ..slot(mark.slot) },
            change: slot_change(mark.change, mark.old_flags, mark.slot.flags),
            logging: mark.logging != 0,
        },
        MarkKind::CollapseSpan => EventKind::Collapse(Collapse {
            slot: slot(mark.slot),
            start: mark.start,
            pages_before: pages(mark.pages_before),
            pages_after: pages(mark.pages),
            yields: sees_yields.then_some(mark.yields),
        }),
    };
    Some(Event { ts: mark.ts, vm: mark.vm, tid: mark.thread as u32, kind })
}

/// Returns the event of a vCPU's mark; `None` if this build does not know its kind.
pub fn vcpu_mark(mark: &VcpuMark, owner: &RowOwner) -> Option<Event> {
    let vcpu = Some(mark.vcpu).filter(|vcpu| *vcpu != UNKNOWN_VCPU);
    let kind = match VcpuMarkKind::from_number(mark.kind)? {
        VcpuMarkKind::RingFull => EventKind::RingFull { vcpu },
        VcpuMarkKind::LongFault => EventKind::LongFault(LongFault {
            cause: cause(owner),
            vcpu,
            address: mark.address,
            duration: mark.duration,
        }),
        VcpuMarkKind::NoProgress => EventKind::NoProgress(NoProgress {
            vcpu,
            address: mark.address,
            duration: mark.duration,
            faults: mark.faults,
            invalidating: mark.invalidating,
            sequence: mark.sequence,
        }),
    };
    Some(Event { ts: mark.ts, vm: owner.vm, tid: mark.tid, kind })
}

fn cause(owner: &RowOwner) -> Cause {
    Cause::from_number(owner.cause as u8).unwrap_or(Cause::Unknown)
}

/// Describes a process that has ended: all that is known is in the mark.
fn creator(pid: u32, tid: u32, comm: &[u8]) -> VmProcess {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    let name = identity::name_from(pid, &[], "", &comm[..end]);
    VmProcess { pid, tid, comm: collapse_feed::printable(&comm[..end]), name }
}

/// KVM's gauges, if this kernel has them.
pub fn pages(pages: Pages) -> Option<Pages> {
    (pages != UNKNOWN_PAGES).then_some(pages)
}

/// Returns the name of the VM's directory in debugfs; `None` if it has none.
pub fn debugfs_name(gauges: &VmGauges) -> Option<&str> {
    let end = gauges.debugfs.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&gauges.debugfs[..end]).ok().filter(|name| !name.is_empty())
}

fn slot(slot: abi::Slot) -> Slot {
    let abi::Slot { base_gfn, npages, id, as_id, flags } = slot;
    Slot { id, as_id, base_gfn, npages, flags, userspace_addr: None }
}

fn userspace_addr(mark: &Mark) -> Option<u64> {
    (mark.userspace_addr != 0).then_some(mark.userspace_addr)
}

/// `change` is an `enum kvm_mr_change`. A flag change may be of another flag (read-only).
fn slot_change(change: u32, old_flags: u32, new_flags: u32) -> SlotChange {
    let logged = old_flags != u32::MAX && old_flags & LOG_DIRTY_PAGES != 0;
    let logs = new_flags & LOG_DIRTY_PAGES != 0;
    match change {
        0 => SlotChange::Created,
        1 => SlotChange::Deleted,
        2 => SlotChange::Moved,
        _ if logs && !logged => SlotChange::LogOn,
        _ if logged && !logs => SlotChange::LogOff,
        _ => SlotChange::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creator_that_is_gone_still_has_a_name() {
        let process = creator(7, 8, b"qemu-kvm\0\0\0\0\0\0\0\0");
        assert_eq!((process.pid, process.tid), (7, 8));
        assert_eq!((process.comm.as_str(), process.name.text.as_str()), ("qemu-kvm", "qemu-kvm"));
    }

    #[test]
    fn only_the_logging_flag_switches_logging() {
        assert_eq!(slot_change(3, 0, 1), SlotChange::LogOn);
        assert_eq!(slot_change(3, 1, 0), SlotChange::LogOff);
        assert_eq!(slot_change(3, 1, 3), SlotChange::Other);
        assert_eq!(slot_change(0, u32::MAX, 1), SlotChange::Created);
        assert_eq!(slot_change(1, 1, 0), SlotChange::Deleted);
    }
}
