//! What is mapped of each memslot, from the page tables of the TDP MMU, read without a lock and without changing
//! anything.
//!
//! A table may be freed while it is read, and then be anything. So the result is taken only if it is what KVM's
//! own gauges say.

use collapse_common::{
    SpteLayout,
    abi::Pages,
    spte::{SpteBits as _, frames},
};
use collapse_feed::Slot;

use super::peek::KernelMemory;
use crate::plan::TdpLayout;

/// Entries of a table.
const ENTRIES: usize = 512;

/// Frame of a table in an SPTE, bits 12 to 51.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Most roots of a VM: one for each kind of guest mode.
const ROOTS: usize = 64;

/// Tolerated difference to the gauges, one in this many frames: a running guest maps meanwhile.
const TOLERANCE: u64 = 64;

/// Reason why it is not known what is mapped of each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TdpError {
    /// A table could not be read.
    #[error("KVM's page tables could not be read")]
    Unreadable,
    /// There was not enough time.
    #[error("reading KVM's page tables takes too long")]
    TooLong,
    /// What was read is not what KVM counts.
    #[error("what was read of KVM's page tables is not what KVM counts: they changed meanwhile")]
    Changed,
}

/// Where page tables are.
pub struct Tables<M> {
    /// The kernel's memory.
    pub memory: M,
    /// Layout of what leads to them.
    pub layout: TdpLayout,
    /// Bits of an SPTE.
    pub spte: SpteLayout,
    /// Where the kernel has mapped all of its memory.
    pub direct_map: u64,
}

/// Leaves that were found: by slot, and all.
struct Found<'a> {
    slots: &'a [Slot],
    by_slot: Vec<Pages>,
    all: Pages,
}

impl<M: KernelMemory> Tables<M> {
    /// Returns the leaves of each of the slots of the VM at `kvm`, which are in the order of address space and guest
    /// frame. `gauges` reads KVM's own count; `go_on` decides before each table whether there is time for it.
    pub fn leaves(
        &self,
        kvm: u64,
        slots: &[Slot],
        gauges: impl Fn() -> Option<Pages>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Pages>, TdpError> {
        let before = gauges().ok_or(TdpError::Unreadable)?;
        let mut found = Found { slots, by_slot: vec![[0; 3]; slots.len()], all: [0; 3] };
        for (table, level, as_id) in self.roots(kvm)? {
            self.table(table, level, as_id, 0, &mut found, go_on)?;
        }
        let after = gauges().ok_or(TdpError::Unreadable)?;
        if agrees(found.all, before, after) { Ok(found.by_slot) } else { Err(TdpError::Changed) }
    }

    /// Returns table, level and address space of every root in use.
    fn roots(&self, kvm: u64) -> Result<Vec<(u64, u32, u16)>, TdpError> {
        let word = |address: u64| self.memory.word(address).ok_or(TdpError::Unreadable);
        let head = kvm.wrapping_add(self.layout.roots.into());
        let mut roots = Vec::new();
        let mut node = word(head)?;
        while node != head {
            if roots.len() == ROOTS {
                return Err(TdpError::Changed);
            }
            let page = node.wrapping_sub(self.layout.link.into());
            let role = word(page.wrapping_add(self.layout.role.into()))? as u32;
            // `kvm_mmu_page_role`: level and smm. What is mapped by a root that is being zapped counts, too, until
            // it is gone.
            let (level, smm) = (role & 0xf, (role >> 24) as u8);
            let table = word(page.wrapping_add(self.layout.spt.into()))?;
            roots.push((table, level, smm.into()));
            node = word(node)?;
        }
        Ok(roots)
    }

    fn table(
        &self,
        table: u64,
        level: u32,
        as_id: u16,
        first: u64,
        found: &mut Found,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), TdpError> {
        if !(1..=5).contains(&level) {
            return Err(TdpError::Changed);
        }
        if !go_on() {
            return Err(TdpError::TooLong);
        }
        let mut bytes = [0; ENTRIES * 8];
        self.memory.read(table, &mut bytes).ok_or(TdpError::Unreadable)?;
        let (entries, _) = bytes.as_chunks::<8>();
        for (spte, n) in entries.iter().map(|bytes| u64::from_le_bytes(*bytes)).zip(0..) {
            if !self.spte.is_present(spte) {
                continue;
            }
            let gfn = first + n * frames(level);
            if self.spte.is_leaf(level, spte) {
                found.leaf(as_id, gfn, level)?;
            } else {
                let below = self.direct_map.wrapping_add(spte & FRAME);
                self.table(below, level - 1, as_id, gfn, found, go_on)?;
            }
        }
        Ok(())
    }
}

impl Found<'_> {
    fn leaf(&mut self, as_id: u16, gfn: u64, level: u32) -> Result<(), TdpError> {
        let size = level as usize - 1;
        *self.all.get_mut(size).ok_or(TdpError::Changed)? += 1;
        let after = self.slots.partition_point(|slot| (slot.as_id, slot.base_gfn) <= (as_id, gfn));
        let slot = after.checked_sub(1).map(|at| (at, &self.slots[at]));
        // Else it is of KVM's own slots, as the page of the APIC.
        if let Some((at, slot)) = slot
            && slot.as_id == as_id
            && gfn - slot.base_gfn < slot.npages
        {
            self.by_slot[at][size] += 1;
        }
        Ok(())
    }
}

/// Whether leaves are as many, within what may change meanwhile, as KVM counted before or after.
fn agrees(found: Pages, before: Pages, after: Pages) -> bool {
    let in_frames = |pages: Pages| -> [u64; 3] {
        std::array::from_fn(|size| pages[size].saturating_mul(frames(size as u32 + 1)))
    };
    let (found, before, after) = (in_frames(found), in_frames(before), in_frames(after));
    let all = |frames: [u64; 3]| frames.into_iter().fold(0, u64::saturating_add);
    let slack = all(before).max(all(after)) / TOLERANCE;
    (0..3).all(|size| {
        let least = before[size].min(after[size]).saturating_sub(slack);
        let most = before[size].max(after[size]).saturating_add(slack);
        (least..=most).contains(&found[size])
    })
}

#[cfg(test)]
mod tests;
