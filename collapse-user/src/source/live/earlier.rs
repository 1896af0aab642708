//! The memslots of VMs that existed before: no event tells them.

use std::collections::BTreeMap;

use collapse_common::abi::{VmGauges, VmKey, request::Adopt};
use collapse_feed::Slot;

use crate::{
    plan::SlotLayout,
    probe::Probe,
    source::{
        maps::Maps,
        memslots,
        peek::{Peeker, carried_out},
    },
};

/// Readings in which a VM's memslots are tried to be read.
const TRIES: u32 = 8;

/// VMs that existed before, and in how many more readings their memslots are tried to be read.
pub struct Earlier {
    layout: Option<SlotLayout>,
    tries: BTreeMap<VmKey, u32>,
}

impl Earlier {
    /// Starts without any VM. Without a layout, no memslots are read.
    pub fn new(layout: Option<SlotLayout>) -> Self {
        Self { layout, tries: BTreeMap::new() }
    }

    /// Reads the memslots of VMs that existed before, once each, and tells the kernel side how much of them
    /// is under dirty logging.
    pub fn slots(
        &mut self,
        vms: &[VmGauges],
        probe: &Probe,
        maps: &Maps,
    ) -> Vec<(VmKey, Vec<Slot>)> {
        let Some(layout) = self.layout else { return Vec::new() };
        let memory = Peeker::new(probe, &maps.peeked);
        let mut found = Vec::new();
        for gauges in vms.iter().filter(|gauges| gauges.created == 0) {
            let left = self.tries.entry(gauges.vm).or_insert(TRIES);
            if *left == 0 {
                continue;
            }
            *left -= 1;
            let Some(slots) = memslots::read(&memory, &layout, gauges.vm.kvm) else { continue };
            if adopted(probe, maps, gauges, &slots) {
                *left = 0;
                found.push((gauges.vm, slots));
            }
        }
        found
    }

    /// Forgets a VM that is gone.
    pub fn forget(&mut self, vm: VmKey) {
        self.tries.remove(&vm);
    }
}

/// Tells the kernel side about the memslots of a VM; whether none was updated since.
fn adopted(probe: &Probe, maps: &Maps, gauges: &VmGauges, slots: &[Slot]) -> bool {
    let frames = |logging: bool| {
        let counted = slots.iter().filter(|slot| !logging || slot.is_logging());
        counted.map(|slot| slot.npages).sum()
    };
    let (logged, total) = (frames(true), frames(false));
    let adopt = Adopt { kvm: gauges.vm.kvm, commits: gauges.commits, logged, total };
    carried_out(probe, &maps.peeked, &adopt)
}
