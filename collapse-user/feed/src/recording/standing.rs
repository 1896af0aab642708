//! What still holds of what was told.

use std::collections::BTreeMap;

use collapse_common::abi::VmKey;

use crate::{Batch, Event, EventKind, Overhead, SlotChange};

/// Events that told what still holds: what a segment that is read without those before it needs.
#[derive(Default)]
pub struct Standing {
    created: BTreeMap<VmKey, Event>,
    slots: BTreeMap<(VmKey, u16, u16), Event>,
    hugetlb: BTreeMap<VmKey, u64>,
    overhead: Option<Overhead>,
    stacks: BTreeMap<u32, Vec<String>>,
}

impl Standing {
    /// Takes what happened.
    pub fn apply(&mut self, batch: &Batch) {
        self.hugetlb.extend(batch.hugetlb.iter().copied());
        self.stacks.extend(batch.stacks.iter().cloned());
        if batch.overhead.is_some() {
            self.overhead.clone_from(&batch.overhead);
        }
        for event in &batch.events {
            match &event.kind {
                EventKind::VmCreated { .. } => {
                    self.created.insert(event.vm, event.clone());
                }
                EventKind::VmDestroyed { .. } => {
                    self.created.remove(&event.vm);
                    self.hugetlb.remove(&event.vm);
                    self.slots.retain(|(vm, ..), _| *vm != event.vm);
                }
                EventKind::SlotChanged { slot, change, .. } => {
                    let place = (event.vm, slot.as_id, slot.id);
                    if *change == SlotChange::Deleted {
                        self.slots.remove(&place);
                    } else {
                        self.slots.insert(place, event.clone());
                    }
                }
                _ => {}
            }
        }
    }

    /// Memory from hugetlbfs of the processes of VMs, bytes.
    pub fn hugetlb(&self) -> Vec<(VmKey, u64)> {
        self.hugetlb.iter().map(|(vm, bytes)| (*vm, *bytes)).collect()
    }

    /// What the programs cost.
    pub fn overhead(&self) -> Option<Overhead> {
        self.overhead.clone()
    }

    /// Kernel stacks.
    pub fn stacks(&self) -> Vec<(u32, Vec<String>)> {
        self.stacks.iter().map(|(number, frames)| (*number, frames.clone())).collect()
    }

    /// What still holds, oldest first.
    pub fn events(&self) -> Vec<Event> {
        let mut events: Vec<_> =
            self.created.values().chain(self.slots.values()).cloned().collect();
        events.sort_by_key(|event| event.ts);
        events
    }
}
