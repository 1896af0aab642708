//! Which events are wanted.

use collapse_common::{Cause, Selection, Transition, selection::is_sampled, spte::frames};

use super::kind;
use crate::{VmIdentity, VmSelect};
use collapse_feed::{Change, Event, EventKind, Slot, VmProcess};
use collapse_model::Vm;

/// Every kind of event. Changes that tell nothing of the life of a mapping are recorded only where
/// they are asked for.
pub const KINDS: [&str; 26] = [
    "install",
    "split",
    "zap",
    "recover",
    "recover_read_only",
    "split_relink",
    "noise",
    "link",
    "unlink",
    "write_protect",
    "make_writable",
    "clear_dirty",
    "age",
    "update",
    "vm_created",
    "vm_seen",
    "vm_destroyed",
    "vm_flushed",
    "vm_freed",
    "slot_created",
    "slot_deleted",
    "slot_moved",
    "slot_changed",
    "log_on",
    "log_off",
    "collapse_span",
];

/// Which events are wanted. An event that has no VM, cause or slot is not of any. Losses are always
/// wanted, and so is whether anything is seen.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// VMs; empty means all, and events whose VM is unknown.
    pub vms: Vec<VmSelect>,
    /// Kinds; empty means all.
    pub kinds: Vec<String>,
    /// Causes; empty means all.
    pub causes: Vec<String>,
    /// Slot id.
    pub slot: Option<u16>,
    /// Regions.
    pub sample: Option<Sample>,
    /// Most events.
    pub limit: Option<u64>,
}

impl Filter {
    /// What the kernel is to record so that nothing wanted is missing; with `each`, every change on its
    /// own. Rows are muted by [`Self::takes_row`]. What is left is filtered here: slots, and what came
    /// before a row was muted.
    pub fn selection(&self, each: bool) -> Selection {
        let wanted = |transition: &&Transition| self.kinds.iter().any(|k| k == transition.name());
        let transitions = if self.kinds.is_empty() {
            Selection::LIFE_CYCLE
        } else {
            let wanted = Transition::ALL.iter().filter(wanted);
            wanted.fold(0, |bits, transition| bits | 1 << *transition as u32)
        };
        Selection {
            transitions,
            sample: self.sample.map_or(1, |sample| sample.0),
            by_row: (!self.vms.is_empty() || !self.causes.is_empty()).into(),
            each: each.into(),
            stacks: 0,
        }
    }

    /// Whether changes of a VM by a cause are wanted.
    pub fn takes_row(&self, process: &VmProcess, fd: Option<u32>, cause: Cause) -> bool {
        self.takes_vm(Some(process), fd) && listed(&self.causes, Some(cause.name()))
    }

    /// Whether every change that moves a region is seen.
    pub(super) fn sees_regions(&self) -> bool {
        self.kinds.is_empty() && self.causes.is_empty()
    }

    /// Whether an event is wanted of a VM that the model knows, in the slot that it is in.
    pub(super) fn takes(&self, event: &Event, vm: Option<&Vm>, slot: Option<&Slot>) -> bool {
        let cause = match &event.kind {
            EventKind::Change(change) => Some(change.cause.name()),
            _ => None,
        };
        listed(&self.kinds, Some(kind(&event.kind)))
            && listed(&self.causes, cause)
            && self.slot.is_none_or(|id| slot.is_some_and(|slot| slot.id == id))
            && self.takes_vm(vm.and_then(|vm| vm.process.as_ref()), vm.and_then(|vm| vm.fd))
    }

    fn takes_vm(&self, process: Option<&VmProcess>, fd: Option<u32>) -> bool {
        let vm = VmIdentity::of_process(process, fd);
        self.vms.is_empty() || self.vms.iter().any(|select| select.selects(vm))
    }
}

fn listed(list: &[String], name: Option<&str>) -> bool {
    list.is_empty() || name.is_some_and(|name| list.iter().any(|wanted| wanted == name))
}

/// One region in so many, at least 1: always the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub u32);

impl Sample {
    /// Parts of a change that are in regions of the sample.
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
