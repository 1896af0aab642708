//! One VM: charts over time, changes by cause, slots, runs of the collapse routine, durations.

pub mod charts;
mod tables;
mod times;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{caption::caption, findings};
use crate::tui::{
    format,
    nav::{Nav, Tab},
    scene::Scene,
    spots::Hit,
    theme::Role,
    widgets,
};
use collapse_common::Counter;
use collapse_feed::Signal;
use collapse_model::{
    Grade, Vm,
    wording::{self, leaves},
};

/// Least columns at which charts and another tab are side by side.
const WIDE: u16 = 100;

/// Draws the view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav, vm: &Vm) {
    let mut lines = vec![caption(scene, vm)];
    if at.height >= 8 {
        lines.push(regions(scene, vm));
    }
    if at.height >= 12 {
        lines.push(huge(scene, vm));
        lines.push(balance(scene, vm));
        lines.extend(pml_full(scene, vm));
        lines.extend(found(scene, vm));
    }
    let at = widgets::paragraph(buf, at, &lines);
    if at.height == 0 {
        return;
    }
    tabs(buf, Rect { height: 1, ..at }, scene, nav);
    let body = Rect { x: at.x + 1, y: at.y + 1, width: at.width - 2, height: at.height - 1 };
    if at.width < WIDE {
        tab(buf, body, scene, nav.tab, vm);
        return;
    }
    // Tables need the room more than charts do.
    let half = body.width * 2 / 5;
    let right = Rect { x: body.x + half, width: body.width - half, ..body };
    charts::draw(buf, Rect { width: half - 1, ..body }, scene, vm);
    let right = widgets::rule(buf, right, scene.theme);
    if nav.tab == Tab::Charts {
        panels(buf, right, scene, vm);
    } else {
        tab(buf, right, scene, nav.tab, vm);
    }
}

/// Draws tables of the other tabs one below the other, as many as fit.
fn panels(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let wanted = [
        (Tab::Causes, tables::causes_count(vm).max(1) + 1),
        (Tab::Slots, vm.slots.len().clamp(1, 4) + 1),
        (Tab::Collapse, vm.spans.len().clamp(1, 5) + 1),
    ];
    let mut rest = at;
    for (panel, lines) in wanted {
        let height = (lines as u16 + 2).min(rest.height);
        let inside = widgets::title(buf, Rect { height, ..rest }, scene.theme, panel.title());
        tab(buf, Rect { height: inside.height.saturating_sub(1), ..inside }, scene, panel, vm);
        rest = Rect { y: rest.y + height, height: rest.height - height, ..rest };
    }
    if rest.height >= 9 {
        charts::latency(buf, rest, scene, vm);
    }
}

fn tab(buf: &mut Buffer, at: Rect, scene: &Scene, tab: Tab, vm: &Vm) {
    match tab {
        Tab::Charts => charts::draw(buf, at, scene, vm),
        Tab::Causes => tables::causes(buf, at, scene, vm),
        Tab::Slots => tables::slots(buf, at, scene, vm),
        Tab::Collapse => tables::collapse(buf, at, scene, vm),
        Tab::Latency => charts::latency(buf, at, scene, vm),
        Tab::Times => times::draw(buf, at, scene, vm),
    }
}

fn tabs(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    let (mut x, _) =
        buf.set_stringn(at.x, at.y, " Tab ", usize::from(at.width), scene.theme.style(Role::Key));
    for tab in Tab::ALL {
        let style =
            if tab == nav.tab { scene.theme.current() } else { scene.theme.style(Role::Dim) };
        let room = usize::from(at.right() - x);
        let (end, _) = buf.set_stringn(x, at.y, format!(" {} ", tab.title()), room, style);
        scene.spots.add(Rect { x, width: end - x, ..at }, Hit::Tab(tab));
        x = end;
    }
}

/// Lost regions of a VM, by how they are mapped.
fn regions(scene: &Scene, vm: &Vm) -> Line<'static> {
    let theme = scene.theme;
    let counts = vm.regions.counts();
    let part = |n: u64, what: &str, role: Role| {
        let role = if n > 0 { role } else { Role::Dim };
        Span::styled(format!("  {} {what}", format::count(n)), theme.style(role))
    };
    let mut spans = vec![
        Span::styled(" regions", theme.style(Role::Dim)),
        part(counts.lost, "lost", Role::Text),
        part(counts.recovered, "recovered", Role::Good),
    ];
    if counts.recovered_read_only > 0 {
        spans.push(part(counts.recovered_read_only, "of them read-only", Role::Warn));
    }
    spans.extend([
        part(counts.refaulted_small, "small again", Role::Bad),
        part(counts.still_split, "still split", Role::Warn),
        part(counts.unmapped(), "untouched", Role::Text),
    ]);
    let ends = [
        (counts.small_to_the_end, "small to the end", Role::Bad),
        (counts.gone, "gone", Role::Text),
        (counts.taken_away, "taken away", Role::Text),
    ];
    let ends = ends.into_iter().filter(|(n, ..)| *n > 0);
    spans.extend(ends.map(|(n, what, role)| part(n, what, role)));
    let giants = vm.regions.giants().counts();
    if giants.lost > 0 {
        spans.push(Span::styled("  1G", theme.style(Role::Dim)));
        spans.push(part(giants.lost, "lost", Role::Text));
        spans.push(part(giants.recovered, "recovered", Role::Good));
        spans.push(part(giants.mapped_smaller, "mapped smaller", Role::Bad));
    }
    Line::from(spans)
}

/// How much of what is mapped is mapped huge, and by which size.
fn huge(scene: &Scene, vm: &Vm) -> Line<'static> {
    let pages = scene.pages(vm);
    let mut spans = vec![
        Span::styled(" huge for the guest", scene.theme.style(Role::Dim)),
        Span::raw(format!("  {}", widgets::huge(pages))),
    ];
    spans.extend(widgets::parts(pages, scene.theme));
    Line::from(spans)
}

/// What was found about it, by title.
fn found(scene: &Scene, vm: &Vm) -> Option<Line<'static>> {
    let titles: Vec<_> = findings::of(scene, vm).iter().map(|finding| finding.title).collect();
    (!vm.gone && !titles.is_empty()).then(|| {
        Line::from(vec![
            Span::styled(" findings", scene.theme.style(Role::Dim)),
            Span::styled(format!("  {}", titles.join("; ")), scene.theme.style(Role::Warn)),
        ])
    })
}

/// Exits for a full log of dirty pages, where the CPU logs them.
fn pml_full(scene: &Scene, vm: &Vm) -> Option<Line<'static>> {
    let totals = scene.coverage.known(Signal::PmlFull, vm.totals())?;
    let (exits, time) = (totals.counter(Counter::PmlFull), totals.counter(Counter::PmlFullNs));
    Some(Line::from(vec![
        Span::styled(" PML-full exits: ", scene.theme.style(Role::Dim)),
        Span::raw(format::count(exits)),
        Span::styled(
            format!("  {} of vCPU time", format::duration(time)),
            scene.theme.style(Role::Dim),
        ),
    ]))
}

/// Agreement of counts with KVM's gauges.
fn balance(scene: &Scene, vm: &Vm) -> Line<'static> {
    let theme = scene.theme;
    let checks = &vm.reconciliation;
    let role = match checks.grade() {
        Grade::Unknown => Role::Dim,
        Grade::Exact => Role::Good,
        Grade::Moving => Role::Warn,
        Grade::Off => Role::Bad,
    };
    let residual = format::known(vm.residual(), |[small, huge, giant]| {
        [leaves(small, 1), leaves(huge, 2), leaves(giant, 3)].join(", ")
    });
    let teardown = if vm.in_teardown() { ", before its teardown" } else { "" };
    Line::from(vec![
        Span::styled(" counts against KVM's gauges: ", theme.style(Role::Dim)),
        Span::styled(wording::grade(checks.grade()), theme.style(role)),
        Span::styled(
            format!(
                "  {} of {} intervals exact, residual {residual}{teardown}",
                checks.exact, checks.intervals
            ),
            theme.style(Role::Dim),
        ),
    ])
}
