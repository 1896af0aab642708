//! Which events are wanted.

use collapse_common::{abi::VmKey, spte::frames};

use super::line::{Line, VmLine};
use crate::{report::VmSelect, source::Change};

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
    pub(super) fn takes(&self, line: &Line) -> bool {
        let listed = |list: &[String], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|wanted| wanted == name))
        };
        listed(&self.kinds, Some(line.kind))
            && listed(&self.causes, line.cause)
            && self.slot.is_none_or(|id| line.slot.is_some_and(|slot| slot.id == id))
            && (self.vms.is_empty() || line.vm.as_ref().is_some_and(|vm| self.takes_vm(vm)))
    }

    fn takes_vm(&self, vm: &VmLine) -> bool {
        let name = vm.name.as_deref();
        self.vms.iter().any(|select| select.selects_ids(vm.pid, vm.tid, vm.fd, name))
    }
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
