//! One region without its huge leaf.

use std::num::{NonZeroU32, NonZeroU64};

use collapse_common::{Cause, spte::frames};

use collapse_feed::Slot;

use super::counts::Mapping;

/// A 2 MiB-aligned range of guest frames in one address space. In one word, as there can be as many
/// as the guest has memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(u64);

/// Bits of a guest frame number below the address space.
const GFN_BITS: u32 = 56;

impl Region {
    /// The region of a guest frame in address space `as_id` (1 is SMM).
    pub fn of(as_id: u32, gfn: u64) -> Self {
        let first = gfn & ((1 << GFN_BITS) - 1) & !(frames(2) - 1);
        Self(u64::from(as_id) << GFN_BITS | first)
    }

    /// Returns its address space.
    pub fn as_id(self) -> u32 {
        (self.0 >> GFN_BITS) as u32
    }

    /// Returns its first guest frame.
    pub fn gfn(self) -> u64 {
        self.0 & ((1 << GFN_BITS) - 1)
    }

    /// Whether all of it is in a slot. A huge leaf never reaches beyond its slot.
    pub fn is_in(self, slot: &Slot) -> bool {
        let end = slot.base_gfn.saturating_add(slot.npages);
        self.as_id() == u32::from(slot.as_id)
            && self.gfn() >= slot.base_gfn
            && self.gfn() + frames(2) <= end
    }
}

/// A region that lost its huge leaf and has not got it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// `CLOCK_MONOTONIC` ns at which it lost it.
    pub at: u64,
    /// `CLOCK_MONOTONIC` ns from which on nothing in it was mapped; `None` if that never was so.
    pub zapped: Option<NonZeroU64>,
    /// `CLOCK_MONOTONIC` ns of the first 4 KiB leaf since it was lost or `zapped`; `None` if it was
    /// not touched since.
    pub refaulted: Option<NonZeroU64>,
    /// The episode in which it was lost; `None` if in none.
    pub episode: Option<NonZeroU32>,
    /// 4 KiB leaves in it.
    pub small: u16,
    /// Why it lost it.
    pub cause: Cause,
    /// Whether to a split; to a zap otherwise.
    pub split: bool,
}

// A guest of 1 TiB has half a million regions.
const _: () = assert!(size_of::<Lost>() == 32);

impl Lost {
    /// How it is mapped.
    pub fn mapping(&self) -> Mapping {
        match (self.refaulted, self.small) {
            (Some(_), _) => Mapping::Small,
            (None, 0) => Mapping::None,
            (None, _) => Mapping::StillSplit,
        }
    }

    /// 4 KiB leaves were installed. Returns for how long nothing was mapped, if that ends now, ns.
    pub(super) fn install(&mut self, at: u64, leaves: u16) -> Option<u64> {
        self.small = self.small.saturating_add(leaves);
        if self.refaulted.is_some() {
            return None;
        }
        self.refaulted = stamp(at);
        self.empty_for(at)
    }

    /// 4 KiB leaves were zapped.
    pub(super) fn zap(&mut self, at: u64, leaves: u16) {
        self.small = self.small.saturating_sub(leaves);
        if self.small == 0 {
            self.zapped = stamp(at);
            self.refaulted = None;
        }
    }

    /// The zap that was its loss turns out to be half of a split in two steps.
    pub(super) fn relink(&mut self) {
        self.split = true;
        self.zapped = None;
    }

    /// For how long nothing in it has been mapped, ns; `None` if something was.
    ///
    /// A refault can be recorded shortly before the zap it follows (6.12 records the zap after the
    /// SPTE is free again): no time then.
    pub(super) fn empty_for(&self, at: u64) -> Option<u64> {
        self.zapped.map(|zapped| at.saturating_sub(zapped.get()))
    }
}

/// A time that is known. The first nanosecond after boot stands in for boot itself.
pub(super) fn stamp(at: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(at.max(1))
}
