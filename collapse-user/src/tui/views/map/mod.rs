//! Map of a VM's guest frames: which regions have their huge SPTE, and how the others are mapped.

mod cell;
mod place;
mod region;

use std::ops::Range;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::caption::caption;
use crate::tui::{format, nav::Nav, scene::Scene, spots::Hit, theme::Role, widgets};
use collapse_model::Vm;

pub use cell::CellState;
use place::{CELL_WIDTH, CELLS, MapLayout, MapRow};
pub use place::{CursorMove, moved};

/// Least columns at which details are beside the map, not below it.
const WIDE: u16 = 116;

/// Columns of a row's address.
const ADDRESS: u16 = 12;

/// Draws the view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav, vm: &Vm) {
    let chart = MapLayout::of(vm, &nav.map);
    let at = widgets::paragraph(buf, at, &[caption(scene, vm), legend(scene, vm, &chart)]);
    if chart.rows.is_empty() {
        let dim = scene.theme.style(Role::Dim);
        let text =
            " No memory slots known yet: they are found when they change or lose huge pages.";
        widgets::paragraph(buf, at, &[Line::styled(text, dim)]);
        return;
    }
    let (map, detail) = if at.width >= WIDE {
        let left = ADDRESS + CELLS as u16 * CELL_WIDTH + 1;
        let right = Rect { x: at.x + left, width: at.width - left, ..at };
        (Rect { width: left, ..at }, widgets::rule(buf, right, scene.theme))
    } else {
        let below = (at.height / 2).min(9);
        let detail = Rect { y: at.bottom() - below, height: below, ..at };
        (Rect { height: at.height - below, ..at }, detail)
    };
    cells(buf, map, scene, vm, &chart);
    region::draw(buf, detail, scene, vm, &chart);
}

fn legend(scene: &Scene, vm: &Vm, chart: &MapLayout) -> Line<'static> {
    let counts = vm.regions.counts();
    let mut spans = vec![Span::raw(" ")];
    let is_there =
        |cell: &CellState| !cell.is_by_slot() || chart.rows.iter().any(|row| row.before == *cell);
    for cell in CellState::ALL.into_iter().filter(is_there) {
        let (glyph, role, what) = cell.look();
        let n = match cell {
            CellState::Returned => Some(counts.recovered),
            CellState::StillSplit => Some(counts.still_split),
            CellState::Small => Some(counts.refaulted_small),
            CellState::Nothing => Some(counts.untouched - counts.still_split),
            _ => None,
        };
        let n = n.map_or(String::new(), |n| format!(" {}", format::count(n)));
        spans.push(Span::styled(glyph, scene.theme.style(role)));
        spans.push(Span::raw(format!(" {what}{n}  ")));
    }
    let cell = format!("cell = {}", format::bytes(chart.scale << 21));
    spans.push(Span::styled(cell, scene.theme.style(Role::Dim)));
    Line::from(spans)
}

/// Draws the rows around the cursor.
fn cells(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm, chart: &MapLayout) {
    let (line, cursor) = chart.cursor();
    // A line with the name of a slot precedes its first row.
    let lines: Vec<(usize, bool)> = chart
        .rows
        .iter()
        .enumerate()
        .flat_map(|(index, row)| {
            row.title.is_some().then_some((index, true)).into_iter().chain([(index, false)])
        })
        .collect();
    let selected = lines.iter().position(|found| *found == (line, false)).unwrap_or_default();
    let room = usize::from(at.height);
    let first = widgets::first_shown(selected, lines.len(), room);
    let shown = &lines[first..lines.len().min(first + room)];
    let Some(((from, _), (to, _))) = shown.first().zip(shown.last()) else { return };
    let states = states(vm, chart, *from, *to);
    let room = at.width.saturating_sub(ADDRESS);
    let width = if room >= CELLS as u16 * CELL_WIDTH { CELL_WIDTH } else { 1 };
    let columns = usize::from(room / width);
    let skipped = widgets::first_shown(cursor, CELLS, columns);
    for ((index, is_title), y) in shown.iter().zip(at.top()..) {
        let row = &chart.rows[*index];
        if *is_title {
            let text = format!(" {}", row.title.as_deref().unwrap_or_default());
            buf.set_line(at.x, y, &Line::styled(text, scene.theme.style(Role::Title)), at.width);
            continue;
        }
        buf.set_line(
            at.x,
            y,
            &cells_of(scene, row, &states[index - from], skipped..skipped + columns, width),
            at.width,
        );
        let shown = row.cells.saturating_sub(skipped).min(columns);
        let x_of = |cell: usize| at.left() + ADDRESS + (cell - skipped) as u16 * width;
        for cell in skipped..skipped + shown {
            let gfn = row.gfn + cell as u64 * chart.step();
            scene.spots.add(Rect { x: x_of(cell), y, width, height: 1 }, Hit::Gfn(gfn));
        }
        if *index == line && cursor >= skipped {
            let x = x_of(cursor);
            if x < at.right() {
                buf.set_style(Rect { x, y, width: 1, height: 1 }, scene.theme.current());
            }
        }
    }
}

fn cells_of(
    scene: &Scene,
    row: &MapRow,
    states: &[CellState; CELLS],
    shown: Range<usize>,
    width: u16,
) -> Line<'static> {
    let address = format::right(&format!("{:#x}", row.gfn), usize::from(ADDRESS) - 1) + " ";
    let mut spans = vec![Span::styled(address, scene.theme.style(Role::Dim))];
    let states = &states[..row.cells];
    for state in states.iter().skip(shown.start).take(shown.len()) {
        let (glyph, role, _) = state.look();
        spans.push(Span::styled(glyph, scene.theme.style(role)));
        spans.push(Span::raw(if width > 1 { " " } else { "" }));
    }
    Line::from(spans)
}

/// States of the cells of rows `from` to `to`. The work grows with lost regions, not with guest size.
fn states(vm: &Vm, chart: &MapLayout, from: usize, to: usize) -> Vec<[CellState; CELLS]> {
    let rows = &chart.rows[from..=to];
    let mut states: Vec<_> = rows.iter().map(|row| [row.before; CELLS]).collect();
    let returned = vm.regions.returned().iter().map(|(region, _)| (region, CellState::Returned));
    let lost =
        vm.regions.outstanding().map(|(region, lost)| (region, CellState::of(lost.mapping())));
    for (region, found) in returned.chain(lost).filter(|(region, _)| region.as_id() == 0) {
        if let Some((row, cell)) = chart.find(region.gfn())
            && (from..=to).contains(&row)
        {
            let state = &mut states[row - from][cell];
            *state = (*state).max(found);
        }
    }
    states
}
