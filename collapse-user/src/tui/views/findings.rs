//! What is worth a look: diagnoses of all VMs, with evidence and the knob to turn.

use collapse_common::abi::VmKey;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::{
    findings::{Finding, Thresholds, findings},
    model::Vm,
    tui::{
        nav::Nav,
        scene::{Scene, name},
        theme::Role,
        widgets,
    },
};

/// Lines that a finding takes.
const LINES: usize = 4;

/// Findings of every VM that is there.
pub fn found<'a>(scene: &Scene<'a>) -> Vec<(&'a Vm, Finding)> {
    let vms = scene.model.vms.values().filter(|vm| !vm.gone);
    let of = |vm: &'a Vm| {
        let found = findings(vm, scene.coverage.mmu, scene.model.now, &Thresholds::default());
        found.into_iter().map(move |finding| (vm, finding))
    };
    vms.flat_map(of).collect()
}

/// The VM of the selected finding.
pub fn selected(scene: &Scene, nav: &Nav) -> Option<VmKey> {
    found(scene).get(nav.line).map(|(vm, _)| vm.key)
}

/// Draws it.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let found = found(scene);
    if found.is_empty() {
        let lines = [
            Line::styled(" ✓ Nothing to report.", theme.style(Role::Good)),
            Line::styled(
                "   Findings appear here when dirty logging stays on, regions stay small, and the like.",
                dim,
            ),
        ];
        widgets::paragraph(buf, at, &lines);
        return;
    }
    let chosen = nav.line.min(found.len() - 1);
    let room = (usize::from(at.height) / LINES).max(1);
    let first = widgets::first_shown(chosen, found.len(), room);
    let mut lines = Vec::new();
    for (index, (vm, finding)) in found.iter().enumerate().skip(first).take(room) {
        let mark = if index == chosen { " ▸ " } else { "   " };
        lines.push(Line::from(vec![
            Span::styled(mark, theme.style(Role::Key)),
            Span::styled(finding.title, theme.style(Role::Warn)),
            Span::raw(format!("  {}", name(vm))),
            Span::styled(format!("  {}", finding.name), dim),
        ]));
        lines.push(Line::from(format!("     {}", finding.evidence)));
        lines.push(Line::from(vec![
            Span::styled("     → ", theme.style(Role::Key)),
            Span::raw(finding.knob),
        ]));
        lines.push(Line::default());
    }
    widgets::paragraph(buf, at, &lines);
}
