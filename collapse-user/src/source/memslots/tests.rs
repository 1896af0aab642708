use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use proptest::prelude::*;

use super::*;

const KVM: u64 = 0xffff_c900_0000_0000;
const SETS: u64 = 0xffff_8881_0000_0000;
const PLACES: u64 = 0xffff_8882_0000_0000;

/// Memory that holds words where something was put, and cannot be read elsewhere.
#[derive(Default)]
struct Memory {
    bytes: RefCell<BTreeMap<u64, u8>>,
    reads: Cell<u64>,
    /// Address of a word that changes at each read.
    unsteady: Option<u64>,
}

impl Memory {
    fn put(&self, address: u64, bytes: &[u8]) {
        self.bytes.borrow_mut().extend((address..).zip(bytes.iter().copied()));
    }

    fn put_word(&self, address: u64, word: u64) {
        self.put(address, &word.to_le_bytes());
    }
}

impl KernelMemory for Memory {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        self.reads.set(self.reads.get() + 1);
        if self.unsteady == Some(address) {
            self.put_word(address, self.reads.get());
        }
        let bytes = self.bytes.borrow();
        for (place, into) in (address..).zip(into) {
            *into = *bytes.get(&place)?;
        }
        Some(())
    }
}

fn layout(tree: bool) -> SlotLayout {
    SlotLayout {
        memslots: 0x48,
        generation: 0,
        index: if tree {
            SlotIndex::Tree { root: 40, set: 1072, node: 128 }
        } else {
            SlotIndex::Array { used: 1032, first: 1040 }
        },
        size: 280,
        base_gfn: 176,
        npages: 184,
        flags: 256,
        id: 260,
        as_id: 262,
        userspace_addr: 248,
    }
}

fn put_slot(memory: &Memory, layout: &SlotLayout, at: u64, slot: &Slot) {
    memory.put(at, &vec![0; layout.size as usize]);
    memory.put_word(at + u64::from(layout.base_gfn), slot.base_gfn);
    memory.put_word(at + u64::from(layout.npages), slot.npages);
    memory.put_word(at + u64::from(layout.userspace_addr), slot.userspace_addr.unwrap());
    memory.put(at + u64::from(layout.flags), &slot.flags.to_le_bytes());
    memory.put(at + u64::from(layout.id), &slot.id.to_le_bytes());
    memory.put(at + u64::from(layout.as_id), &slot.as_id.to_le_bytes());
}

/// Puts a VM with these slots in each of its address spaces. Node `n` of a tree is the child of node
/// `parents[n - 1]`, if that has room.
fn vm(slots: &[Vec<Slot>; 2], tree: bool, parents: &[usize], set_in_use: u64) -> Memory {
    let (memory, layout) = (Memory::default(), layout(tree));
    for (as_id, slots) in (0..).zip(slots) {
        let set = SETS + as_id * 0x10_0000;
        memory.put_word(KVM + u64::from(layout.memslots) + as_id * 8, set);
        memory.put_word(set, 6 + as_id);
        match layout.index {
            SlotIndex::Array { used, first } => {
                memory.put_word(set + u64::from(used), slots.len() as u64);
                for (n, slot) in (0..).zip(slots) {
                    let at = set + u64::from(first) + n * u64::from(layout.size);
                    put_slot(&memory, &layout, at, slot);
                }
            }
            SlotIndex::Tree { root, set: index, node } => {
                memory.put_word(set + u64::from(index), set_in_use);
                let place = |n: usize| PLACES + as_id * 0x1000_0000 + n as u64 * 0x1000;
                let node_of = |n| place(n) + u64::from(node) + set_in_use * NODE;
                memory
                    .put_word(set + u64::from(root), if slots.is_empty() { 0 } else { node_of(0) });
                for (n, slot) in slots.iter().enumerate() {
                    put_slot(&memory, &layout, place(n), slot);
                    let mut parent = n.checked_sub(1).map(|before| parents[before] % n);
                    // Down to a node with room.
                    while let Some(at) = parent {
                        let children = [LEFT, RIGHT].map(|side| node_of(at) + side);
                        let free = children.iter().find(|child| memory.word(**child) == Some(0));
                        if let Some(free) = free {
                            memory.put_word(*free, node_of(n));
                            break;
                        }
                        let child = memory.word(children[n % 2]).unwrap();
                        parent = Some(((child - node_of(0)) / 0x1000) as usize);
                    }
                }
            }
        }
    }
    memory
}

fn slots(as_id: u16) -> impl Strategy<Value = Vec<Slot>> {
    let one = (1u64..1 << 20, any::<u32>(), 0u64..1 << 47);
    prop::collection::vec(one, 0..40).prop_map(move |drawn| {
        let mut base_gfn = 0;
        let slot = |(id, (npages, flags, at))| {
            base_gfn += npages;
            let userspace_addr = Some(at);
            Slot { id, as_id, base_gfn: base_gfn - npages, npages, flags, userspace_addr }
        };
        (0..).zip(drawn).map(slot).collect()
    })
}

proptest! {
    #[test]
    fn every_slot_is_found_once(
        ordinary in slots(0), smm in slots(1), tree: bool,
        parents in prop::collection::vec(any::<usize>(), 40), set in 0u64..2,
    ) {
        let wanted = [ordinary.clone(), smm.clone()].concat();
        let memory = vm(&[ordinary, smm], tree, &parents, set);
        prop_assert_eq!(read(&memory, &layout(tree), KVM), Some(wanted));
    }

    /// Whatever is unreadable, nothing half is returned.
    #[test]
    fn all_or_nothing(ordinary in slots(0), tree: bool, hole in 0usize..4096) {
        let memory = vm(&[ordinary.clone(), Vec::new()], tree, &[0; 40], 1);
        let address = memory.bytes.borrow().keys().nth(hole).copied();
        if let Some(address) = address {
            memory.bytes.borrow_mut().remove(&address);
        }
        let found = read(&memory, &layout(tree), KVM);
        prop_assert!(found.is_none() || found == Some(ordinary), "{found:?}");
    }
}

fn one() -> [Vec<Slot>; 2] {
    let slot =
        Slot { id: 1, as_id: 0, base_gfn: 7, npages: 8, flags: 1, userspace_addr: Some(4096) };
    [vec![slot], Vec::new()]
}

#[test]
fn slots_that_keep_changing_are_not_known() {
    for tree in [false, true] {
        let memory = Memory { unsteady: Some(SETS), ..vm(&one(), tree, &[], 0) };
        assert_eq!(read(&memory, &layout(tree), KVM), None);
    }
}

#[test]
fn without_smm_there_is_one_address_space() {
    let memory = vm(&one(), true, &[], 0);
    memory.put_word(KVM + u64::from(layout(true).memslots) + 8, 0xdead_beef);
    assert_eq!(read(&memory, &layout(true), KVM), Some(one()[0].clone()));
    memory.put_word(KVM + u64::from(layout(true).memslots), 0);
    assert_eq!(read(&memory, &layout(true), KVM), None, "this is no VM");
}

#[test]
fn a_circle_ends() {
    let (memory, layout) = (vm(&one(), true, &[], 0), layout(true));
    let SlotIndex::Tree { node, .. } = layout.index else { unreachable!() };
    memory.put_word(PLACES + u64::from(node) + LEFT, PLACES + u64::from(node));
    assert_eq!(read(&memory, &layout, KVM), None);
}
