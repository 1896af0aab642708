//! Signals and their hooks, why others are not observed, cost, lost events, diagnostics.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{
    format,
    nav::Nav,
    notices::Notice,
    scene::Scene,
    theme::{Role, Theme, severity},
    widgets,
};
use collapse_feed::{Overhead, SignalStatus};

/// Most notices listed.
const LISTED: usize = 20;

/// Draws the view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    // The selected line in full, below the list.
    let below = if at.height >= 12 { 4 } else { 0 };
    let detail = Rect { y: at.bottom() - below, height: below, ..at };
    let at = Rect { height: at.height - below, ..at };
    let lines = lines(scene);
    let room = usize::from(at.height);
    let line = nav.line.min(lines.len().saturating_sub(1));
    let first = widgets::first_shown(line, lines.len(), room);
    widgets::paragraph(buf, at, &lines[first..]);
    scene.spots.lines(at, first, lines.len());
    if !lines.is_empty() && at.height > 0 {
        let y = at.y + (line - first) as u16;
        buf.set_style(Rect { y, height: 1, ..at }, scene.theme.selected());
    }
    if let Some((title, text)) = in_full(scene, line, lines.len()) {
        let inside = widgets::title(buf, detail, scene.theme, &format!(" {title}"));
        let text = format::wrapped(&text, usize::from(inside.width).saturating_sub(2));
        let text = text.into_iter().map(|line| Line::from(format!(" {line}")));
        widgets::paragraph(buf, inside, &text.collect::<Vec<_>>());
    }
}

/// Title and full text of line `line` of `lines`, if the list may cut it: signals are the first lines,
/// notices the last.
fn in_full(scene: &Scene, line: usize, lines: usize) -> Option<(&'static str, String)> {
    if let Some(status) = scene.coverage.signals.get(line) {
        return Some((status.signal.name(), described(status)));
    }
    let mut notices = scene.notices.latest(LISTED);
    let place = (line + notices.len()).checked_sub(lines)?;
    Some(("diagnostics", notices.swap_remove(place).text))
}

/// Hooks of a signal, or what is unknown without it.
fn described(status: &SignalStatus) -> String {
    match &status.hooks {
        Some(hooks) => hooks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        None => format!(
            "unknown: {} ({})",
            status.signal.loses(),
            status.reason.as_deref().unwrap_or("unknown")
        ),
    }
}

/// Cost of each eBPF program, the most expensive first.
fn cost(overhead: &Overhead, theme: Theme) -> Vec<Line<'static>> {
    let dim = theme.style(Role::Dim);
    let row = |name: &str, cells: [String; 4]| {
        let cells = cells.map(|cell| format::right(&cell, 11)).concat();
        format!("   {}{cells}", format::left(name, 19))
    };
    let titles = ["runs/s", "ns each", "% of core", "skipped"].map(str::to_owned);
    let mut lines = vec![Line::styled(row("program", titles), dim)];
    for program in &overhead.programs {
        let cells = [
            format::rate(program.per_second),
            format!("{:.0}", program.ns),
            format!("{:.2}", program.percent),
            format::known(program.misses, format::count),
        ];
        lines.push(Line::raw(row(&program.program, cells)));
    }
    let budget = overhead.budget_percent.map(|most| format!(", {most} % allowed"));
    let total =
        format!("   total: {:.2} % of one core{}", overhead.percent, budget.unwrap_or_default());
    lines.push(Line::raw(total));
    if let Some(caveat) = overhead.caveat() {
        lines.push(Line::styled(
            format!("   to stay within that: {caveat}"),
            theme.style(Role::Warn),
        ));
    }
    lines.push(Line::default());
    lines
}

/// All lines of the list.
pub fn lines(scene: &Scene) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let mut lines = Vec::new();
    for status in &scene.coverage.signals {
        let seen = status.is_seen();
        let (mark, role) = if seen { ("✓", Role::Good) } else { ("✗", Role::Bad) };
        lines.push(Line::from(vec![
            Span::styled(format!(" {mark} "), theme.style(role)),
            Span::raw(format::left(status.signal.name(), 19)),
            Span::styled(described(status), if seen { dim } else { theme.style(Role::Warn) }),
        ]));
    }
    lines.push(Line::default());
    lines.extend(
        scene.model.overhead.as_ref().map(|overhead| cost(overhead, theme)).into_iter().flatten(),
    );
    let losses = &scene.model.losses;
    if losses.is_empty() {
        lines.push(Line::styled(" – losses not known yet", dim));
    }
    for (kind, n) in losses {
        let (mark, role) = if *n == 0 { ("✓", Role::Good) } else { ("✗", Role::Bad) };
        lines.push(Line::from(vec![
            Span::styled(format!(" {mark} "), theme.style(role)),
            Span::raw(format::left(&format!("lost: {kind}"), 28)),
            Span::styled(format::count(*n), if *n == 0 { dim } else { theme.style(Role::Bad) }),
        ]));
    }
    lines.extend(notices(scene));
    lines
}

/// The number of notices, and the latest of them.
fn notices(scene: &Scene) -> Vec<Line<'static>> {
    let latest = scene.notices.latest(LISTED);
    if latest.is_empty() {
        return Vec::new();
    }
    let total = format::count(scene.notices.total());
    let head = format!(" diagnostics: {total}, latest first");
    let mut lines = vec![Line::default(), Line::styled(head, scene.theme.style(Role::Dim))];
    for Notice { level, text } in latest {
        let line = text.lines().next().unwrap_or_default();
        lines.push(Line::styled(format!(" ! {line}"), scene.theme.style(severity(level))));
    }
    lines
}
