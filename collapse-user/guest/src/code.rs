//! The guest: a few instructions of long-mode code, its page tables, and the registers that control
//! it.
//!
//! Everything that the guest needs besides its data is in the low slot, 2 MiB at guest-physical 0:
//!
//! | page | content |
//! |---|---|
//! | 1 | PML4 |
//! | 2 | page-directory pointers |
//! | 3 + n | page directory of the n-th GiB, which maps 2 MiB pages to themselves |
//! | last | code |
//!
//! The guest has no stack, no interrupts and no data of its own. Besides the memory that it is
//! ordered to access, it touches exactly these pages: code, PML4, pointers and two directories.

use std::arch::global_asm;

use anyhow::{Result, ensure};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::kind::Access;
use crate::memory::Memory;
use crate::units::{GIB, HUGE, PAGE};

/// Size of the low slot, bytes.
pub const LOW_SIZE: u64 = HUGE;

const PML4: u64 = PAGE;
const POINTERS: u64 = 2 * PAGE;
const DIRECTORIES: u64 = 3 * PAGE;
// Far from the page tables, so that KVM's prefetching of adjacent pages does not cover both.
const CODE: u64 = LOW_SIZE - PAGE;
/// First address that the guest cannot access, as its page directory would overlap the code.
pub const ADDRESS_LIMIT: u64 = (CODE - DIRECTORIES) / PAGE * GIB;

// One loop per kind of access. Registers:
//   rdi  guest address of place 0          rsi  bytes from one place to the next
//   rcx  remaining accesses                rax  the place, kept from one run to the next
//   r8, r9, r10   next place = (rax * r8 + r9) & r10
//   r11  number of places; those from it on are skipped
global_asm!(
    "
    .pushsection .rodata.collapse_guest, \"a\"
    .macro walk name, access
    .globl \\name
    \\name:
    2:  cmp rax, r11
        jae 3f
        mov rdx, rax
        imul rdx, rsi
        add rdx, rdi
        \\access
        dec rcx
    3:  imul rax, r8
        add rax, r9
        and rax, r10
        test rcx, rcx
        jnz 2b
        hlt
    .endm

    .macro store_byte
        mov byte ptr [rdx], cl
    .endm
    .macro load_byte
        mov bl, byte ptr [rdx]
    .endm
    .macro call_place
        lea rbx, [rip + 4f]
        jmp rdx
    4:
    .endm

    walk collapse_guest_write, store_byte
    walk collapse_guest_read, load_byte
    walk collapse_guest_exec, call_place
    .globl collapse_guest_end
    collapse_guest_end:
    .popsection
    "
);

unsafe extern "C" {
    static collapse_guest_write: u8;
    static collapse_guest_read: u8;
    static collapse_guest_exec: u8;
    static collapse_guest_end: u8;
}

/// Content of a place that is executed: `jmp rbx`, which returns without a stack.
pub const EXEC_STUB: [u8; 2] = [0xff, 0xe3];

fn code() -> &'static [u8] {
    let start = &raw const collapse_guest_write;
    let size = (&raw const collapse_guest_end as usize) - start as usize;
    // SAFETY: the assembler put the code between the two symbols, in read-only data.
    unsafe { std::slice::from_raw_parts(start, size) }
}

fn entry(access: Access) -> u64 {
    let address = match access {
        Access::Write => &raw const collapse_guest_write,
        Access::Read => &raw const collapse_guest_read,
        Access::Exec => &raw const collapse_guest_exec,
    };
    CODE + (address as u64 - &raw const collapse_guest_write as u64)
}

/// Writes code and page tables to the low slot, with the first GiB mapped.
pub fn load(low: &Memory) -> Result<()> {
    const PRESENT_WRITABLE: u64 = 0b11;
    low.store(CODE, code())?;
    low.store(PML4, &(POINTERS | PRESENT_WRITABLE).to_le_bytes())?;
    let pointers: Vec<u8> = (0..ADDRESS_LIMIT / GIB)
        .flat_map(|gib| (directory(gib) | PRESENT_WRITABLE).to_le_bytes())
        .collect();
    low.store(POINTERS, &pointers)?;
    map(low, 0, GIB)
}

/// Maps a range of addresses in the guest's page tables. It never needs to be unmapped.
pub fn map(low: &Memory, start: u64, size: u64) -> Result<()> {
    const PRESENT_WRITABLE_HUGE: u64 = 0b1000_0011;
    let end = start.saturating_add(size);
    ensure!(end <= ADDRESS_LIMIT, "the guest cannot access addresses from {ADDRESS_LIMIT:#x} on");
    for gib in start / GIB..end.div_ceil(GIB) {
        let entries: Vec<u8> = (0..GIB / HUGE)
            .flat_map(|n| ((gib * GIB + n * HUGE) | PRESENT_WRITABLE_HUGE).to_le_bytes())
            .collect();
        low.store(directory(gib), &entries)?;
    }
    Ok(())
}

fn directory(gib: u64) -> u64 {
    DIRECTORIES + gib * PAGE
}

/// Changes the reset state to long mode with the guest's page tables.
pub fn enter_long_mode(sregs: &mut kvm_sregs) {
    const CR0_PE_PG: u64 = 1 << 31 | 1;
    const CR4_PAE: u64 = 1 << 5;
    const EFER_LME_LMA: u64 = 1 << 10 | 1 << 8;
    let flat = kvm_segment { limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..Default::default() };
    let data = kvm_segment { type_: 0b0011, selector: 0x10, db: 1, ..flat };
    sregs.cs = kvm_segment { type_: 0b1011, selector: 0x8, l: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr3 = PML4;
    sregs.cr4 = CR4_PAE;
    sregs.cr0 |= CR0_PE_PG;
    sregs.efer = EFER_LME_LMA;
}

/// A sequence of accesses by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Guest address of the first place.
    pub base: u64,
    /// Bytes from one place to the next.
    pub stride: u64,
    /// Number of places.
    pub places: u64,
    /// Number of places to access, each once.
    pub count: u64,
    /// Seed of a random order of places; without one, they are accessed in order.
    pub seed: Option<u64>,
}

impl Walk {
    /// Returns the registers that start this walk, except for the number of accesses.
    pub fn registers(&self, access: Access) -> kvm_regs {
        // A linear congruential generator modulo a power of two visits every number once if its
        // increment is odd and its multiplier is 1 modulo 4. Counting is a special case.
        let mask = self.places.next_power_of_two() - 1;
        let (multiplier, increment, first) = match self.seed {
            None => (1, 1, 0),
            Some(seed) => {
                let mut draw = SplitMix(seed);
                ((draw.next() & !7) | 5, draw.next() | 1, draw.next())
            }
        };
        kvm_regs {
            rip: entry(access),
            rflags: 2,
            rdi: self.base,
            rsi: self.stride,
            rax: first & mask,
            r8: multiplier,
            r9: increment,
            r10: mask,
            r11: self.places,
            ..Default::default()
        }
    }
}

/// Sets the registers of a halted guest to do the next `count` accesses of its walk.
pub fn go_on(regs: &mut kvm_regs, access: Access, count: u64) {
    regs.rip = entry(access);
    regs.rcx = count;
}

/// The `SplitMix64` generator, which makes well-mixed numbers from a small seed.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::kind::Backing;

    /// Does with the registers what the guest's loop does, and returns the places visited.
    fn visited(walk: &Walk) -> Vec<u64> {
        let mut regs = walk.registers(Access::Write);
        go_on(&mut regs, Access::Write, walk.count);
        let mut places = Vec::new();
        while regs.rcx > 0 {
            if regs.rax < regs.r11 {
                places.push(regs.rax);
                regs.rcx -= 1;
            }
            regs.rax = regs.rax.wrapping_mul(regs.r8).wrapping_add(regs.r9) & regs.r10;
        }
        places
    }

    #[test]
    fn without_a_seed_places_come_in_order() {
        let walk = Walk { base: GIB, stride: PAGE, places: 5, count: 5, seed: None };
        assert_eq!(visited(&walk), vec![0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_seed_shuffles_and_repeats() {
        let walk = Walk { base: GIB, stride: PAGE, places: 16384, count: 1000, seed: Some(1) };
        let places = visited(&walk);
        assert_eq!(places, visited(&walk));
        assert_ne!(places, visited(&Walk { seed: Some(2), ..walk }));
        let regions: BTreeSet<u64> = places.iter().map(|place| place / 512).collect();
        assert_eq!(regions.len(), 32, "a thousand random pages reach each of 32 regions");
    }

    #[test]
    fn the_code_fits_its_page_and_ends_in_hlt() {
        assert!(code().len() < PAGE as usize);
        assert_eq!(code().last(), Some(&0xf4));
        assert_eq!(entry(Access::Write), CODE);
        assert!(entry(Access::Exec) > entry(Access::Read));
    }

    #[test]
    fn page_tables_stay_below_the_code() {
        let low = Memory::new(LOW_SIZE, Backing::Small).unwrap();
        load(&low).unwrap();
        map(&low, GIB, 1).unwrap();
        map(&low, ADDRESS_LIMIT - GIB, GIB).unwrap();
        assert!(map(&low, ADDRESS_LIMIT, 1).is_err());
        assert!(directory(ADDRESS_LIMIT / GIB - 1) + PAGE <= CODE);
    }

    proptest! {
        #[test]
        fn every_walk_visits_distinct_places(
            places in 1_u64..3000, share in 1_u64..=100, seed: Option<u64>,
        ) {
            let count = (places * share).div_ceil(100);
            let walk = Walk { base: 0, stride: PAGE, places, count, seed };
            let visited = visited(&walk);
            prop_assert_eq!(visited.len() as u64, count);
            prop_assert!(visited.iter().all(|place| *place < places));
            let distinct: BTreeSet<u64> = visited.into_iter().collect();
            prop_assert_eq!(distinct.len() as u64, count);
        }
    }
}
