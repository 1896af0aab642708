//! Mappings, rates and durations as charts.

use collapse_feed::Signal;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{format, metric, scene::Scene, theme::Role, widgets};
use collapse_model::{
    Histogram, Metric, Vm,
    wording::{self, mapped_sum},
};

/// Columns left of charts where there is room: the name of what is charted, its value below it, and
/// its axis.
const GUTTER: u16 = 24;

/// Columns left of charts with the value beside the name.
const WIDE_GUTTER: u16 = 30;

/// Mappings and rates over time, with the phases of episodes below.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let below = at.height.min(2);
    let charts = Rect { height: at.height - below, ..at };
    let lines = Metric::charted().count() as u16;
    // With little room, a line of text above each chart, or sparklines.
    let wide = at.width >= 56;
    let least = if wide { 1 } else { 2 };
    let share = (charts.height / (lines + 2)).max(least);
    let gutter = match (wide, share) {
        (false, _) => widgets::LABEL,
        (true, 1) => WIDE_GUTTER,
        (true, _) => GUTTER,
    };
    if charts.height >= lines * least + 4 {
        // The mappings get twice the room of a rate.
        let first = charts.height - share * lines;
        mappings(buf, Rect { height: first, ..charts }, gutter, scene, vm);
        for (place, metric) in (0..).zip(Metric::charted()) {
            let y = charts.y + first + share * place;
            rate(buf, Rect { y, height: share, ..charts }, gutter, scene, vm, metric);
        }
    } else {
        let top = charts.height.saturating_sub(lines);
        let top = if top >= 2 { top } else { 0 };
        if top > 0 {
            mappings(buf, Rect { height: top, ..charts }, gutter, scene, vm);
        }
        let rest = Rect { y: charts.y + top, height: charts.height - top, ..charts };
        let gutter = usize::from(gutter).max(23);
        let spark = |metric| widgets::spark(scene, &vm.history, metric, gutter, at.width);
        widgets::paragraph(buf, rest, &Metric::charted().map(spark).collect::<Vec<_>>());
    }
    if below > 0 {
        let at = Rect { y: at.bottom() - below, height: 1, ..at };
        let dim = scene.theme.style(Role::Dim);
        buf.set_stringn(at.x, at.y, "episodes", usize::from(gutter.min(at.width)), dim);
        widgets::episodes(buf, widgets::plot(at, gutter), scene, vm);
    }
    if below > 1 {
        let at = Rect { y: at.bottom() - 1, height: 1, ..at };
        widgets::time_axis(buf, widgets::plot(at, gutter), scene);
    }
}

fn mappings(buf: &mut Buffer, at: Rect, gutter: u16, scene: &Scene, vm: &Vm) {
    let dim = scene.theme.style(Role::Dim);
    let pages = scene.pages(vm);
    let sum = pages.map(mapped_sum);
    let mut spans =
        vec![Span::styled("mapped ", dim), Span::raw(format::known(sum, format::bytes))];
    spans.extend(widgets::sizes(pages, scene.theme));
    let at = widgets::paragraph(buf, at, &[Line::from(spans)]);
    widgets::stacked(buf, widgets::plot(at, gutter), scene, &vm.history);
}

fn rate(buf: &mut Buffer, at: Rect, gutter: u16, scene: &Scene, vm: &Vm, metric: &Metric) {
    let now = metric.rate(&vm.history, scene.coverage, scene.latest());
    let dim = scene.theme.style(Role::Dim);
    let name = Span::styled(metric.label, dim);
    let value = [Span::raw(metric::shown(metric, now)), Span::styled(metric::unit(metric), dim)];
    let plot = if gutter == widgets::LABEL {
        let [now, unit] = value;
        let title = Line::from(vec![name, Span::raw(" "), now, unit]);
        widgets::plot(widgets::paragraph(buf, at, &[title]), gutter)
    } else {
        // The name, and the value below or where the axis leaves room.
        let room = gutter - widgets::LABEL;
        buf.set_line(at.x, at.y, &Line::from(name), room);
        let value = Line::from(value.to_vec());
        if at.height > 1 {
            buf.set_line(at.x, at.y + 1, &value, room);
        } else {
            let width = (value.width() as u16).min(room);
            buf.set_line(at.x + room - width - 1, at.y, &value, width);
        }
        widgets::plot(at, gutter)
    };
    let parts = usize::from(plot.width);
    let values = metric.rates(&vm.history, scene.coverage, scene.time(parts), parts);
    let shown = |value| metric::shown(metric, Some(value));
    widgets::area(buf, plot, scene, &values, metric.tone.into(), shown);
}

/// How long faults take, and until regions are touched and huge again.
pub fn latency(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let timed = vm.timed_faults(scene.coverage.timed_faults);
    let timed = scene.coverage.known(Signal::FaultLatency, timed);
    let faults = timed.map(|timed| timed.all());
    let lost = timed.map(|timed| timed.stall()).filter(|stall| stall.total > 0);
    let lost = lost.map_or(String::new(), |stall| {
        format!(": {} in all", wording::estimate(stall.total, Some(stall.error)))
    });
    let faulting = format!("guest fault to guest re-entry{lost}");
    let histograms: [(&str, Option<&Histogram>, Role); 3] = [
        (&faulting, faults.as_ref(), Role::Fault),
        ("nothing mapped until the next fault", Some(vm.regions.time_to_refault()), Role::Small),
        ("could be huge until it was", Some(vm.regions.time_to_recover()), Role::Huge),
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
