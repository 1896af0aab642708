//! From when on regions could be huge again.

use std::collections::BTreeMap;

use super::Region;
use collapse_feed::Slot;

/// Slots whose dirty logging went off, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Unlogged {
    /// By address space and first guest frame: the frame after the last, and `CLOCK_MONOTONIC` ns.
    slots: BTreeMap<(u32, u64), (u64, u64)>,
}

impl Unlogged {
    /// Dirty logging went off for a slot.
    pub(super) fn log_off(&mut self, slot: &Slot, at: u64) {
        let end = slot.base_gfn.saturating_add(slot.npages);
        self.slots.insert((slot.as_id.into(), slot.base_gfn), (end, at));
    }

    /// A slot went away.
    pub(super) fn forget(&mut self, slot: &Slot) {
        self.slots.remove(&(slot.as_id.into(), slot.base_gfn));
    }

    /// Returns from when on a region that was lost at `lost` ns could be huge again, ns: from when its dirty
    /// logging went off, if that was later.
    pub(super) fn since(&self, region: Region, lost: u64) -> u64 {
        let place = (region.as_id(), region.gfn());
        let slot = self.slots.range(..=place).next_back();
        let off = slot.filter(|((as_id, _), (end, _))| *as_id == place.0 && place.1 < *end);
        off.map_or(lost, |(_, (_, at))| lost.max(*at))
    }
}
