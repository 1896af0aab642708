use std::{cell::RefCell, collections::BTreeMap};

use proptest::prelude::*;

use super::*;

const KVM: u64 = 0xffff_c900_0000_0000;
const PAGES: u64 = 0xffff_ea00_0000_0000;
const DIRECT: u64 = 0xffff_8880_0000_0000;
const LAYOUT: TdpLayout = TdpLayout { roots: 0x100, link: 0, role: 36, spt: 48 };
/// Bits of a leaf above level 1, and of anything present.
const LARGE: u64 = 1 << 7;
const PRESENT: u64 = 1 << 11;

/// Words of kernel memory.
#[derive(Default)]
struct Memory {
    words: RefCell<BTreeMap<u64, u64>>,
    /// Tables so far.
    tables: RefCell<u64>,
}

impl KernelMemory for &Memory {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let words = self.words.borrow();
        for (place, into) in (address..).step_by(8).zip(into.chunks_mut(8)) {
            // The role is the upper half of a word.
            let word = words.get(&(place & !7)).copied()?;
            into.copy_from_slice(&(word >> (8 * (place & 7))).to_le_bytes()[..into.len()]);
        }
        Some(())
    }
}

impl Memory {
    fn put(&self, address: u64, word: u64) {
        self.words.borrow_mut().insert(address, word);
    }

    /// Makes an empty table and returns its address in physical memory.
    fn table(&self) -> u64 {
        *self.tables.borrow_mut() += 1;
        let frame = *self.tables.borrow() << 12;
        for entry in 0..ENTRIES as u64 {
            self.put(DIRECT + frame + 8 * entry, 0);
        }
        frame
    }

    /// Makes a VM with roots of 4 levels, for the address spaces given.
    fn vm(roots: &[u32]) -> (Self, Vec<u64>) {
        let memory = Self::default();
        let mut last = KVM + u64::from(LAYOUT.roots);
        let mut tables = Vec::new();
        for (n, smm) in (0..).zip(roots) {
            let page = PAGES + n * 0x100;
            memory.put(last, page);
            let role = 4 | smm << 24;
            memory.put(page + 32, u64::from(role) << 32);
            memory.put(page + 40, 0);
            let table = memory.table();
            memory.put(page + u64::from(LAYOUT.spt), DIRECT + table);
            tables.push(table);
            last = page;
        }
        memory.put(last, KVM + u64::from(LAYOUT.roots));
        (memory, tables)
    }

    /// Maps a guest frame by a leaf of a level; whether there was room.
    fn map(&self, root: u64, gfn: u64, level: u32) -> bool {
        let mut table = root;
        for at in (1..=4).rev() {
            let place = DIRECT + table + 8 * (gfn / frames(at) % 512);
            let entry = (&self).word(place).unwrap();
            if at == level {
                if entry == 0 {
                    self.put(place, PRESENT | if level > 1 { LARGE } else { 0 } | 0x1234_5000);
                }
                return entry == 0;
            }
            if entry & LARGE != 0 {
                return false;
            }
            if entry == 0 {
                let below = self.table();
                self.put(place, below | PRESENT | 7);
                table = below;
            } else {
                table = entry & FRAME;
            }
        }
        false
    }
}

fn tables(memory: &Memory) -> Tables<&Memory> {
    Tables { memory, layout: LAYOUT, spte: SpteLayout::NPT, direct_map: DIRECT }
}

fn slot(as_id: u16, base_gfn: u64, npages: u64) -> Slot {
    Slot { id: 1, as_id, base_gfn, npages, flags: 0, userspace_addr: None }
}

proptest! {
    /// Leaves of every level are counted in their slot, and nowhere else.
    #[test]
    fn every_leaf_is_of_its_slot(
        mapped in prop::collection::vec((0u64..8 << 18, 1u32..=3, any::<bool>()), 0..30),
    ) {
        let (memory, roots) = Memory::vm(&[0, 1]);
        let slots = [slot(0, 0, 1 << 18), slot(0, 3 << 18, 2 << 18), slot(1, 0, 4 << 18)];
        let (mut by_slot, mut all) = (vec![[0; 3]; 3], [0; 3]);
        for (gfn, level, smm) in mapped {
            let gfn = gfn / frames(level) * frames(level);
            if !memory.map(roots[usize::from(smm)], gfn, level) {
                continue;
            }
            all[level as usize - 1] += 1;
            let holds = |slot: &&Slot| {
                slot.as_id == u16::from(smm) && (slot.base_gfn..slot.base_gfn + slot.npages).contains(&gfn)
            };
            if let Some(at) = slots.iter().position(|slot| holds(&slot)) {
                by_slot[at][level as usize - 1] += 1;
            }
        }
        let leaves = |gauges: Pages| tables(&memory).leaves(KVM, &slots, || Some(gauges), &|| true);
        prop_assert_eq!(leaves(all), Ok(by_slot));
        let more = all.map(|n| n + n / 2 + 1);
        prop_assert_eq!(leaves(more), Err(TdpError::Changed));
    }
}

#[test]
fn nothing_is_made_up() {
    let (memory, roots) = Memory::vm(&[0]);
    memory.map(roots[0], 5, 1);
    let slots = [slot(0, 0, 512)];
    let late = tables(&memory).leaves(KVM, &slots, || Some([1, 0, 0]), &|| false);
    assert_eq!(late, Err(TdpError::TooLong));
    let unknown = tables(&memory).leaves(KVM, &slots, || None, &|| true);
    assert_eq!(unknown, Err(TdpError::Unreadable));
    // A table that is gone.
    memory.words.borrow_mut().retain(|place, _| *place < DIRECT + (2 << 12) || *place >= PAGES);
    let gone = tables(&memory).leaves(KVM, &slots, || Some([1, 0, 0]), &|| true);
    assert_eq!(gone, Err(TdpError::Unreadable));
}
