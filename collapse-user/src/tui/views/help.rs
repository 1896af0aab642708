//! Help over any view: keys, mouse, what the map shows, meaning of the columns.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use super::map::CellState;
use crate::tui::{format, keys, metric, scene::Scene, theme::Role};
use collapse_model::Metric;

/// Mouse actions and what they do.
const MOUSE: [(&str, &str); 2] =
    [("click", "select, then open; on a title: sort"), ("wheel", "scroll")];

/// Number of lines of the help.
pub fn count(playing: bool) -> usize {
    keys::bindings(playing).count() + MOUSE.len() + CellState::ALL.len() + Metric::listed().count()
}

/// Draws the help from line `first` on, or from an earlier one where the rest fits.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, first: usize) {
    let lines = lines(scene);
    let columns = lines.iter().map(Line::width).max().unwrap_or_default() + 2;
    // Two columns where one would be too long.
    let rows = usize::from(at.height).saturating_sub(2);
    let stacks = if lines.len() > rows && usize::from(at.width) >= columns * 2 + 2 { 2 } else { 1 };
    let each = lines.len().div_ceil(stacks);
    let lines = &lines[first.min(each.saturating_sub(rows))..];
    let width = (columns * stacks + 2).min(usize::from(at.width)) as u16;
    let height = (each + 2).min(usize::from(at.height)) as u16;
    let area = Rect {
        x: at.x + (at.width - width) / 2,
        y: at.y + (at.height - height) / 2,
        width,
        height,
    };
    clear(buf, area);
    frame(buf, area, scene);
    for (index, line) in lines.iter().enumerate() {
        let (stack, row) = ((index / each) as u16, (index % each) as u16);
        let (x, y) = (area.x + 2 + stack * columns as u16, area.y + 1 + row);
        if y + 1 < area.bottom() && x + 1 < area.right() {
            buf.set_line(x, y, line, (area.right() - 1 - x).min(columns as u16));
        }
    }
}

fn lines(scene: &Scene) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let keys =
        keys::bindings(scene.track.is_some()).map(|binding| (keys::shown(binding), binding.does));
    let mouse = MOUSE.map(|(what, does)| (what.to_owned(), does));
    let keys: Vec<_> = keys.chain(mouse).collect();
    let width = keys.iter().map(|(keys, _)| keys.width()).max().unwrap_or_default();
    let keys = keys.into_iter().map(|(keys, does)| {
        Line::from(vec![
            Span::styled(format::right(&keys, width), theme.style(Role::Key)),
            Span::raw(format!("  {does}")),
        ])
    });
    let metrics = Metric::listed().map(|metric| {
        let title = format::right(&metric::title(metric), width);
        Line::from(vec![
            Span::styled(title, theme.style(metric.tone.into())),
            Span::raw(format!("  {}", metric::help(metric))),
        ])
    });
    let cells = CellState::ALL.into_iter().map(|cell| {
        let (glyph, role, _) = cell.look();
        Line::from(vec![
            Span::styled(format::right(glyph, width), theme.style(role)),
            Span::raw(format!("  map: {}", cell.help())),
        ])
    });
    keys.chain(cells).chain(metrics).collect()
}

/// Clears an area, including wide characters that reach into it.
fn clear(buf: &mut Buffer, area: Rect) {
    for y in area.top()..area.bottom() {
        if area.x > 0 && buf[(area.x - 1, y)].symbol().width() > 1 {
            buf[(area.x - 1, y)].set_symbol(" ");
        }
        for x in area.left()..area.right() {
            buf[(x, y)].reset();
        }
    }
}

fn frame(buf: &mut Buffer, area: Rect, scene: &Scene) {
    if area.width < 2 || area.height < 2 {
        return;
    }
    let dim = scene.theme.style(Role::Dim);
    let line = "─".repeat(usize::from(area.width - 2));
    buf.set_string(area.x, area.y, format!("╭{line}╮"), dim);
    buf.set_string(area.x, area.bottom() - 1, format!("╰{line}╯"), dim);
    for y in area.top() + 1..area.bottom() - 1 {
        buf.set_string(area.x, y, "│", dim);
        buf.set_string(area.right() - 1, y, "│", dim);
    }
    let title = format::cut(" help: ? closes, ↑ ↓ scroll ", usize::from(area.width - 2));
    buf.set_string(area.x + 1, area.y, title, Style::new().patch(scene.theme.style(Role::Title)));
}
