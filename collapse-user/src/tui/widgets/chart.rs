//! Values over time, a column per part.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{
    format, metric,
    scene::Scene,
    theme::{Depth, Role},
    widgets::SIZES,
};
use collapse_model::{History, Metric, Vm, wording::mapped_bytes};

/// Sizes of mappings, smallest first, where there are no colours.
const TEXTURES: [&str; 3] = ["░", "▓", "█"];

const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Values as a line of blocks, `top` the tallest. Zero is the lowest block, unknown none.
pub fn sparkline(values: &[Option<f64>]) -> String {
    let top = values.iter().flatten().fold(0.0, |top: f64, value| top.max(*value));
    let block = |value: &Option<f64>| match value {
        None => EIGHTHS[0],
        Some(value) if *value <= 0.0 || top <= 0.0 => EIGHTHS[1],
        // What is more than nothing is seen to be.
        Some(value) => EIGHTHS[2 + (value / top * 6.0).round() as usize],
    };
    values.iter().map(block).collect()
}

/// The name of a metric, its rate now, and a sparkline of it from column `gutter` on, in `width`
/// columns.
pub fn spark(
    scene: &Scene,
    history: &History,
    metric: &Metric,
    gutter: usize,
    width: u16,
) -> Line<'static> {
    let parts = usize::from(width).saturating_sub(gutter);
    let values = metric.rates(history, scene.coverage, scene.time(parts), parts);
    let now = metric.rate(history, scene.coverage, scene.latest());
    Line::from(vec![
        Span::styled(format::left(metric.label, 15), scene.theme.style(Role::Dim)),
        Span::raw(format::right(&metric::shown(metric, now), 6)),
        Span::raw(" ".repeat(gutter.saturating_sub(21))),
        Span::styled(sparkline(&values), scene.theme.style(metric.tone.into())),
    ])
}

/// Values as an area, with the greatest of them at the left of the first line.
pub fn area(
    buf: &mut Buffer,
    plot: Rect,
    scene: &Scene,
    values: &[Option<f64>],
    role: Role,
    shown: impl Fn(f64) -> String,
) {
    let top = values.iter().flatten().fold(0.0, |top: f64, value| top.max(*value));
    let style = scene.theme.style(role);
    axis(buf, plot, scene, &if top > 0.0 { shown(top) } else { "0".to_owned() });
    for (column, value) in (plot.left()..plot.right()).zip(values) {
        let Some(value) = value else { continue };
        let height = if top > 0.0 { value / top * f64::from(plot.height) * 8.0 } else { 0.0 };
        let mut rest = (height.round() as usize).max(usize::from(*value > 0.0));
        for row in (plot.top()..plot.bottom()).rev() {
            let eighths = rest.min(8);
            if eighths > 0 {
                buf[(column, row)].set_symbol(EIGHTHS[eighths]).set_style(style);
            }
            rest -= eighths;
        }
        if *value <= 0.0 && plot.height > 0 {
            let dim = scene.theme.style(Role::Dim);
            buf[(column, plot.bottom() - 1)].set_symbol("▁").set_style(dim);
        }
    }
}

/// Mapped memory over time, by size of mapping, the largest at the bottom.
pub fn stacked(buf: &mut Buffer, plot: Rect, scene: &Scene, history: &History) {
    let parts = usize::from(plot.width);
    let (from, to) = scene.time(parts);
    let samples = history.gauges(from, to, parts);
    let columns: Vec<_> = samples
        .iter()
        .map(|sample| sample.and_then(|sample| sample.pages).map(mapped_bytes))
        .collect();
    let sum = |bytes: &[u64; 3]| bytes.iter().map(|n| *n as f64).sum::<f64>();
    let top = columns.iter().flatten().map(sum).fold(0.0, f64::max);
    axis(buf, plot, scene, &format::bytes(top as u64));
    if top <= 0.0 {
        return;
    }
    // Without colours, textures tell the sizes apart; with them, eighths of a cell do.
    let fine = scene.theme.depth != Depth::None;
    let steps = if fine { 8 } else { 1 };
    for (column, bytes) in (plot.left()..plot.right()).zip(&columns) {
        let Some(bytes) = bytes else { continue };
        // An eighth stays free, so that the tallest does not run into the line above.
        let room = u32::from(plot.height) * steps - u32::from(fine);
        let scale = f64::from(room) / top;
        // Up to where each size reaches, the largest at the bottom.
        let mut sum = 0.0;
        let mut ends = [0; 3];
        for size in (0..3).rev() {
            sum += bytes[size] as f64;
            ends[size] = (sum * scale).round() as u32;
        }
        for (row, from_bottom) in (plot.top()..plot.bottom()).rev().zip(0u32..) {
            let (from, to) = (from_bottom * steps, (from_bottom + 1) * steps);
            let Some(lower) = (0..3).rev().find(|size| ends[*size] > from) else { continue };
            let style = scene.theme.style(SIZES[lower].1);
            let cell = &mut buf[(column, row)];
            if !fine {
                cell.set_symbol(TEXTURES[lower]).set_style(style);
                continue;
            }
            let filled = (ends[lower].min(to) - from) as usize;
            cell.set_symbol(EIGHTHS[filled]).set_style(style);
            if let Some(upper) = (0..lower).rev().find(|size| ends[*size] > ends[lower])
                && filled < 8
                && let Some(color) = scene.theme.style(SIZES[upper].1).fg
            {
                cell.set_bg(color);
            }
        }
    }
}

/// The phases of a VM's episodes, as a line below charts of the same width.
pub fn episodes(buf: &mut Buffer, plot: Rect, scene: &Scene, vm: &Vm) {
    let columns = usize::from(plot.width);
    let (start, end) = scene.time(columns);
    let part = (end - start) / (columns.max(1) as u64);
    for (column, place) in (plot.left()..plot.right()).zip(0u64..) {
        let from = start + part * place;
        let to = from + part;
        let (glyph, role) = phase_between(vm, from, to);
        buf[(column, plot.y)].set_symbol(glyph).set_style(scene.theme.style(role));
    }
}

/// The first phase of any episode that a time touches: the shortest is seen.
fn phase_between(vm: &Vm, from: u64, to: u64) -> (&'static str, Role) {
    let touched = vm
        .episodes
        .kept()
        .rev()
        .find(|episode| episode.start < to && episode.end.is_none_or(|end| end >= from));
    let Some(episode) = touched else { return ("┄", Role::Dim) };
    match episode.log_off {
        Some(off) if off >= from && off < to => ("▼", Role::Zap),
        Some(off) if off < from => ("═", Role::Good),
        _ => ("━", Role::Split),
    }
}

/// The times at both ends of charts of the same width.
pub fn time_axis(buf: &mut Buffer, plot: Rect, scene: &Scene) {
    let dim = scene.theme.style(Role::Dim);
    let from = format!("−{}", format::duration(scene.span + scene.ago(scene.at)));
    let back = scene.model.now.saturating_sub(scene.at);
    let to = if back == 0 { "now".to_owned() } else { format!("−{}", format::duration(back)) };
    let line = Line::from(vec![
        Span::styled(format::left(&from, usize::from(plot.width / 2)), dim),
        Span::styled(format::right(&to, usize::from(plot.width - plot.width / 2)), dim),
    ]);
    buf.set_line(plot.x, plot.y, &line, plot.width);
}

/// Columns left of a plot that its axis needs.
pub const LABEL: u16 = 8;

/// The part right of this many columns.
pub fn plot(at: Rect, label: u16) -> Rect {
    let label = label.min(at.width);
    Rect { x: at.x + label, width: at.width - label, ..at }
}

/// Draws what is left of a plot: its top, and a line.
fn axis(buf: &mut Buffer, plot: Rect, scene: &Scene, top: &str) {
    let dim = scene.theme.style(Role::Dim);
    let room = plot.x.min(LABEL);
    if room == 0 || plot.height == 0 {
        return;
    }
    let label = format!("{}┤", format::right(top, usize::from(room) - 1));
    buf.set_stringn(plot.x - room, plot.y, label, usize::from(room), dim);
    for row in plot.top() + 1..plot.bottom() {
        buf[(plot.x - 1, row)].set_symbol("│").set_style(dim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_not_zero_and_little_is_not_nothing() {
        let values = [None, Some(0.0), Some(0.001), Some(5.0), Some(10.0)];
        assert_eq!(sparkline(&values), " ▁▂▅█");
        assert_eq!(sparkline(&[Some(0.0), None]), "▁ ");
    }
}
