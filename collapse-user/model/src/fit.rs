//! The largest leaf by which KVM may map a memslot.

use collapse_common::spte::frames;
use collapse_feed::Slot;

/// `KVM_MEM_GUEST_MEMFD`
pub const GUEST_MEMFD: u32 = 1 << 2;

/// What KVM may map a memslot by, as far as the slot itself decides: the memory behind it may forbid more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// By leaves up to this level, 2 or 3.
    UpTo(u32),
    /// By 4 KiB, as its dirty logging is on.
    Logged,
    /// By 4 KiB, as its memory is a `guest_memfd`.
    GuestMemfd,
    /// By 4 KiB, as it holds no aligned 2 MiB.
    TooSmall,
    /// By 4 KiB, as its guest address is this many bytes beyond that of its memory, modulo 2 MiB.
    Misaligned(u64),
    /// It is not known where its memory is.
    Unknown,
}

impl Fit {
    /// Judges a slot.
    pub fn of(slot: &Slot) -> Self {
        let bytes = |level| frames(level) * 4096;
        if slot.is_logging() {
            return Self::Logged;
        }
        if slot.flags & GUEST_MEMFD != 0 {
            return Self::GuestMemfd;
        }
        if !holds(slot, bytes(2)) {
            return Self::TooSmall;
        }
        match slot.offset(bytes(2)) {
            None => Self::Unknown,
            Some(0) if holds(slot, bytes(3)) && slot.offset(bytes(3)) == Some(0) => Self::UpTo(3),
            Some(0) => Self::UpTo(2),
            Some(offset) => Self::Misaligned(offset),
        }
    }
}

/// Whether an aligned page of `unit` bytes fits into a slot.
pub fn holds(slot: &Slot, unit: u64) -> bool {
    let start = slot.base_gfn.saturating_mul(4096);
    let end = start.saturating_add(slot.npages.saturating_mul(4096));
    start.checked_next_multiple_of(unit).is_some_and(|first| first.saturating_add(unit) <= end)
}

#[cfg(test)]
mod tests {
    use collapse_common::abi::LOG_DIRTY_PAGES;

    use super::*;

    #[test]
    fn the_slot_decides_on_the_largest_leaf() {
        const MIB: u64 = 1 << 20;
        let slot = |gpa: u64, size: u64, hva: u64| Slot {
            id: 1,
            as_id: 0,
            base_gfn: gpa / 4096,
            npages: size / 4096,
            flags: 0,
            userspace_addr: Some(0x7000_0000_0000 + hva),
        };
        let gib = slot(1024 * MIB, 2048 * MIB, 1024 * MIB);
        for (slot, fit) in [
            (gib, Fit::UpTo(3)),
            // Aligned modulo 2 MiB only.
            (slot(1024 * MIB, 2048 * MIB, 2 * MIB), Fit::UpTo(2)),
            // No aligned GiB in it.
            (slot(1026 * MIB, 1024 * MIB, 1026 * MIB), Fit::UpTo(2)),
            (slot(1025 * MIB, 64 * MIB, 0), Fit::Misaligned(MIB)),
            (slot(1025 * MIB, 2 * MIB, 0), Fit::TooSmall),
            (Slot { flags: LOG_DIRTY_PAGES, ..gib }, Fit::Logged),
            (Slot { flags: GUEST_MEMFD, ..gib }, Fit::GuestMemfd),
            (Slot { userspace_addr: None, ..gib }, Fit::Unknown),
        ] {
            assert_eq!(Fit::of(&slot), fit, "{slot:?}");
        }
    }
}
