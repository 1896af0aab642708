//! Choosing events.

use collapse_common::{Cause, Selection, Transition, selection::is_sampled, spte::frames};

use super::kind::{FindingKind, kind};
use crate::{VmIdentity, VmSelect};
use collapse_feed::{Change, Event, EventKind, Slot, VmProcess};
use collapse_model::Vm;

/// A choice of events. An event without VM, cause or slot is not taken where one is chosen. Lines about
/// losses, and about whether anything is seen, are always taken.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// VMs; empty for all, events of unknown VMs included.
    pub vms: Vec<VmSelect>,
    /// Kinds; empty for all.
    pub kinds: Vec<String>,
    /// Causes; empty for all.
    pub causes: Vec<String>,
    /// Slot id.
    pub slot: Option<u16>,
    /// The share of regions whose changes are taken; `None` for all.
    pub sample: Option<RegionSample>,
    /// The greatest number of events; `None` for no limit.
    pub limit: Option<u64>,
}

impl EventFilter {
    /// The selection that makes the kernel record all that is taken; with `each`, every change on its own.
    /// Rows are muted by [`Self::takes_row`]; slots, and changes from before a row was muted, are filtered
    /// here.
    pub fn selection(&self, each: bool) -> Selection {
        let wanted = |transition: &&Transition| self.kinds.iter().any(|k| k == transition.name());
        let findings = FindingKind::NAMES.iter().any(|kind| listed(&self.kinds, Some(kind)));
        // What is found follows from the life of regions.
        let others = if findings { Selection::LIFE_CYCLE } else { 0 };
        let wanted = Transition::ALL.iter().filter(wanted);
        let transitions = wanted.fold(others, |bits, transition| bits | 1 << *transition as u32);
        Selection {
            transitions,
            sample: self.sample.map_or(1, |sample| sample.0),
            by_row: (!self.vms.is_empty() || !self.causes.is_empty()).into(),
            each: each.into(),
            stacks: 0,
        }
    }

    /// Whether changes of a VM by a cause are taken.
    pub fn takes_row(&self, process: &VmProcess, fd: Option<u32>, cause: Cause) -> bool {
        self.takes_vm(Some(process), fd) && listed(&self.causes, Some(cause.name()))
    }

    /// Whether every change that moves a region is seen.
    pub(super) fn sees_regions(&self) -> bool {
        self.kinds.is_empty() && self.causes.is_empty()
    }

    /// Whether an event is taken, by its VM as the model knows it and by its slot.
    pub(super) fn takes(&self, event: &Event, vm: Option<&Vm>, slot: Option<&Slot>) -> bool {
        let cause = match &event.kind {
            EventKind::Change(change) => Some(change.cause.name()),
            EventKind::LongFault(fault) => Some(fault.cause.name()),
            _ => None,
        };
        listed(&self.kinds, Some(kind(&event.kind)))
            && listed(&self.causes, cause)
            && self.slot.is_none_or(|id| slot.is_some_and(|slot| slot.id == id))
            && self.takes_vm(vm.and_then(|vm| vm.process.as_ref()), vm.and_then(|vm| vm.fd))
    }

    /// Whether a finding about a VM is taken, by the kind of its line. It has no cause and no slot.
    pub(super) fn takes_finding(&self, kind: &str, vm: &Vm) -> bool {
        listed(&self.kinds, Some(kind))
            && self.causes.is_empty()
            && self.slot.is_none()
            && self.takes_vm(vm.process.as_ref(), vm.fd)
    }

    fn takes_vm(&self, process: Option<&VmProcess>, fd: Option<u32>) -> bool {
        let vm = VmIdentity::of_process(process, fd);
        self.vms.is_empty() || self.vms.iter().any(|select| select.selects(vm))
    }
}

fn listed(list: &[String], name: Option<&str>) -> bool {
    list.is_empty() || name.is_some_and(|name| list.iter().any(|wanted| wanted == name))
}

/// A sample of one region in `n`, at least 1: always the same regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSample(pub u32);

impl RegionSample {
    /// The parts of a change that are in regions of the sample.
    pub(super) fn parts(self, change: &Change) -> impl Iterator<Item = Change> {
        let change = *change;
        let step = frames(change.level);
        let end = change.gfn + u64::from(change.count) * step;
        let size = step.max(512);
        (change.gfn / size..end.div_ceil(size)).filter_map(move |region| {
            let (first, next) = (region * size, (region + 1) * size);
            let (gfn, next) = (change.gfn.max(first), end.min(next));
            let count = (next.saturating_sub(gfn) / step) as u32;
            (is_sampled(first, self.0) && count > 0).then_some(Change { gfn, count, ..change })
        })
    }
}
