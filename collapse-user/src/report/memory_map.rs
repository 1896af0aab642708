//! Where in a VM's memory huge leaves are missing.

use std::collections::BTreeMap;

use collapse_common::spte::frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Mapping, Vm},
    source::Slot,
};

/// Cells per slot at most.
const CELLS: u64 = 128;

/// Slots per VM at most: the largest.
const SLOTS: usize = 16;

/// A slot's regions that lost their huge leaf and have not got it back, by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotMap {
    /// The slot.
    pub slot: Slot,
    /// Regions in each cell; the last cell may have fewer.
    pub regions_per_cell: u64,
    /// Cells, from the slot's first region on.
    pub cells: Vec<MapCell>,
}

/// Outstanding regions of one part of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MapCell {
    /// Mapped small again.
    pub small: u64,
    /// Still mapped by the page table of the split.
    pub still_split: u64,
    /// Not mapped at all.
    pub unmapped: u64,
}

/// The largest slots whose dirty logging was seen, in the order of their memory; none of a VM that
/// ended.
pub(super) fn of(vm: &Vm) -> Vec<SlotMap> {
    let mut slots: Vec<Slot> = vm.slots.values().copied().filter(|_| !vm.gone).collect();
    slots.retain(|slot| slot.npages >= frames(2));
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.npages));
    slots.truncate(SLOTS);
    let mut maps: BTreeMap<(u16, u64), SlotMap> =
        slots.into_iter().map(|slot| ((slot.as_id, slot.base_gfn), SlotMap::new(slot))).collect();
    for (region, lost) in vm.regions.outstanding() {
        let up_to = (region.as_id() as u16, region.gfn() + frames(2) - 1);
        let map = maps.range_mut(..=up_to).next_back().map(|(_, map)| map);
        if let Some(cell) = map.and_then(|map| map.cell(region.as_id(), region.gfn())) {
            match lost.mapping() {
                Mapping::Small => cell.small += 1,
                Mapping::StillSplit => cell.still_split += 1,
                Mapping::None => cell.unmapped += 1,
            }
        }
    }
    maps.into_values().collect()
}

impl SlotMap {
    fn new(slot: Slot) -> Self {
        let regions = last_region(&slot) - first_region(&slot) + 1;
        let regions_per_cell = regions.div_ceil(CELLS);
        let cells = vec![MapCell::default(); regions.div_ceil(regions_per_cell) as usize];
        Self { slot, regions_per_cell, cells }
    }

    fn cell(&mut self, as_id: u32, gfn: u64) -> Option<&mut MapCell> {
        if as_id != u32::from(self.slot.as_id) {
            return None;
        }
        let region = (gfn / frames(2)).checked_sub(first_region(&self.slot))?;
        self.cells.get_mut((region / self.regions_per_cell) as usize)
    }
}

fn first_region(slot: &Slot) -> u64 {
    slot.base_gfn / frames(2)
}

fn last_region(slot: &Slot) -> u64 {
    (slot.base_gfn + slot.npages - 1) / frames(2)
}
