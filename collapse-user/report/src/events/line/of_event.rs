//! Making the lines of events from the events and what the model knows about them.

use collapse_common::{
    Cause, SpteLayout,
    abi::Pages,
    spte::{SpteBits as _, frames},
};
use collapse_feed::{Change, Collapse, Event, EventKind, LongFault, Slot, recording::Clocks};
use collapse_model::{Mapping, Slots, Vm, findings::Turn, regions_of};

use super::{
    ChangeLine, CollapseLine, EventHead, EventLine, FindingLine, LongFaultLine, NoProgressLine,
    RegionsLine, SlotLine, SpteLine, StackLine, VcpuLine, VmLine, VmMarkLine, WallTime, Within,
};
use crate::{
    FindingReport,
    events::kind::{CollapseKind, FaultKind, FindingKind, ProgressKind, VcpuKind, VmKind},
};

/// Knowledge about an event that goes into its line.
pub(in crate::events) struct Known<'a> {
    pub(in crate::events) clocks: Clocks,
    pub(in crate::events) layout: SpteLayout,
    /// Whether addresses of the host are shown.
    pub(in crate::events) addresses: bool,
    pub(in crate::events) vm: Option<&'a Vm>,
    pub(in crate::events) slot: Option<Slot>,
    /// Whether every change that moves a region is seen.
    pub(in crate::events) sees_regions: bool,
    /// The kernel's stack, if one was asked for.
    pub(in crate::events) stack: Option<StackLine>,
}

impl EventLine {
    /// The line of an event.
    pub(in crate::events) fn new(event: &Event, known: &Known) -> Self {
        match &event.kind {
            EventKind::Change(change) => Self::Change(ChangeLine::new(event, change, known)),
            EventKind::VmCreated { pages, .. } => vm_mark(VmKind::Created, event, *pages, known),
            EventKind::VmSeen => vm_mark(VmKind::Seen, event, None, known),
            EventKind::VmDestroyed { pages } => vm_mark(VmKind::Destroyed, event, *pages, known),
            EventKind::VmFlushed { pages } => vm_mark(VmKind::Flushed, event, *pages, known),
            EventKind::VmFreed => vm_mark(VmKind::Freed, event, None, known),
            EventKind::SlotChanged { slot, change, logging } => Self::Slot(SlotLine {
                head: EventHead::new((*change).into(), event, known),
                slot: *slot,
                within: Within::new(event, known, None),
                logging: *logging,
            }),
            EventKind::Collapse(collapse) => collapsed(collapse, event, known),
            &EventKind::LongFault(LongFault { cause, vcpu, address, duration }) => {
                Self::LongFault(LongFaultLine {
                    head: EventHead::new(FaultKind::Long, event, known),
                    slot: None,
                    within: Within::new(event, known, None),
                    vcpu,
                    address,
                    duration_ns: duration,
                    cause: cause.name(),
                })
            }
            &EventKind::NoProgress(none) => Self::NoProgress(NoProgressLine {
                head: EventHead::new(ProgressKind::None, event, known),
                slot: None,
                within: Within::new(event, known, None),
                vcpu: none.vcpu,
                address: none.address,
                duration_ns: none.duration,
                faults: none.faults,
                invalidations_open: none.invalidating,
                invalidate_seq: none.sequence,
            }),
            EventKind::RingFull { vcpu } => Self::Vcpu(VcpuLine {
                head: EventHead::new(VcpuKind::RingFull, event, known),
                slot: None,
                within: Within::new(event, known, None),
                vcpu: *vcpu,
            }),
        }
    }
}

fn vm_mark(kind: VmKind, event: &Event, pages: Option<Pages>, known: &Known) -> EventLine {
    EventLine::VmMark(VmMarkLine {
        head: EventHead::new(kind, event, known),
        slot: None,
        within: Within::new(event, known, None),
        pages,
    })
}

fn collapsed(collapse: &Collapse, event: &Event, known: &Known) -> EventLine {
    EventLine::Collapse(CollapseLine {
        head: EventHead::new(CollapseKind::Span, event, known),
        slot: collapse.slot,
        within: Within::new(event, known, known.vm.map(|vm| vm.span_count)),
        start_ns: collapse.start,
        pages: collapse.pages_after,
    })
}

impl<K> EventHead<K> {
    fn new(kind: K, event: &Event, known: &Known) -> Self {
        Self {
            ts_ns: event.ts,
            time: WallTime::new(known.clocks.wall_at(event.ts)),
            kind,
            vm: (event.vm.born > 0).then(|| VmLine::new(event.vm.born, known.vm)),
            tid: event.tid,
        }
    }
}

impl VmLine {
    fn new(born: u64, vm: Option<&Vm>) -> Self {
        let process = vm.and_then(|vm| vm.process.as_ref());
        Self {
            born_ns: born,
            pid: process.map(|process| process.pid),
            tid: process.map(|process| process.tid),
            fd: vm.and_then(|vm| vm.fd),
            name: process.map(|process| process.name.text.clone()),
        }
    }
}

impl FindingLine {
    pub(in crate::events) fn new(clocks: Clocks, turn: &Turn, vm: &Vm) -> Self {
        Self {
            ts_ns: turn.at,
            time: WallTime::new(clocks.wall_at(turn.at)),
            kind: FindingKind::of(turn),
            vm: VmLine::new(vm.key.born, Some(vm)),
            finding: FindingReport::new(&turn.found),
        }
    }
}

impl Within {
    fn new(event: &Event, known: &Known, span: Option<u64>) -> Self {
        Self { episode: known.vm.and_then(|vm| episode(vm, event.ts)), span }
    }
}

impl ChangeLine {
    fn new(event: &Event, change: &Change, known: &Known) -> Self {
        let spte = |spte| SpteLine::new(known, change.level, spte);
        // KVM runs the routine for one slot of a VM at a time, and its run is reported at its end.
        let span = known.vm.filter(|_| change.cause == Cause::Collapse);
        let followed = known.vm.filter(|_| known.sees_regions);
        Self {
            head: EventHead::new(change.transition.into(), event, known),
            level: change.level,
            gfn: change.gfn,
            count: change.count,
            step: frames(change.level),
            as_id: change.as_id,
            cause: change.cause.name(),
            read_only: change.read_only,
            old: change.sptes.map(|sptes| spte(sptes.old)),
            new: change.sptes.map(|sptes| spte(sptes.new)),
            stack: known.stack.clone(),
            regions: followed.map(|vm| RegionsLine::new(vm, change)),
            slot: known.slot,
            within: Within::new(event, known, span.map(|vm| vm.span_count + 1)),
        }
    }

    /// The line of a part of the change.
    pub(in crate::events) fn part(&self, change: &Change) -> Self {
        Self { gfn: change.gfn, count: change.count, ..self.clone() }
    }
}

impl SpteLine {
    /// Bits of the physical address in an SPTE, on machines with up to 51 of them: above are KVM's own
    /// and protection keys.
    const FRAME: u64 = (1 << 51) - (1 << 12);

    fn new(known: &Known, level: u32, spte: u64) -> Self {
        let layout = known.layout;
        let present = layout.is_present(spte);
        let hidden = if known.addresses { 0 } else { Self::FRAME };
        Self {
            raw: format!("{:#x}", spte & !hidden),
            present,
            leaf: present && layout.is_leaf(level, spte),
            writable: present && layout.is_writable(spte),
            accessed: present && spte & layout.accessed != 0,
            dirty: present && spte & layout.dirty != 0,
            pfn: (present && known.addresses).then_some((spte & Self::FRAME) >> 12),
        }
    }
}

impl RegionsLine {
    fn new(vm: &Vm, change: &Change) -> Self {
        let mut regions = Self::default();
        let makes_huge = change.level > 1 && change.transition.gauge() > 0;
        for region in regions_of(change) {
            match vm.regions.mapping(region) {
                Some(Mapping::StillSplit) => regions.still_split += 1,
                Some(Mapping::None) => regions.zapped += 1,
                Some(Mapping::Small) => regions.small += 1,
                None if makes_huge => regions.huge += 1,
                None => {}
            }
        }
        regions
    }
}

fn episode(vm: &Vm, ts: u64) -> Option<u32> {
    let within = |end: Option<u64>| end.is_none_or(|end| ts <= end);
    let mut episodes = vm.episodes.kept().rev();
    let found = episodes.find(|episode| episode.start <= ts && within(episode.end));
    found.map(|episode| episode.number.get())
}

/// The slot that an event is about, as far as slots are known.
pub(in crate::events) fn slot_of(event: &Event, slots: Option<&Slots>) -> Option<Slot> {
    match &event.kind {
        EventKind::Change(change) => slots?.values().copied().find(|slot| {
            u32::from(slot.as_id) == change.as_id
                && change.gfn.checked_sub(slot.base_gfn).is_some_and(|place| place < slot.npages)
        }),
        EventKind::SlotChanged { slot, .. } => Some(*slot),
        EventKind::Collapse(collapse) => Some(collapse.slot),
        _ => None,
    }
}
