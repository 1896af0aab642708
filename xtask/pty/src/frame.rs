//! The content of a terminal, cell by cell.

use vt100::{Color, Screen};

/// Red, green and blue.
pub type Rgb = [u8; 3];

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The character with combining ones; empty right of a wide one.
    pub text: String,
    /// Colour of the text; `None` for the terminal's own.
    pub text_color: Option<Rgb>,
    /// Colour behind it; `None` for the terminal's own.
    pub background: Option<Rgb>,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether it is faint.
    pub dim: bool,
    /// Whether both colours change places.
    pub reversed: bool,
}

/// The content of a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Cells from left to right, line by line.
    pub lines: Vec<Vec<Cell>>,
}

impl From<&Screen> for Frame {
    fn from(screen: &Screen) -> Self {
        let (rows, columns) = screen.size();
        let (rows, columns) = (rows.get(), columns.get());
        let cell = |row, column| {
            let Some(cell) = screen.cell(row, column) else { return Cell::default() };
            // Cells that were never written to are blank.
            let blank = !cell.has_contents() && !cell.is_wide_continuation();
            Cell {
                text: if blank { " ".to_owned() } else { cell.contents().to_owned() },
                text_color: rgb(cell.fgcolor()),
                background: rgb(cell.bgcolor()),
                bold: cell.bold(),
                dim: cell.dim(),
                reversed: cell.inverse(),
            }
        };
        let line = |row| (0..columns).map(|column| cell(row, column)).collect();
        Self { lines: (0..rows).map(line).collect() }
    }
}

/// The 16 colours that a terminal names, as on a dark background.
const NAMED: [Rgb; 16] = [
    [0x1b, 0x1f, 0x27],
    [0xe8, 0x6a, 0x17],
    [0x2f, 0xb8, 0x8f],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xa4, 0xe9],
    [0xcc, 0x79, 0xa7],
    [0x56, 0xb4, 0xd9],
    [0xc8, 0xcc, 0xd4],
    [0x8a, 0x8f, 0x98],
    [0xff, 0x8a, 0x45],
    [0x5a, 0xd8, 0xb2],
    [0xff, 0xc1, 0x45],
    [0x8a, 0xc8, 0xff],
    [0xe8, 0xa0, 0xc8],
    [0x8a, 0xd8, 0xf4],
    [0xff, 0xff, 0xff],
];

fn rgb(color: Color) -> Option<Rgb> {
    Some(match color {
        Color::Default => return None,
        Color::Rgb(r, g, b) => [r, g, b],
        Color::Idx(place @ 0..16) => NAMED[usize::from(place)],
        Color::Idx(place @ 16..232) => {
            let step = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let place = place - 16;
            [step(place / 36), step(place / 6 % 6), step(place % 6)]
        }
        Color::Idx(place) => [8 + 10 * (place - 232); 3],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn cells_have_their_style() {
        let mut parser = Size { columns: 6, rows: 1 }.parser();
        parser.process("\x1b[1;38;2;1;2;3mA\x1b[0m\x1b[7;38;5;74m漢\x1b[0mb".as_bytes());
        let frame = Frame::from(parser.screen());
        let [a, wide, rest, b, blank, ..] = &frame.lines[0][..] else { panic!("{frame:?}") };
        assert_eq!((&*a.text, a.text_color, a.bold), ("A", Some([1, 2, 3]), true));
        assert_eq!(
            (&*wide.text, wide.text_color, wide.reversed),
            ("漢", Some([95, 175, 215]), true)
        );
        assert_eq!((&*rest.text, &*b.text, b.text_color), ("", "b", None));
        assert_eq!(blank.text, " ");
    }
}
