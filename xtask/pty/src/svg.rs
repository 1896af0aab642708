//! A terminal's screen as a picture: text stays text, blocks and lines become shapes, so that they
//! meet whatever font there is.

use std::fmt::Write as _;

use crate::frame::{Cell, Frame, Rgb};

/// Width and height of a cell.
const CELL: (f64, f64) = (8.4, 18.0);
/// Height of the text.
const FONT_SIZE: f64 = 14.0;
/// From the top of a cell to the line that letters stand on.
const BASELINE: f64 = 13.5;
/// Space around the screen.
const MARGIN: f64 = 14.0;

/// Colours of the terminal itself.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The colour of text.
    pub text: Rgb,
    /// The colour behind text.
    pub background: Rgb,
}

/// Light on dark.
pub const DARK: Look = Look { text: [0xd7, 0xda, 0xe0], background: [0x14, 0x17, 0x1d] };

/// Dark on light.
pub const LIGHT: Look = Look { text: [0x1c, 0x1e, 0x22], background: [0xfc, 0xfc, 0xfa] };

/// Draws a terminal's content as an SVG.
pub fn picture(frame: &Frame, look: Look, title: &str) -> String {
    let columns = frame.lines.first().map_or(0, Vec::len);
    let width = columns as f64 * CELL.0 + 2.0 * MARGIN;
    let height = frame.lines.len() as f64 * CELL.1 + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" \
         role=\"img\" aria-label=\"{}\">\n<title>{0}</title>\n\
         <style>text{{font:{FONT_SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',\
         'Liberation Mono',monospace;white-space:pre;fill:{}}}.b{{font-weight:700}}rect{{shape-rendering:crispEdges}}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>\n",
        escaped(title),
        hex(look.text),
        hex(look.background),
    );
    for (row, line) in frame.lines.iter().enumerate() {
        let y = MARGIN + row as f64 * CELL.1;
        for (column, count, style) in runs(line, |cell| Style::of(cell, look).background) {
            if let Some(color) = style {
                rect(&mut out, column as f64, y, (count as f64, CELL.1), color);
            }
        }
        for (column, count, style) in runs(line, |cell| Style::of(cell, look)) {
            draw(&mut out, &line[column..column + count], column, y, style, look);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// The style that a cell is drawn in.
#[derive(Clone, Copy, PartialEq)]
struct Style {
    text: Rgb,
    background: Option<Rgb>,
    bold: bool,
}

impl Style {
    fn of(cell: &Cell, look: Look) -> Self {
        let text = cell.text_color.unwrap_or(look.text);
        let behind = cell.background.unwrap_or(look.background);
        let (text, background) =
            if cell.reversed { (behind, Some(text)) } else { (text, cell.background) };
        let half = |a: u8, b: u8| u8::midpoint(a, b);
        let text = if cell.dim {
            std::array::from_fn(|part| half(text[part], look.background[part]))
        } else {
            text
        };
        Self { text, background, bold: cell.bold }
    }
}

/// Stretches of cells that are alike: the first column, how many, and what they share.
fn runs<T: PartialEq + Copy>(line: &[Cell], of: impl Fn(&Cell) -> T) -> Vec<(usize, usize, T)> {
    let mut runs: Vec<(usize, usize, T)> = Vec::new();
    for (column, cell) in line.iter().enumerate() {
        let value = of(cell);
        match runs.last_mut() {
            Some((_, count, last)) if *last == value => *count += 1,
            _ => runs.push((column, 1, value)),
        }
    }
    runs
}

/// Draws cells of one style: words as text, each at its column, and shapes.
fn draw(out: &mut String, cells: &[Cell], first: usize, y: f64, style: Style, look: Look) {
    let mut place = 0;
    while place < cells.len() {
        let column = (first + place) as f64;
        let same = cells[place..].iter().take_while(|cell| cell.text == cells[place].text).count();
        if &*cells[place].text == "┤" {
            // A line and a stroke to it.
            let (top, height, _, width) = STROKE;
            rect(out, column, y + top * CELL.1, (width, height * CELL.1), style.text);
        }
        if let Some(shape) = shape(&cells[place].text) {
            let (top, height, left, width) = shape;
            let across = if (left, width) == (0.0, 1.0) { same } else { 1 };
            let size = (width * across as f64, height * CELL.1);
            rect(out, column + left, y + top * CELL.1, size, style.text);
            place += across;
            continue;
        }
        let is_text = |cell: &&Cell| shape(&cell.text).is_none();
        let mut words: Vec<&Cell> = cells[place..].iter().take_while(is_text).collect();
        // Two blanks begin another piece, so that no piece drifts far from its column.
        if let Some(gap) = words.windows(2).position(|pair| pair.iter().all(|cell| is_blank(cell)))
        {
            words.truncate(gap.max(1));
        }
        let text: String = words.iter().map(|cell| &*cell.text).collect();
        if !text.trim().is_empty() {
            let blanks = words.iter().take_while(|cell| is_blank(cell)).count();
            let x = MARGIN + (column + blanks as f64) * CELL.0;
            let length = (words.len() - blanks) as f64 * CELL.0;
            let class = if style.bold { " class=\"b\"" } else { "" };
            let fill = if style.text == look.text {
                String::new()
            } else {
                format!(" style=\"fill:{}\"", hex(style.text))
            };
            let text = format!("{:width$}", text.trim_start(), width = 0);
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\"{class}{fill}>{}</text>",
                y + BASELINE,
                escaped(&text),
            );
        }
        place += words.len();
    }
}

fn is_blank(cell: &Cell) -> bool {
    cell.text.trim().is_empty()
}

/// The width of a thin line, in cells' heights.
const LINE: f64 = 1.0 / 18.0;

/// A part of a cell: top, height, left, width.
type Shape = (f64, f64, f64, f64);

/// From the left edge to the middle.
const STROKE: Shape = (0.5, LINE, 0.0, 0.5);

/// The part of its cell that a character fills, if it is drawn as a shape.
fn shape(text: &str) -> Option<Shape> {
    let mut chars = text.chars();
    let char = chars.next().filter(|_| chars.next().is_none())?;
    Some(match char {
        '▁'..='█' => {
            let eighths = f64::from(u32::from(char) - u32::from('▁') + 1);
            (1.0 - eighths / 8.0, eighths / 8.0, 0.0, 1.0)
        }
        '▏' => (0.0, 1.0, 0.0, 0.125),
        '─' => (0.5, LINE, 0.0, 1.0),
        '━' => (0.5 - LINE, LINE * 2.0, 0.0, 1.0),
        '│' | '┤' => (0.0, 1.0, 0.5, LINE * 2.0),
        _ => return None,
    })
}

/// A rectangle; `x` and the width are in columns.
fn rect(out: &mut String, x: f64, y: f64, (width, height): (f64, f64), color: Rgb) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{y:.2}\" width=\"{:.1}\" height=\"{height:.2}\" fill=\"{}\"/>",
        MARGIN + x * CELL.0,
        width * CELL.0,
        hex(color),
    );
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &str) -> String {
        let mut parser = crate::Size { columns: 20, rows: 1 }.parser();
        parser.process(bytes.as_bytes());
        picture(&Frame::from(parser.screen()), DARK, "a < b")
    }

    #[test]
    fn text_is_text_and_blocks_are_shapes() {
        let svg = shown("a<b  \x1b[31mc▅▅\x1b[0m");
        assert!(svg.contains(">a&lt;b</text>") && svg.contains(">c</text>"), "{svg}");
        assert!(svg.contains("width=\"16.8\" height=\"11.25\" fill=\"#e86a17\""), "{svg}");
        assert!(svg.contains("<title>a &lt; b</title>") && !svg.contains('▅'), "{svg}");
    }

    #[test]
    fn reversed_cells_have_their_colour_behind() {
        let svg = shown("\x1b[7mx");
        assert!(svg.contains(&format!("fill=\"{}\"/>", hex(DARK.text))), "{svg}");
        assert!(svg.contains(&format!("style=\"fill:{}\">x<", hex(DARK.background))), "{svg}");
    }
}
