//! Which events are wanted.

use collapse_common::{abi::VmKey, spte::frames};

use super::kind;
use crate::{
    model::Vm,
    report::VmSelect,
    source::{Change, Event, EventKind, Slot},
};

/// Every kind of event.
pub const KINDS: [&str; 18] = [
    "install",
    "split",
    "zap",
    "recover",
    "recover_read_only",
    "split_relink",
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
    /// Whether an event is wanted of a VM that the model knows, in the slot that it is in.
    pub(super) fn takes(&self, event: &Event, vm: Option<&Vm>, slot: Option<&Slot>) -> bool {
        let cause = match &event.kind {
            EventKind::Change(change) => Some(change.cause.name()),
            _ => None,
        };
        listed(&self.kinds, Some(kind(&event.kind)))
            && listed(&self.causes, cause)
            && self.slot.is_none_or(|id| slot.is_some_and(|slot| slot.id == id))
            && (self.vms.is_empty() || vm.is_some_and(|vm| self.takes_vm(vm)))
    }

    fn takes_vm(&self, vm: &Vm) -> bool {
        let process = vm.process.as_ref();
        let (pid, tid) = (process.map(|process| process.pid), process.map(|process| process.tid));
        let name = process.map(|process| process.name.text.as_str());
        self.vms.iter().any(|select| select.selects_ids(pid, tid, vm.fd, name))
    }
}

fn listed(list: &[String], name: Option<&str>) -> bool {
    list.is_empty() || name.is_some_and(|name| list.iter().any(|wanted| wanted == name))
}

/// One region in so many, always the same ones of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub u64);

impl Sample {
    /// Parts of a change that are in regions of the sample.
    pub(super) fn parts(self, vm: VmKey, change: &Change) -> impl Iterator<Item = Change> {
        let change = *change;
        let step = frames(change.level);
        let end = change.gfn + u64::from(change.count) * step;
        let size = step.max(512);
        (change.gfn / size..end.div_ceil(size)).filter_map(move |region| {
            let (first, next) = (region * size, (region + 1) * size);
            let (gfn, next) = (change.gfn.max(first), end.min(next));
            let count = (next.saturating_sub(gfn) / step) as u32;
            let wanted = hash(vm.born ^ (first / 512)).is_multiple_of(self.0);
            (wanted && count > 0).then_some(Change { gfn, count, ..change })
        })
    }
}

/// The finalizer of `SplitMix64`.
fn hash(mut n: u64) -> u64 {
    n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}
