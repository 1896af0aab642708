//! Mappings, rates and durations as charts.

use collapse_common::Counter;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::{
    model::{Histogram, Vm},
    tui::{
        format,
        metric::{FAULTS, Metric, RECOVERIES, SPLITS, STALL, ZAPS},
        scene::Scene,
        theme::Role,
        views::overview,
        widgets,
    },
};

const CHARTED: [&Metric; 5] = [&SPLITS, &ZAPS, &RECOVERIES, &FAULTS, &STALL];

/// Mappings and rates over time, with the phases of episodes below.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let below = at.height.min(2);
    let plots = Rect { height: at.height - below, ..at };
    // The mappings get twice the room of a rate; a rate needs its title and a line.
    let shares = CHARTED.len() as u16 + 2;
    if plots.height >= shares * 2 {
        let share = plots.height / shares;
        let first = plots.height - share * CHARTED.len() as u16;
        mappings(buf, Rect { height: first, ..plots }, scene, vm);
        for (place, metric) in (0..).zip(CHARTED) {
            let y = plots.y + first + share * place;
            rate(buf, Rect { y, height: share, ..plots }, scene, vm, metric);
        }
    } else {
        let lines = CHARTED.len() as u16;
        let top = plots.height.saturating_sub(lines);
        if top >= 2 {
            mappings(buf, Rect { height: top, ..plots }, scene, vm);
        }
        let top = if top >= 2 { top } else { 0 };
        let rest = Rect { y: plots.y + top, height: plots.height - top, ..plots };
        let spark = |metric: &&Metric| spark(scene, vm, metric, at.width);
        widgets::paragraph(buf, rest, &CHARTED.iter().map(spark).collect::<Vec<_>>());
    }
    if below > 0 {
        let y = at.bottom() - below;
        widgets::episodes(buf, Rect { y, height: 1, ..at }, scene, vm);
    }
    if below > 1 {
        widgets::time_axis(buf, Rect { y: at.bottom() - 1, height: 1, ..at }, scene);
    }
}

fn mappings(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let dim = scene.theme.style(Role::Dim);
    let pages = overview::pages(scene, vm);
    let sum = pages.map(|pages| widgets::mapped_bytes(pages).iter().sum());
    let mut spans =
        vec![Span::styled("mapped ", dim), Span::raw(format::known(sum, format::bytes))];
    for (size, (name, _, glyph, role)) in widgets::SIZES.into_iter().enumerate().rev() {
        spans.push(Span::styled(format!("  {glyph} "), scene.theme.style(role)));
        spans.push(Span::styled(format!("{name} "), dim));
        spans.push(Span::raw(format::known(pages.map(|pages| pages[size]), format::count)));
    }
    let at = widgets::paragraph(buf, at, &[Line::from(spans)]);
    widgets::stacked(buf, at, scene, &vm.history);
}

fn rate(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm, metric: &Metric) {
    let title = Line::from(vec![
        Span::styled(format!("{} ", metric.name), scene.theme.style(Role::Dim)),
        Span::raw(metric.shown(metric.now(scene, &vm.history))),
        Span::styled(metric.unit, scene.theme.style(Role::Dim)),
    ]);
    let at = widgets::paragraph(buf, at, &[title]);
    let parts = usize::from(at.width.saturating_sub(8));
    let values = metric.charted(scene, &vm.history, parts);
    widgets::area(buf, at, scene, &values, metric.role, |value| metric.shown(Some(value)));
}

fn spark(scene: &Scene, vm: &Vm, metric: &Metric, width: u16) -> Line<'static> {
    let parts = usize::from(width).saturating_sub(23);
    let values = metric.charted(scene, &vm.history, parts);
    Line::from(vec![
        Span::styled(format::left(metric.name, 15), scene.theme.style(Role::Dim)),
        Span::raw(format::right(&metric.shown(metric.now(scene, &vm.history)), 6)),
        Span::raw("  "),
        Span::styled(widgets::sparkline(&values), scene.theme.style(metric.role)),
    ])
}

/// How long faults take, and until regions are touched and huge again.
pub fn latency(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let faults = scene.coverage.sees("fault_latency").then(|| {
        let sum = vm.totals().counter(Counter::Stall);
        vm.latencies().histogram(|_, _| true, Some(sum))
    });
    let histograms: [(&str, Option<&Histogram>, Role); 3] = [
        ("guest fault to guest re-entry", faults.as_ref(), Role::Fault),
        ("nothing mapped until the next fault", Some(vm.regions.time_to_refault()), Role::Small),
        ("lost until huge again", Some(vm.regions.time_to_recover()), Role::Huge),
    ];
    let share = (at.height / 3).min(14);
    for (place, (what, histogram, role)) in (0..).zip(histograms) {
        let part = Rect { y: at.y + share * place, height: share, ..at };
        let room = widgets::title(buf, part, scene.theme, what);
        let lines = match histogram {
            None => vec![Line::styled("– not measured", scene.theme.style(Role::Dim))],
            Some(histogram) => widgets::spread(
                histogram,
                scene.theme,
                role,
                usize::from(room.width),
                usize::from(room.height).saturating_sub(1),
            ),
        };
        widgets::paragraph(buf, room, &lines);
    }
}
