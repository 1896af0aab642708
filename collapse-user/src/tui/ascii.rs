//! ASCII substitutes, for terminals that show nothing else. Applied to whole frames, so that views need
//! not care.

use ratatui::buffer::Buffer;

/// Glyphs and their substitutes. Any other character becomes `?`.
const TWINS: &[(char, char)] = &[
    ('–', '-'),
    ('−', '-'),
    ('·', '.'),
    ('…', '~'),
    ('µ', 'u'),
    ('×', 'x'),
    ('→', '>'),
    ('←', '<'),
    ('↑', '^'),
    ('↓', 'v'),
    ('▲', '^'),
    ('▼', 'v'),
    ('▸', '>'),
    ('●', '*'),
    ('○', 'o'),
    ('✓', '+'),
    ('✗', 'x'),
    ('─', '-'),
    ('━', '='),
    ('■', '#'),
    ('═', '~'),
    ('┄', '.'),
    ('│', '|'),
    ('┃', '|'),
    ('╵', '|'),
    ('┌', '+'),
    ('┐', '+'),
    ('└', '+'),
    ('┘', '+'),
    ('├', '+'),
    ('┤', '+'),
    ('╭', '+'),
    ('╮', '+'),
    ('╰', '+'),
    ('╯', '+'),
    ('▁', '_'),
    ('▂', '.'),
    ('▃', ':'),
    ('▄', '-'),
    ('▅', '='),
    ('▆', '+'),
    ('▇', '*'),
    ('█', '#'),
    ('▏', '|'),
    ('▎', '|'),
    ('▍', '|'),
    ('▌', '|'),
    ('▋', '#'),
    ('▊', '#'),
    ('▉', '#'),
    ('▓', '='),
    ('▒', ':'),
    ('░', '-'),
];

/// Replaces everything in a frame that is not ASCII.
pub fn to_ascii(buf: &mut Buffer) {
    for cell in &mut buf.content {
        if !cell.symbol().is_ascii() {
            let first = cell.symbol().chars().next();
            let twin = TWINS.iter().find(|(glyph, _)| Some(*glyph) == first);
            cell.set_char(twin.map_or('?', |(_, twin)| *twin));
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{layout::Rect, style::Style};

    use super::*;

    #[test]
    fn every_glyph_has_a_twin() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 12, 1));
        buf.set_string(0, 0, "▅▁ 漢– a…", Style::new());
        to_ascii(&mut buf);
        let text: String = buf.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(text.trim_end(), "=_ ? - a~");
        assert!(TWINS.iter().all(|(_, twin)| twin.is_ascii()));
    }
}
