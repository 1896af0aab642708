//! A VM's memslots, read from KVM's own structures without a lock.
//!
//! KVM replaces what a reader may be in, and never changes it in place, but frees it soon after. So what was
//! read is taken only if the generation of the memslots is the same before and after.

use collapse_feed::Slot;

use super::peek::KernelMemory;
use crate::plan::{SlotIndex, SlotLayout};

/// Address spaces of x86: ordinary and SMM.
const ADDRESS_SPACES: u16 = 2;

/// Most slots of one address space: `KVM_MEM_SLOTS_NUM` is less.
const MOST: usize = 1 << 15;

/// Times that memslots are read that change meanwhile.
const TRIES: usize = 3;

/// Where the kernel's addresses begin.
const KERNEL: u64 = 0xff00_0000_0000_0000;

/// `struct rb_node`: colour and parent, right child, left child.
const NODE: u64 = 24;
const RIGHT: u64 = 8;
const LEFT: u64 = 16;

/// Reads all memslots of the VM at `kvm`, by address space and guest frame. `None` if they cannot be read, or
/// kept changing.
pub fn read(memory: &impl KernelMemory, layout: &SlotLayout, kvm: u64) -> Option<Vec<Slot>> {
    (0..TRIES).find_map(|_| {
        let before = generations(memory, layout, kvm)?;
        let mut slots = Vec::new();
        for (as_id, space) in before.iter().enumerate() {
            let Some((set, _)) = space else { continue };
            slots.extend(of_space(memory, layout, *set, as_id as u16)?);
        }
        (generations(memory, layout, kvm)? == before).then_some(slots)
    })
}

/// Address and generation of the memslots of an address space; `None` if this kernel has no such space.
type Space = Option<(u64, u64)>;

fn generations(
    memory: &impl KernelMemory,
    layout: &SlotLayout,
    kvm: u64,
) -> Option<[Space; ADDRESS_SPACES as usize]> {
    let mut spaces = [None; ADDRESS_SPACES as usize];
    for (space, pointer) in spaces.iter_mut().zip((0..).step_by(8)) {
        let set = memory.word(kvm + u64::from(layout.memslots) + pointer)?;
        // Without SMM there is another field in its place.
        if set >= KERNEL {
            *space = Some((set, memory.word(set + u64::from(layout.generation))?));
        }
    }
    spaces[0].map(|_| spaces)
}

fn of_space(
    memory: &impl KernelMemory,
    layout: &SlotLayout,
    set: u64,
    as_id: u16,
) -> Option<Vec<Slot>> {
    let mut slots = match layout.index {
        SlotIndex::Array { used, first } => {
            let used = half(memory.word(set + u64::from(used))?) as usize;
            let places = (0..used.min(MOST))
                .map(|at| set + u64::from(first) + at as u64 * u64::from(layout.size));
            places.map(|place| slot(memory, layout, place)).collect::<Option<Vec<_>>>()?
        }
        SlotIndex::Tree { root, set: index, node } => {
            let index = half(memory.word(set + u64::from(index))?) & 1;
            let node = u64::from(node) + u64::from(index) * NODE;
            in_tree(memory, layout, memory.word(set + u64::from(root))?, node)?
        }
    };
    if slots.iter().any(|slot| slot.as_id != as_id) {
        return None;
    }
    slots.sort_by_key(|slot| slot.base_gfn);
    Some(slots)
}

/// The lower half of a word that holds an `int`.
fn half(word: u64) -> u32 {
    word as u32
}

/// Reads the slots of a tree whose nodes are `node` bytes into them.
fn in_tree(
    memory: &impl KernelMemory,
    layout: &SlotLayout,
    root: u64,
    node: u64,
) -> Option<Vec<Slot>> {
    let mut slots = Vec::new();
    let mut ahead = vec![root];
    while let Some(at) = ahead.pop() {
        if at == 0 {
            continue;
        }
        if slots.len() == MOST {
            return None;
        }
        slots.push(slot(memory, layout, at.checked_sub(node)?)?);
        ahead.push(memory.word(at.checked_add(RIGHT)?)?);
        ahead.push(memory.word(at.checked_add(LEFT)?)?);
    }
    Some(slots)
}

fn slot(memory: &impl KernelMemory, layout: &SlotLayout, at: u64) -> Option<Slot> {
    let mut bytes = vec![0; layout.size as usize];
    memory.read(at, &mut bytes)?;
    Some(Slot {
        id: u16::from_le_bytes(field(&bytes, layout.id)?),
        as_id: u16::from_le_bytes(field(&bytes, layout.as_id)?),
        base_gfn: u64::from_le_bytes(field(&bytes, layout.base_gfn)?),
        npages: u64::from_le_bytes(field(&bytes, layout.npages)?),
        flags: u32::from_le_bytes(field(&bytes, layout.flags)?),
        userspace_addr: Some(u64::from_le_bytes(field(&bytes, layout.userspace_addr)?)),
    })
}

fn field<const N: usize>(bytes: &[u8], offset: u32) -> Option<[u8; N]> {
    bytes.get(offset as usize..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
