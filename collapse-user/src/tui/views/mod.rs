//! The views: each a pure function of the scene and of what the user chose.

pub mod episodes;
pub mod events;
pub mod findings;
pub mod help;
pub mod map;
pub mod overview;
pub mod probes;
pub mod vm;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    keys::View,
    nav::Nav,
    scene::{Scene, State, name},
    theme::Role,
};
use collapse_model::Vm;

/// Draws the view that the user chose.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    match nav.view {
        View::Overview => overview::draw(buf, at, scene, nav),
        View::Events => events::draw(buf, at, scene, nav),
        View::Findings => findings::draw(buf, at, scene, nav),
        View::Probes => probes::draw(buf, at, scene, nav),
        View::Vm | View::Episodes | View::Map => {
            let Some(vm) = overview::selected(scene, nav) else {
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

/// Lines of a view in which one is selected.
pub fn lines(scene: &Scene, nav: &Nav) -> usize {
    match nav.view {
        View::Episodes => overview::selected(scene, nav).map_or(0, |vm| vm.episodes.kept().len()),
        View::Events => events::count(scene, nav),
        View::Findings => findings::found(scene).len(),
        View::Probes => probes::lines(scene).len(),
        _ => 0,
    }
}

/// The first line of views of one VM: which it is.
fn caption(scene: &Scene, vm: &Vm) -> Line<'static> {
    let dim = scene.theme.style(Role::Dim);
    let state = State::of(vm, scene);
    let pid =
        vm.process.as_ref().map_or("pid –".to_owned(), |process| format!("pid {}", process.pid));
    let fd = vm.fd.map_or(String::new(), |fd| format!(", fd {fd}"));
    // History keeps gauges and rates only.
    let as_of_now = if scene.is_past() { "  tables and regions: as of now" } else { "" };
    Line::from(vec![
        Span::styled(format!(" {}", name(vm)), scene.theme.style(Role::Title)),
        Span::styled(format!("  {pid}{fd}  "), dim),
        Span::styled(
            format!("{} {}", state.glyph(), state.label()),
            scene.theme.style(state.role()),
        ),
        Span::styled(as_of_now, scene.theme.style(Role::Warn)),
    ])
}
