//! Where in a VM's memory huge leaves are missing, now and at the moments that matter.

use std::collections::BTreeMap;

use collapse_common::spte::frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    episode::Slots,
    logging::LoggedBy,
    regions::{Mapping, Regions},
};
use collapse_feed::{Slot, SlotChange};

/// Cells per slot at most.
const CELLS: u64 = 128;

/// Slots per VM at most: the largest.
const SLOTS: usize = 16;

/// A slot's regions that lost their huge leaf and have not got it back, by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotMap {
    /// The slot.
    pub slot: Slot,
    /// How its dirty logging was done; `None` if that is not known, or if it was not under dirty logging.
    #[serde(default)]
    pub logged_by: Option<LoggedBy>,
    /// Regions in each cell; the last cell may have fewer.
    pub regions_per_cell: u64,
    /// Cells at the end, from the slot's first region on.
    pub cells: Vec<MapCell>,
    /// Cells when dirty logging first went on for the slot; none if that was not seen.
    #[serde(default)]
    pub cells_at_log_on: Vec<MapCell>,
    /// Cells when it last went off; none if that was not seen.
    #[serde(default)]
    pub cells_at_log_off: Vec<MapCell>,
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

/// The memory of one VM at the moments that matter.
#[derive(Clone, Debug, Default)]
pub struct MemoryMaps {
    /// By address space and slot id.
    switched: BTreeMap<(u16, u16), Switched>,
    /// Just before the VM ended.
    end: Option<Vec<SlotMap>>,
}

/// A slot whose dirty logging went on or off.
#[derive(Clone, Debug, Default)]
struct Switched {
    /// As it first went on.
    on: Option<SlotMap>,
    /// As it last went off.
    off: Option<SlotMap>,
}

impl MemoryMaps {
    /// A slot changed.
    pub(super) fn slot(&mut self, slot: Slot, change: SlotChange, regions: &Regions) {
        if !matches!(change, SlotChange::LogOn | SlotChange::LogOff) || slot.npages < frames(2) {
            return;
        }
        let key = (slot.as_id, slot.id);
        if self.switched.len() >= SLOTS && !self.switched.contains_key(&key) {
            return;
        }
        let switched = self.switched.entry(key).or_default();
        let map = || SlotMap::all([slot], regions).pop();
        match change {
            SlotChange::LogOn if switched.on.is_none() => switched.on = map(),
            SlotChange::LogOff => switched.off = map(),
            _ => {}
        }
    }

    /// The VM ends.
    pub(super) fn end(&mut self, slots: &Slots, regions: &Regions) {
        self.end.get_or_insert_with(|| largest(slots, regions));
    }

    /// The largest of `slots`, in the order of their memory: as they are, or just before the VM ended,
    /// and as their dirty logging was switched.
    /// `logged_by` is how the VM's dirty logging was done.
    pub fn of(
        &self,
        slots: &Slots,
        regions: &Regions,
        logged_by: Option<LoggedBy>,
    ) -> Vec<SlotMap> {
        let mut maps = self.end.clone().unwrap_or_else(|| largest(slots, regions));
        for map in &mut maps {
            map.logged_by = logged_by.filter(|_| map.slot.is_logging());
            let Some(switched) = self.switched.get(&(map.slot.as_id, map.slot.id)) else {
                continue;
            };
            map.logged_by = logged_by;
            let cells = |then: &Option<SlotMap>| {
                // A slot of that id may have been another then.
                let then = then.as_ref().filter(|then| then.is_as_large(&map.slot));
                then.map_or_else(Vec::new, |then| then.cells.clone())
            };
            (map.cells_at_log_on, map.cells_at_log_off) =
                (cells(&switched.on), cells(&switched.off));
        }
        maps
    }
}

fn largest(slots: &Slots, regions: &Regions) -> Vec<SlotMap> {
    let mut slots: Vec<Slot> = slots.values().copied().collect();
    slots.retain(|slot| slot.npages >= frames(2));
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.npages));
    slots.truncate(SLOTS);
    SlotMap::all(slots, regions)
}

impl SlotMap {
    /// Maps of slots, in the order of their memory.
    fn all(slots: impl IntoIterator<Item = Slot>, regions: &Regions) -> Vec<Self> {
        let maps = slots.into_iter().map(|slot| ((slot.as_id, slot.base_gfn), Self::new(slot)));
        let mut maps: BTreeMap<(u16, u64), Self> = maps.collect();
        for (region, lost) in regions.outstanding() {
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

    fn new(slot: Slot) -> Self {
        let regions = last_region(&slot) - first_region(&slot) + 1;
        let regions_per_cell = regions.div_ceil(CELLS);
        let cells = vec![MapCell::default(); regions.div_ceil(regions_per_cell) as usize];
        let (cells_at_log_on, cells_at_log_off) = (Vec::new(), Vec::new());
        Self { slot, logged_by: None, regions_per_cell, cells, cells_at_log_on, cells_at_log_off }
    }

    fn is_as_large(&self, slot: &Slot) -> bool {
        (self.slot.base_gfn, self.slot.npages) == (slot.base_gfn, slot.npages)
    }

    fn cell(&mut self, as_id: u32, gfn: u64) -> Option<&mut MapCell> {
        if as_id != u32::from(self.slot.as_id) {
            return None;
        }
        let region = (gfn / frames(2)).checked_sub(first_region(&self.slot))?;
        self.cells.get_mut((region / self.regions_per_cell) as usize)
    }
}

impl MapCell {
    /// Regions without their huge leaf.
    pub fn missing(&self) -> u64 {
        self.small + self.still_split + self.unmapped
    }
}

fn first_region(slot: &Slot) -> u64 {
    slot.base_gfn / frames(2)
}

fn last_region(slot: &Slot) -> u64 {
    (slot.base_gfn + slot.npages - 1) / frames(2)
}
