//! The memory map: where huge leaves are missing.

use maud::{Markup, html};

use crate::report::{MapCell, SlotMap, VmReport};

/// A strip per slot; nothing if no slot is known.
pub fn maps(vm: &VmReport) -> Markup {
    html! {
        @if !vm.memory_map.is_empty() {
            figure.wide {
                figcaption {
                    "Memory at the end: regions without their huge page "
                    span.legend {
                        span.key.small {} "mapped small "
                        span.key.split {} "still split "
                        span.key.unmapped {} "not touched since"
                    }
                }
                @for map in &vm.memory_map { (strip(map)) }
            }
        }
    }
}

fn strip(map: &SlotMap) -> Markup {
    let slot = &map.slot;
    let cells = map.cells.len();
    let missing: u64 =
        map.cells.iter().map(|cell| cell.small + cell.still_split + cell.unmapped).sum();
    html! {
        p.slot {
            "slot " (slot.id) ", " (slot.npages / 256) " MiB at gfn " (format!("{:#x}", slot.base_gfn))
            span.dim { " " (missing) " regions" }
        }
        svg.map role="img" aria-label={ "slot " (slot.id) } viewBox={ "0 0 " (cells) " 10" }
            preserveAspectRatio="none" {
            @for (at, cell) in map.cells.iter().enumerate() { (parts(at, cell, map.regions_per_cell)) }
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
