//! Values over time, a column per part.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::{
    model::{History, Vm},
    tui::{
        format,
        scene::Scene,
        theme::{Depth, Role},
        widgets::{SIZES, mapped_bytes},
    },
};

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

/// Values as an area, with the greatest of them at the left of the first line.
pub fn area(
    buf: &mut Buffer,
    at: Rect,
    scene: &Scene,
    values: &[Option<f64>],
    role: Role,
    shown: impl Fn(f64) -> String,
) {
    let top = values.iter().flatten().fold(0.0, |top: f64, value| top.max(*value));
    let style = scene.theme.style(role);
    let plot = axis(buf, at, scene, &if top > 0.0 { shown(top) } else { "0".to_owned() });
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
pub fn stacked(buf: &mut Buffer, at: Rect, scene: &Scene, history: &History) {
    let parts = usize::from(plot_of(at).width);
    let (from, to) = scene.time(parts);
    let samples = history.gauges(from, to, parts);
    let columns: Vec<_> = samples
        .iter()
        .map(|sample| sample.and_then(|sample| sample.pages).map(mapped_bytes))
        .collect();
    let sum = |bytes: &[u64; 3]| bytes.iter().map(|n| *n as f64).sum::<f64>();
    let top = columns.iter().flatten().map(sum).fold(0.0, f64::max);
    let plot = axis(buf, at, scene, &format::bytes(top as u64));
    if top <= 0.0 {
        return;
    }
    // Without colours, textures tell the sizes apart.
    let glyphs = if scene.theme.depth == Depth::None {
        ["░", "▓", "█"]
    } else {
        ["█", "█", "█"]
    };
    for (column, bytes) in (plot.left()..plot.right()).zip(&columns) {
        let Some(bytes) = bytes else { continue };
        for (row, from_bottom) in (plot.top()..plot.bottom()).rev().zip(0u32..) {
            let height = (f64::from(from_bottom) + 0.5) / f64::from(plot.height) * top;
            let mut below = 0.0;
            let size = (0..3).rev().find(|size| {
                below += bytes[*size] as f64;
                height < below
            });
            if let Some(size) = size {
                let style = scene.theme.style(SIZES[size].3);
                buf[(column, row)].set_symbol(glyphs[size]).set_style(style);
            }
        }
    }
}

/// The phases of a VM's episodes, as a line below charts of the same width.
pub fn episodes(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let plot = plot_of(at);
    let dim = scene.theme.style(Role::Dim);
    buf.set_stringn(at.x, at.y, format::cut("episodes", LABEL), usize::from(at.width), dim);
    let columns = usize::from(plot.width);
    let (start, end) = scene.time(columns);
    let part = (end - start) / (columns.max(1) as u64);
    for (column, place) in (plot.left()..plot.right()).zip(0u64..) {
        let from = start + part * place;
        let to = from + part;
        let (glyph, role) = phase_between(vm, from, to);
        buf[(column, at.y)].set_symbol(glyph).set_style(scene.theme.style(role));
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
        Some(off) if off < from => ("▲", Role::Good),
        _ => ("━", Role::Split),
    }
}

/// The times at both ends of charts of the same width.
pub fn time_axis(buf: &mut Buffer, at: Rect, scene: &Scene) {
    let plot = plot_of(at);
    let dim = scene.theme.style(Role::Dim);
    let from = format!("−{}", format::duration(scene.span + scene.ago(scene.at)));
    let back = scene.model.now.saturating_sub(scene.at);
    let to = if back == 0 { "now".to_owned() } else { format!("−{}", format::duration(back)) };
    let line = Line::from(vec![
        Span::styled(format::left(&from, usize::from(plot.width / 2)), dim),
        Span::styled(format::right(&to, usize::from(plot.width - plot.width / 2)), dim),
    ]);
    buf.set_line(plot.x, at.y, &line, plot.width);
}

/// Columns left of a plot.
const LABEL: usize = 8;

fn plot_of(at: Rect) -> Rect {
    let label = (LABEL as u16).min(at.width);
    Rect { x: at.x + label, width: at.width - label, ..at }
}

/// Draws what is left of a plot; returns the plot.
fn axis(buf: &mut Buffer, at: Rect, scene: &Scene, top: &str) -> Rect {
    let dim = scene.theme.style(Role::Dim);
    let plot = plot_of(at);
    if at.height > 0 {
        let label = format!("{}┤", format::right(top, LABEL - 1));
        buf.set_stringn(at.x, at.y, label, usize::from(plot.x - at.x), dim);
    }
    for row in at.top() + 1..at.bottom() {
        if plot.x > at.x {
            buf[(plot.x - 1, row)].set_symbol("│").set_style(dim);
        }
    }
    plot
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
