//! Views: each a pure function of the scene and of the user's choices.

mod caption;
pub mod episodes;
pub mod events;
pub mod findings;
pub mod help;
pub mod map;
pub mod overview;
pub mod probes;
pub mod vm;

use ratatui::{buffer::Buffer, layout::Rect, text::Line};

use super::{
    nav::{Nav, View},
    scene::Scene,
    table,
    theme::Role,
};

/// Draws the chosen view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    match nav.view {
        View::Overview => overview::draw(buf, at, scene, nav),
        View::Events => events::draw(buf, at, scene, nav),
        View::Findings => findings::draw(buf, at, scene, nav),
        View::Probes => probes::draw(buf, at, scene, nav),
        View::Vm | View::Episodes | View::Map => {
            let Some(vm) = table::selected(scene, nav) else {
                let dim = scene.theme.style(Role::Dim);
                buf.set_line(at.x, at.y, &Line::styled(scene.nothing(), dim), at.width);
                return;
            };
            match nav.view {
                View::Vm => vm::draw(buf, at, scene, nav, vm),
                View::Episodes => episodes::draw(buf, at, scene, nav, vm),
                _ => map::draw(buf, at, scene, nav, vm),
            }
        }
    }
}

/// Number of lines of a view that has a selected line.
pub fn lines(scene: &Scene, nav: &Nav) -> usize {
    match nav.view {
        View::Episodes => table::selected(scene, nav).map_or(0, |vm| vm.episodes.kept().len()),
        View::Events => events::count(scene, nav),
        View::Findings => findings::found(scene).len(),
        View::Probes => probes::lines(scene).len(),
        _ => 0,
    }
}
