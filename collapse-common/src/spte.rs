//! The bits of an SPTE, and the meaning of a change of one.
//!
//! Bits as in `arch/x86/kvm/mmu/spte.h`; observed on 5.10, 6.1, 6.12, 6.18 and 7.3.

use crate::ids;

/// `PT_PAGE_SIZE_MASK`: a present SPTE above level 1 with this bit maps memory itself.
const LARGE: u64 = 1 << 7;

/// `SPTE_EPT_READABLE_MASK`, in other paging modes present. Only ageing without accessed bits
/// (`kvm_intel.eptad=N`) takes it from a leaf: `mark_spte_for_access_track` puts all permissions aside, to
/// bits 54 and up, for the next access to fault.
const READABLE: u64 = 1 << 0;

/// Where the bits of an SPTE are on the running kernel and paging mode.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpteLayout {
    /// `SPTE_MMU_PRESENT_MASK` (bit 11) from 5.12 on; 0 where there is no such bit (5.10), which
    /// selects the older rule: not zero and not MMIO.
    pub present: u64,
    /// Hardware write permission: bit 1 in every paging mode.
    pub writable: u64,
    /// Accessed: bit 5 on NPT and in shadow paging, bit 8 on EPT.
    pub accessed: u64,
    /// Dirty: bit 6 on NPT and in shadow paging, bit 9 on EPT.
    pub dirty: u64,
}

/// How to read an SPTE: a [`SpteLayout`], or a stand-in that does not load all of it.
pub trait SpteBits {
    /// [`SpteLayout::present`]
    fn present(&self) -> u64;

    /// [`SpteLayout::writable`]
    fn writable(&self) -> u64;

    /// [`SpteLayout::accessed`]
    fn accessed(&self) -> u64;

    /// [`SpteLayout::dirty`]
    fn dirty(&self) -> u64;

    /// Whether `spte` is present for the MMU: a leaf or a page table, neither empty nor frozen nor
    /// MMIO. Mirrors `is_shadow_present_pte`.
    #[inline(always)]
    fn is_present(&self, spte: u64) -> bool {
        if self.present() == 0 {
            // 5.10: `spte != 0 && !is_mmio_spte(spte)`; the MMIO type is 3 in bits 52-53.
            spte != 0 && (spte >> 52) & 3 != 3
        } else {
            spte & self.present() != 0
        }
    }

    /// Whether a *present* `spte` at `level` maps guest memory itself. Mirrors `is_last_spte`.
    #[inline(always)]
    fn is_leaf(&self, level: u32, spte: u64) -> bool {
        level == 1 || spte & LARGE != 0
    }

    /// Whether `spte` lets the guest write.
    #[inline(always)]
    fn is_writable(&self, spte: u64) -> bool {
        spte & self.writable() != 0
    }
}

impl SpteBits for SpteLayout {
    #[inline(always)]
    fn present(&self) -> u64 {
        self.present
    }

    #[inline(always)]
    fn writable(&self) -> u64 {
        self.writable
    }

    #[inline(always)]
    fn accessed(&self) -> u64 {
        self.accessed
    }

    #[inline(always)]
    fn dirty(&self) -> u64 {
        self.dirty
    }
}

impl SpteLayout {
    /// NPT or shadow paging with the MMU-present bit (6.1 and later).
    pub const NPT: Self =
        Self { present: 1 << 11, writable: 1 << 1, accessed: 1 << 5, dirty: 1 << 6 };

    /// EPT with the MMU-present bit (6.1 and later).
    pub const EPT: Self =
        Self { present: 1 << 11, writable: 1 << 1, accessed: 1 << 8, dirty: 1 << 9 };

    /// Returns this paging mode on a kernel without the MMU-present bit (5.10).
    #[must_use]
    pub const fn without_present_bit(self) -> Self {
        Self { present: 0, ..self }
    }
}

ids! {
    /// The meaning of one SPTE change, which follows from its level and the SPTE before and after.
    pub enum Transition: u8 {
        /// Neither side present: an empty entry of a removed table being frozen, or MMIO.
        Noise = 0 "noise",
        /// Non-present to leaf.
        Install = 1 "install",
        /// Huge leaf to page table. From 6.1 on its 512 children are written without events of their
        /// own, so a split adds 512 mappings of the next level.
        Split = 2 "split",
        /// Leaf to non-present or frozen.
        Zap = 3 "zap",
        /// Page table to leaf, writable: huge again in place.
        Recover = 4 "recover",
        /// Page table to leaf that came back write-protected and costs one more fault at its next
        /// write (`tdp_mmu_make_huge_spte`, 6.13 and later).
        RecoverReadOnly = 5 "recover_read_only",
        /// Non-present to page table.
        Link = 6 "link",
        /// Page table to non-present or frozen.
        Unlink = 7 "unlink",
        /// Leaf stays, write permission lost.
        WriteProtect = 8 "write_protect",
        /// Leaf stays, write permission gained.
        MakeWritable = 9 "make_writable",
        /// Leaf stays, dirty bit cleared.
        ClearDirty = 10 "clear_dirty",
        /// Leaf stays, accessed bit cleared; without such bits, all permissions put aside.
        Age = 11 "age",
        /// Any other change of a present SPTE in place.
        Update = 12 "update",
        /// The link half of a split done in two steps: this thread zapped the huge leaf of the same
        /// region just before, inside the same fault (5.10, 6.1, rmap and shadow MMU). The zap half is
        /// counted as [`Transition::Zap`]; no children are written.
        SplitRelink = 13 "split_relink",
    }
}

impl Transition {
    /// Whether the change belongs to a mapping's life cycle, and so is worth a record beside its counter.
    /// In-place updates and noise are only counted, unless the user selects them.
    #[inline(always)]
    pub const fn is_recorded(self) -> bool {
        matches!(
            self,
            Self::Install
                | Self::Split
                | Self::Zap
                | Self::Recover
                | Self::RecoverReadOnly
                | Self::SplitRelink
        )
    }

    /// Returns how one such change at `level` moves KVM's `pages_*` gauge of that level.
    pub const fn gauge(self) -> i64 {
        match self {
            Self::Install | Self::Recover | Self::RecoverReadOnly => 1,
            Self::Split | Self::Zap => -1,
            _ => 0,
        }
    }
}

/// Decides what changing the SPTE at `level` (1 = 4 KiB) from `old` to `new` means.
#[inline(always)]
pub fn classify(bits: &impl SpteBits, level: u32, old: u64, new: u64) -> Transition {
    match (bits.is_present(old), bits.is_present(new)) {
        (false, false) => Transition::Noise,
        (false, true) if bits.is_leaf(level, new) => Transition::Install,
        (false, true) => Transition::Link,
        (true, false) if bits.is_leaf(level, old) => Transition::Zap,
        (true, false) => Transition::Unlink,
        (true, true) => in_place(bits, level, old, new),
    }
}

#[inline(always)]
fn in_place(bits: &impl SpteBits, level: u32, old: u64, new: u64) -> Transition {
    // Nearly all are of this level; asked first, it saves a dozen instructions.
    if level == 1 {
        return of_leaf(bits, old, new);
    }
    match (old & LARGE != 0, new & LARGE != 0) {
        (true, true) => of_leaf(bits, old, new),
        (true, false) => Transition::Split,
        (false, true) if bits.is_writable(new) => Transition::Recover,
        (false, true) => Transition::RecoverReadOnly,
        (false, false) => Transition::Update,
    }
}

#[inline(always)]
fn of_leaf(bits: &impl SpteBits, old: u64, new: u64) -> Transition {
    let changed = old ^ new;
    if changed & bits.writable() != 0 {
        match () {
            () if bits.is_writable(new) => Transition::MakeWritable,
            () if new & READABLE == 0 => Transition::Age,
            () => Transition::WriteProtect,
        }
    } else if changed & old & bits.dirty() != 0 {
        Transition::ClearDirty
    } else if changed & old & (bits.accessed() | READABLE) != 0 {
        Transition::Age
    } else {
        Transition::Update
    }
}

/// Returns the number of 4 KiB frames that one SPTE at `level` (1 to 5) covers.
#[inline(always)]
pub const fn frames(level: u32) -> u64 {
    1 << (9 * ((level as u64).wrapping_sub(1) & 7))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NPT: SpteLayout = SpteLayout::NPT;
    // Values observed on 6.12 with NPT; only the bits below the frame number matter.
    const LEAF_4K: u64 = 0x1234_5e67;
    const LEAF_2M: u64 = 0x1220_0ee7;
    const TABLE: u64 = 0x1234_5827;
    const EMPTY: u64 = 0x8000_0000_0000_0000;
    const FROZEN_6_1: u64 = 0x5a0;
    const FROZEN_6_12: u64 = 0x8000_0000_0000_05a0;
    const FROZEN_7_3: u64 = 0x8000_0000_0000_01a0;

    #[test]
    fn life_of_a_region() {
        assert_eq!(classify(&NPT, 2, EMPTY, LEAF_2M), Transition::Install);
        assert_eq!(classify(&NPT, 2, LEAF_2M, TABLE), Transition::Split);
        assert_eq!(classify(&NPT, 1, LEAF_4K, LEAF_4K & !2), Transition::WriteProtect);
        assert_eq!(classify(&NPT, 1, LEAF_4K & !2, LEAF_4K), Transition::MakeWritable);
        assert_eq!(classify(&NPT, 2, TABLE, EMPTY), Transition::Unlink);
        assert_eq!(classify(&NPT, 1, LEAF_4K, FROZEN_6_12), Transition::Zap);
        assert_eq!(classify(&NPT, 2, TABLE, LEAF_2M), Transition::Recover);
        assert_eq!(classify(&NPT, 2, TABLE, LEAF_2M & !2), Transition::RecoverReadOnly);
    }

    #[test]
    fn frozen_and_empty_are_not_present() {
        for gone in [0, EMPTY, FROZEN_6_1, FROZEN_6_12, FROZEN_7_3] {
            assert_eq!(classify(&NPT, 2, LEAF_2M, gone), Transition::Zap, "{gone:#x}");
            assert_eq!(classify(&NPT, 2, gone, TABLE), Transition::Link, "{gone:#x}");
            assert_eq!(classify(&NPT, 1, gone, EMPTY), Transition::Noise, "{gone:#x}");
        }
    }

    #[test]
    fn accessed_and_dirty_only_changes() {
        assert_eq!(classify(&NPT, 1, LEAF_4K, LEAF_4K & !(1 << 5)), Transition::Age);
        assert_eq!(classify(&NPT, 1, LEAF_4K, LEAF_4K & !(1 << 6)), Transition::ClearDirty);
        assert_eq!(classify(&NPT, 1, LEAF_4K & !(1 << 5), LEAF_4K), Transition::Update);
    }

    /// As `mark_spte_for_access_track` does it: readable and executable to bits 54 and 56, no permission left.
    fn aged_without_accessed_bits(spte: u64) -> u64 {
        (spte & !(0b101 << 54) & !0b111) | (spte & 0b101) << 54
    }

    #[test]
    fn ageing_without_accessed_bits_is_no_write_protection() {
        const EPT: SpteLayout = SpteLayout::EPT;
        // As seen on 6.12.
        let (leaf, aged) = (0x1234_5877, 0x0140_0000_1234_5870);
        assert_eq!(aged_without_accessed_bits(leaf), aged);
        for level in [1, 2] {
            let huge = if level == 2 { LARGE } else { 0 };
            assert_eq!(classify(&EPT, level, leaf | huge, aged | huge), Transition::Age);
            assert_eq!(classify(&EPT, level, aged | huge, leaf | huge), Transition::MakeWritable);
        }
    }

    #[test]
    fn without_the_present_bit() {
        let old = NPT.without_present_bit();
        assert_eq!(classify(&old, 1, 0, 0x1234_5c67), Transition::Install);
        assert_eq!(classify(&old, 2, 0x1220_0ce7, 0), Transition::Zap);
        assert_eq!(classify(&old, 2, 0, 0x1234_5027), Transition::Link);
        // MMIO: type 3 in bits 52-53.
        assert_eq!(classify(&old, 1, 0, 3 << 52 | 0x1000), Transition::Noise);
    }

    #[test]
    fn frames_by_level() {
        assert_eq!([1, 2, 3].map(frames), [1, 512, 512 * 512]);
    }

    proptest! {
        /// The gauge effect follows from which sides are leaves, whatever the other bits say.
        #[test]
        fn gauge_effect_is_leaf_difference(level in 1u32..=5, old: u64, new: u64, ept: bool, old_kernel: bool) {
            let layout = if ept { SpteLayout::EPT } else { NPT };
            let layout = if old_kernel { layout.without_present_bit() } else { layout };
            let leaf = |spte| i64::from(layout.is_present(spte) && layout.is_leaf(level, spte));
            prop_assert_eq!(classify(&layout, level, old, new).gauge(), leaf(new) - leaf(old));
        }

        /// Ageing is told from write-protection whatever the other bits say, and the latter leaves pages readable.
        #[test]
        fn a_leaf_is_aged_or_write_protected(spte: u64, level in 1u32..=3, old_kernel: bool) {
            let layout = SpteLayout::EPT;
            let layout = if old_kernel { layout.without_present_bit() } else { layout };
            let leaf = spte & !(3 << 52) | READABLE | layout.writable | layout.present | LARGE;
            let aged = aged_without_accessed_bits(leaf);
            prop_assert_eq!(classify(&layout, level, leaf, aged), Transition::Age);
            let read_only = leaf & !layout.writable & !layout.dirty;
            let aged = aged_without_accessed_bits(read_only);
            prop_assert_eq!(classify(&layout, level, read_only, aged), Transition::Age);
            let protected = classify(&layout, level, leaf, leaf & !layout.writable);
            prop_assert_eq!(protected, Transition::WriteProtect);
        }

        /// An unchanged SPTE never counts as an event of the life cycle.
        #[test]
        fn no_change_no_event(level in 1u32..=5, spte: u64) {
            prop_assert!(!classify(&NPT, level, spte, spte).is_recorded());
        }
    }
}
