//! The memory map: where huge leaves are missing, before dirty logging and after.

use maud::{Markup, html};

use crate::{MapCell, SlotMap, VmReport};
use collapse_model::wording::bytes;

/// Strips of every slot; nothing if no slot is known.
pub fn maps(vm: &VmReport) -> Markup {
    html! {
        @if !vm.memory_map.is_empty() {
            figure.wide {
                figcaption {
                    "Memory: regions without their huge page "
                    span.legend {
                        span.key.small {} "mapped small "
                        span.key.split {} "still split "
                        span.key.unmapped {} "not touched since"
                    }
                }
                @for map in &vm.memory_map { (slot(vm, map)) }
            }
        }
    }
}

fn slot(vm: &VmReport, map: &SlotMap) -> Markup {
    let slot = &map.slot;
    let end = if vm.gone { "before teardown" } else { "at the end" };
    let moments = [
        ("logging goes on", &map.cells_at_log_on),
        ("logging goes off", &map.cells_at_log_off),
        (end, &map.cells),
    ];
    html! {
        p.slot {
            "slot " (slot.id) ", " (bytes(slot.npages.saturating_mul(4096))) " at gfn "
            (format!("{:#x}", slot.base_gfn))
            @if let Some(by) = map.logged_by { ", logged by " (by.label()) }
        }
        @for (when, cells) in moments {
            @if !cells.is_empty() { (strip(when, cells, map)) }
        }
    }
}

fn strip(when: &str, cells: &[MapCell], map: &SlotMap) -> Markup {
    let missing: u64 = cells.iter().map(MapCell::missing).sum();
    html! {
        div.moment {
            span { (when) }
            svg.map role="img"
                aria-label={ "slot " (map.slot.id) ", " (when) ": " (missing) " regions" }
                viewBox={ "0 0 " (cells.len()) " 10" } preserveAspectRatio="none" shape-rendering="crispEdges" {
                @for (at, cell) in cells.iter().enumerate() {
                    (parts(at, cell, map.regions_per_cell))
                }
            }
            span.n { (missing) }
        }
    }
}

/// A cell's parts, one on the other.
fn parts(at: usize, cell: &MapCell, regions: u64) -> Markup {
    let share = |n: u64| n as f64 / regions as f64 * 10.0;
    let parts = [("small", cell.small), ("split", cell.still_split), ("unmapped", cell.unmapped)];
    let mut bottom = 10.0;
    let placed = parts.map(|(class, n)| {
        bottom -= share(n);
        (class, n, bottom)
    });
    html! {
        @for (class, n, top) in placed {
            @if n > 0 {
                rect class=(class) x=(at) width="1" y=(format!("{top:.2}")) height=(format!("{:.2}", share(n))) {}
            }
        }
    }
}
