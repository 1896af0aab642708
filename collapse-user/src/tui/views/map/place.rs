//! Layout of the map: guest frames to rows and cells.

use collapse_common::spte::frames;

use super::cell::CellState;
use crate::tui::{format, nav::MapCursor};
use collapse_feed::Slot;
use collapse_model::{Vm, fit::Fit};

/// Cells per row.
pub const CELLS: usize = 32;

/// Columns per cell, where there is room.
pub const CELL_WIDTH: u16 = 2;

/// Most cells that the whole guest takes, unless zoomed in.
const ALL_CELLS: u64 = 1024;

/// A move of the cursor.
#[derive(Clone, Copy, Debug)]
pub enum CursorMove {
    /// By rows.
    Lines(isize),
    /// By cells.
    Cells(isize),
}

/// A row of the map.
#[derive(Debug)]
pub struct MapRow {
    /// Title of the slot that begins with this row.
    pub title: Option<String>,
    /// What its cells are where nothing was lost.
    pub before: CellState,
    /// First guest frame of the row.
    pub gfn: u64,
    /// Number of cells, up to [`CELLS`].
    pub cells: usize,
}

/// Layout of the map.
#[derive(Debug)]
pub struct MapLayout {
    /// Rows in the order of guest frames.
    pub rows: Vec<MapRow>,
    /// Regions per cell, a power of two.
    pub scale: u64,
    /// Cursor and zoom, limited to what changes the map.
    pub place: MapCursor,
}

/// Contiguous regions: first guest frame, number of regions, title, and what they are where nothing was lost.
type Extent = (u64, u64, String, CellState);

impl MapLayout {
    /// Lays out the slots of a VM or, where none is known, the range of lost regions.
    pub fn of(vm: &Vm, place: &MapCursor) -> Self {
        let extents = extents(vm);
        let regions: u64 = extents.iter().map(|(_, regions, ..)| regions).sum();
        let fits = regions.div_ceil(ALL_CELLS).max(1).next_power_of_two();
        // A cell has at least one region.
        let place = MapCursor { zoom: place.zoom.min(fits.ilog2()), ..*place };
        let scale = fits >> place.zoom;
        let mut rows = Vec::new();
        for (first, regions, title, before) in extents {
            let mut title = Some(title);
            let mut cells = regions.div_ceil(scale);
            let mut gfn = first;
            while cells > 0 {
                let here = cells.min(CELLS as u64);
                rows.push(MapRow { title: title.take(), before, gfn, cells: here as usize });
                gfn += here * scale * frames(2);
                cells -= here;
            }
        }
        Self { rows, scale, place }
    }

    /// Guest frames per cell.
    pub fn step(&self) -> u64 {
        self.scale * frames(2)
    }

    /// Row and cell of a guest frame; `None` if it is not on the map.
    pub fn find(&self, gfn: u64) -> Option<(usize, usize)> {
        let row = self.rows.partition_point(|row| row.gfn <= gfn).checked_sub(1)?;
        let cell = ((gfn - self.rows[row].gfn) / self.step()) as usize;
        (cell < self.rows[row].cells).then_some((row, cell))
    }

    /// Row and cell of the cursor: the first cell if the cursor is not on the map.
    pub fn cursor(&self) -> (usize, usize) {
        self.find(self.place.gfn).unwrap_or_default()
    }

    /// First guest frame of the cursor's cell.
    pub fn selected(&self) -> u64 {
        let (row, cell) = self.cursor();
        self.rows.get(row).map_or(0, |row| row.gfn + cell as u64 * self.step())
    }
}

/// The cursor after a move.
pub fn moved(vm: &Vm, place: &MapCursor, by: CursorMove) -> MapCursor {
    let chart = MapLayout::of(vm, place);
    let last = chart.rows.len().saturating_sub(1);
    let (row, cell) = chart.cursor();
    let (row, cell) = match by {
        CursorMove::Lines(lines) => (row.saturating_add_signed(lines).min(last), cell),
        CursorMove::Cells(cells) => match cell.checked_add_signed(cells) {
            Some(cell) if cell < chart.rows.get(row).map_or(0, |row| row.cells) => (row, cell),
            Some(_) if row < last => (row + 1, 0),
            None if row > 0 => (row - 1, CELLS),
            _ => (row, cell),
        },
    };
    let Some(found) = chart.rows.get(row) else { return *place };
    let gfn = found.gfn + cell.min(found.cells - 1) as u64 * chart.step();
    MapCursor { gfn, ..chart.place }
}

fn extents(vm: &Vm) -> Vec<Extent> {
    let mut slots: Vec<&Slot> =
        vm.slots.values().filter(|slot| slot.as_id == 0 && slot.npages > 0).collect();
    slots.sort_by_key(|slot| slot.base_gfn);
    let mut extents = Vec::new();
    for slot in slots {
        let (first, regions) = covered(slot.base_gfn, slot.base_gfn.saturating_add(slot.npages));
        let bytes = format::bytes(slot.npages.saturating_mul(4096));
        let why = match Fit::of(slot) {
            Fit::Logged => ", dirty logging".to_owned(),
            Fit::Misaligned(offset) => format!(", misaligned by {}", format::bytes(offset)),
            _ => String::new(),
        };
        let title = format!("slot {}: {bytes} at gfn {:#x}{why}", slot.id, slot.base_gfn);
        extents.push((first, regions, title, CellState::before(vm, slot)));
    }
    if extents.is_empty() {
        let gfns = vm.regions.outstanding().map(|(region, _)| region).filter(|r| r.as_id() == 0);
        let bounds = gfns.fold(None, |bounds: Option<(u64, u64)>, region| {
            let (low, high) = bounds.unwrap_or((region.gfn(), region.gfn()));
            Some((low.min(region.gfn()), high.max(region.gfn())))
        });
        if let Some((low, high)) = bounds {
            let (first, regions) = covered(low, high + 1);
            let title = "lost regions (slots unknown)".to_owned();
            extents.push((first, regions, title, CellState::NotLost));
        }
    }
    extents
}

/// Regions that guest frames `from` to `to` (exclusive) are in: first frame and number.
fn covered(from: u64, to: u64) -> (u64, u64) {
    let size = frames(2);
    let first = from / size * size;
    (first, (to - first).div_ceil(size))
}

#[cfg(test)]
mod tests {
    use collapse_common::abi::VmKey;

    use super::*;

    fn vm(slots: &[(u16, u64, u64)]) -> Vm {
        let mut vm = Vm::new(VmKey { kvm: 1, born: 1 });
        for (id, base_gfn, npages) in slots {
            let slot = Slot {
                id: *id,
                as_id: 0,
                base_gfn: *base_gfn,
                npages: *npages,
                flags: 0,
                userspace_addr: None,
            };
            vm.slots.insert((0, *id), slot);
        }
        vm
    }

    #[test]
    fn rows_follow_slots() {
        let vm = vm(&[(0, 0, 160), (1, 0x4_0000, 16384 * 3)]);
        let chart = MapLayout::of(&vm, &MapCursor::default());
        assert_eq!(chart.scale, 1);
        let rows: Vec<_> = chart.rows.iter().map(|row| (row.gfn, row.cells)).collect();
        let slot = [(0x4_0000, 32), (0x4_4000, 32), (0x4_8000, 32)];
        assert_eq!(rows, [&[(0, 1)], &slot[..]].concat());
        assert_eq!(chart.find(0x4_8200), Some((3, 1)));
        assert_eq!((chart.find(0x200), chart.find(0x10_0000)), (None, None));
    }

    #[test]
    fn a_large_guest_fits_until_it_is_zoomed() {
        let vm = vm(&[(0, 0, 1 << 28)]);
        let far = MapLayout::of(&vm, &MapCursor::default());
        assert_eq!((far.scale, far.rows.len()), (512, 32));
        let mut place = MapCursor::default();
        for _ in 0..50 {
            place = place.zoomed(true);
        }
        assert_eq!(MapLayout::of(&vm, &place).scale, 1);
        // Zooming in beyond the last step does not need more steps back.
        let near = moved(&vm, &place, CursorMove::Cells(1));
        assert_eq!(MapLayout::of(&vm, &near.zoomed(false)).scale, 2);
    }

    #[test]
    fn the_cursor_stays_on_the_map() {
        let vm = vm(&[(0, 0, 160), (1, 0x4_0000, 16384)]);
        let place = moved(&vm, &MapCursor::default(), CursorMove::Cells(1));
        assert_eq!(place.gfn, 0x4_0000);
        assert_eq!(moved(&vm, &place, CursorMove::Lines(isize::MAX)).gfn, 0x4_0000);
        assert_eq!(moved(&vm, &place, CursorMove::Cells(-1)).gfn, 0);
        assert_eq!(moved(&vm, &MapCursor::default(), CursorMove::Cells(-1)).gfn, 0);
    }
}
