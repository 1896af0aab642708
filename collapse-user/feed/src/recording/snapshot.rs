//! The state that a segment begins with.

use std::collections::BTreeMap;

use collapse_common::abi::VmKey;

use crate::{Batch, Event, EventKind, Overhead, SlotChange};

/// The lasting effects of the updates so far: live VMs, slots, and values that batches repeat only
/// when they change. A segment that is read without its predecessors needs them.
#[derive(Default)]
pub struct Snapshot {
    created: BTreeMap<VmKey, Event>,
    slots: BTreeMap<(VmKey, u16, u16), Event>,
    hugetlb: BTreeMap<VmKey, u64>,
    overhead: Option<Overhead>,
    stacks: BTreeMap<u32, Vec<String>>,
}

impl Snapshot {
    /// Updates the state by a batch.
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

    /// Returns the memory that the processes of VMs have from hugetlbfs, bytes.
    pub fn hugetlb(&self) -> Vec<(VmKey, u64)> {
        self.hugetlb.iter().map(|(vm, bytes)| (*vm, *bytes)).collect()
    }

    /// Returns the last overhead of the programs.
    pub fn overhead(&self) -> Option<Overhead> {
        self.overhead.clone()
    }

    /// Returns all kernel stacks.
    pub fn stacks(&self) -> Vec<(u32, Vec<String>)> {
        self.stacks.iter().map(|(number, frames)| (*number, frames.clone())).collect()
    }

    /// Returns the creation of every live VM and the latest change of every slot, oldest first.
    pub fn events(&self) -> Vec<Event> {
        let mut events: Vec<_> =
            self.created.values().chain(self.slots.values()).cloned().collect();
        events.sort_by_key(|event| event.ts);
        events
    }
}
