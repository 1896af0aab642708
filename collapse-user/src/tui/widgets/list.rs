//! Lines of text.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use crate::tui::theme::{Role, Theme};

/// The first of `count` lines to show in `rows` rows, so that the selected one is among them.
pub fn first_shown(selected: usize, count: usize, rows: usize) -> usize {
    selected.saturating_sub(rows / 2).min(count.saturating_sub(rows))
}

/// Lines from the top on, as many as there is room for. Returns the room left.
pub fn paragraph(buf: &mut Buffer, at: Rect, lines: &[Line]) -> Rect {
    let shown = lines.len().min(usize::from(at.height)) as u16;
    for (row, line) in (at.top()..at.top() + shown).zip(lines) {
        buf.set_line(at.x, row, line, at.width);
    }
    Rect { y: at.y + shown, height: at.height - shown, ..at }
}

/// A title and a line to the right edge, on the first row. Returns the room below.
pub fn title(buf: &mut Buffer, at: Rect, theme: Theme, text: &str) -> Rect {
    if at.height == 0 {
        return at;
    }
    let rest = usize::from(at.width).saturating_sub(text.width() + 1);
    let line = Line::from(vec![
        Span::styled(text.to_owned(), theme.style(Role::Title)),
        Span::raw(" "),
        Span::styled("─".repeat(rest), theme.style(Role::Dim)),
    ]);
    buf.set_line(at.x, at.y, &line, at.width);
    Rect { y: at.y + 1, height: at.height - 1, ..at }
}

/// A line from top to bottom at the left. Returns the room right of it.
pub fn rule(buf: &mut Buffer, at: Rect, theme: Theme) -> Rect {
    for row in at.top()..at.bottom() {
        if at.width > 0 {
            buf[(at.x, row)].set_symbol("│").set_style(theme.style(Role::Dim));
        }
    }
    let used = at.width.min(2);
    Rect { x: at.x + used, width: at.width - used, ..at }
}
