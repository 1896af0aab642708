//! The state that a segment begins with.

use std::collections::BTreeMap;

use collapse_common::abi::VmKey;
use uuid::Uuid;

use crate::{Batch, Event, EventKind, Overhead, Slot, SlotChange};

/// The lasting effects of the updates so far: live VMs, slots, and values that batches repeat only
/// when they change. A segment that is read without its predecessors needs them.
#[derive(Default)]
pub struct Snapshot {
    created: BTreeMap<VmKey, Event>,
    slots: BTreeMap<(VmKey, u16, u16), Event>,
    /// Memslots of VMs that existed before.
    earlier: BTreeMap<VmKey, BTreeMap<(u16, u16), Slot>>,
    hugetlb: BTreeMap<VmKey, u64>,
    uuids: BTreeMap<VmKey, Uuid>,
    overhead: Option<Overhead>,
    stacks: BTreeMap<u32, Vec<String>>,
}

impl Snapshot {
    /// Updates the state by a batch.
    pub fn apply(&mut self, batch: &Batch) {
        self.hugetlb.extend(batch.hugetlb.iter().copied());
        self.uuids.extend(batch.uuids.iter().copied());
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
                    self.uuids.remove(&event.vm);
                    self.slots.retain(|(vm, ..), _| *vm != event.vm);
                    self.earlier.remove(&event.vm);
                }
                EventKind::SlotChanged { slot, change, .. } => {
                    let place = (event.vm, slot.as_id, slot.id);
                    let earlier = self.earlier.get_mut(&event.vm);
                    if *change == SlotChange::Deleted {
                        self.slots.remove(&place);
                        earlier.and_then(|slots| slots.remove(&(slot.as_id, slot.id)));
                    } else {
                        self.slots.insert(place, event.clone());
                        earlier.and_then(|slots| slots.insert((slot.as_id, slot.id), *slot));
                    }
                }
                _ => {}
            }
        }
        for (vm, slots) in &batch.slots {
            let slots = slots.iter().map(|slot| ((slot.as_id, slot.id), *slot));
            self.earlier.insert(*vm, slots.collect());
        }
    }

    /// Returns the memory that the processes of VMs have from hugetlbfs, bytes.
    pub fn hugetlb(&self) -> Vec<(VmKey, u64)> {
        self.hugetlb.iter().map(|(vm, bytes)| (*vm, *bytes)).collect()
    }

    /// Returns the UUIDs of VMs.
    pub fn uuids(&self) -> Vec<(VmKey, Uuid)> {
        self.uuids.iter().map(|(vm, uuid)| (*vm, *uuid)).collect()
    }

    /// Returns the memslots of VMs that existed before.
    pub fn slots(&self) -> Vec<(VmKey, Vec<Slot>)> {
        self.earlier.iter().map(|(vm, slots)| (*vm, slots.values().copied().collect())).collect()
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
