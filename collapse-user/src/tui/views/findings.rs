//! Findings of all VMs, with evidence and remedy.

use collapse_common::abi::VmKey;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{
    format,
    nav::Nav,
    scene::{Scene, name},
    spots::Hit,
    theme::Role,
    widgets,
};
use collapse_model::{
    Vm,
    findings::{Finding, findings},
};

/// Findings of every VM that is running.
pub fn found<'a>(scene: &Scene<'a>) -> Vec<(&'a Vm, Finding)> {
    let vms = scene.model.vms.values().filter(|vm| !vm.gone);
    vms.flat_map(|vm| of(scene, vm).into_iter().map(move |finding| (vm, finding))).collect()
}

/// Findings of a VM.
pub fn of(scene: &Scene, vm: &Vm) -> Vec<Finding> {
    findings(vm, scene.coverage.into(), scene.model.now, &scene.options.thresholds)
}

/// VM of the selected finding.
pub fn selected(scene: &Scene, nav: &Nav) -> Option<VmKey> {
    found(scene).get(nav.line).map(|(vm, _)| vm.key)
}

/// Draws the view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let found = found(scene);
    if found.is_empty() {
        let lines = [
            Line::styled(" ✓ No findings.", theme.style(Role::Good)),
            Line::styled(
                "   They appear here, for example when regions stay small after dirty logging.",
                dim,
            ),
        ];
        widgets::paragraph(buf, at, &lines);
        return;
    }
    let chosen = nav.line.min(found.len() - 1);
    let texts: Vec<_> = found
        .iter()
        .enumerate()
        .map(|(index, (vm, finding))| described(scene, vm, finding, index == chosen, at.width))
        .collect();
    let all: usize = texts.iter().map(Vec::len).sum();
    let skipped = if all > usize::from(at.height) { chosen } else { 0 };
    let mut y = at.y;
    for (line, text) in texts.iter().enumerate().skip(skipped) {
        let height = (text.len() as u16).min(at.bottom() - y);
        scene.spots.add(Rect { y, height, ..at }, Hit::Line(line));
        y += height;
    }
    let lines: Vec<_> = texts.into_iter().skip(skipped).flatten().collect();
    widgets::paragraph(buf, at, &lines);
}

fn described(
    scene: &Scene,
    vm: &Vm,
    finding: &Finding,
    chosen: bool,
    width: u16,
) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let mut lines = vec![Line::from(vec![
        Span::styled(if chosen { " ▸ " } else { "   " }, theme.style(Role::Key)),
        Span::styled(finding.title, theme.style(Role::Warn)),
        Span::raw(format!("  {}", name(vm))),
        Span::styled(format!("  {}", finding.name), theme.style(Role::Dim)),
    ])];
    let columns = usize::from(width).saturating_sub(8);
    let evidence = format::wrapped(&finding.sentence, columns);
    lines.extend(evidence.into_iter().map(|line| Line::from(format!("     {line}"))));
    for knob in finding.knobs {
        for (index, line) in format::wrapped(&knob.to_string(), columns).into_iter().enumerate() {
            lines.push(Line::from(vec![
                Span::styled(
                    if index == 0 { "     → " } else { "       " },
                    theme.style(Role::Key),
                ),
                Span::raw(line),
            ]));
        }
    }
    lines.push(Line::default());
    lines
}
