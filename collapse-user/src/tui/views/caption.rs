//! The first line of views of one VM.

use ratatui::text::{Line, Span};

use crate::tui::{
    scene::{Scene, name},
    theme::Role,
    vm_state::VmState,
};
use collapse_model::Vm;

/// Name, process and state of a VM.
pub fn caption(scene: &Scene, vm: &Vm) -> Line<'static> {
    let dim = scene.theme.style(Role::Dim);
    let state = VmState::of(vm, scene);
    let pid =
        vm.process.as_ref().map_or("pid –".to_owned(), |process| format!("pid {}", process.pid));
    let fd = vm.fd.map_or(String::new(), |fd| format!(", fd {fd}"));
    // History keeps only gauges and rates.
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
