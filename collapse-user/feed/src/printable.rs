//! Sanitising of text from untrusted origins.

use unicode_width::UnicodeWidthChar;

/// Maximum width of a printable text, display columns. Fits a `KubeVirt` namespace and name.
pub const MAX_COLUMNS: usize = 128;

/// Replacement for characters that are not shown.
const REPLACEMENT: char = '\u{fffd}';
/// Mark at the end of a text that was truncated.
const ELLIPSIS: char = '…';

/// Converts `text` into a form that is safe to write to a terminal or a file: one line of at most
/// [`MAX_COLUMNS`] display columns without any control function.
///
/// - ASCII control characters, and with them escape sequences, become their pictures (`␛[31m`).
/// - Invalid UTF-8, other control characters, line separators, bidirectional controls and
///   characters of zero width become `�`. The latter include combining marks, any number of which
///   can be stacked.
/// - Longer text is truncated and ends in `…`.
pub fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    let mut columns = 0;
    // Length of the longest prefix that leaves room for the ellipsis.
    let mut cut = 0;
    for chunk in text.utf8_chunks() {
        let invalid = (!chunk.invalid().is_empty()).then_some(REPLACEMENT);
        for char in chunk.valid().chars().map(harmless).chain(invalid) {
            columns += width(char);
            if columns > MAX_COLUMNS {
                shown.truncate(cut);
                shown.push(ELLIPSIS);
                return shown;
            }
            shown.push(char);
            if columns <= MAX_COLUMNS - width(ELLIPSIS) {
                cut = shown.len();
            }
        }
    }
    shown
}

fn harmless(char: char) -> char {
    match char {
        // Unicode's control pictures are in the order of the control characters.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(char)).unwrap_or(REPLACEMENT),
        '\x7f' => '␡',
        _ if char.is_control() || is_layout(char) || width(char) == 0 => REPLACEMENT,
        _ => char,
    }
}

/// Matches line and paragraph separators and bidirectional controls. They are listed here because
/// width tables disagree on them.
fn is_layout(char: char) -> bool {
    matches!(
        char,
        '\u{2028}' | '\u{2029}'
            | '\u{061c}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

fn width(char: char) -> usize {
    char.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_shown_and_does_nothing() {
        assert_eq!(printable(b"\x1b]0;owned\x07\x1b[31mred"), "␛]0;owned␇␛[31mred");
        assert_eq!(printable(b"a\r\n\tb\x7f"), "a␍␊␉b␡");
        assert_eq!(printable("\u{9b}31m".as_bytes()), "�31m");
        assert_eq!(printable("\u{202e}txt\u{2066}.exe\u{2028}".as_bytes()), "�txt�.exe�");
        assert_eq!(printable("e\u{301}\u{200b}\u{feff}".as_bytes()), "e���");
        assert_eq!(printable(b"\xff\xfeok\xe2\x82"), "��ok�");
        assert_eq!(printable("Büro-サーバー".as_bytes()), "Büro-サーバー");
    }

    #[test]
    fn long_text_is_cut_at_a_column() {
        let fits = "x".repeat(MAX_COLUMNS);
        assert_eq!(printable(fits.as_bytes()), fits);
        let cut = format!("{}…", "x".repeat(MAX_COLUMNS - 1));
        assert_eq!(printable("x".repeat(MAX_COLUMNS + 1).as_bytes()), cut);
        let wide = printable("漢".repeat(MAX_COLUMNS).as_bytes());
        assert_eq!(wide, format!("{}…", "漢".repeat(MAX_COLUMNS / 2 - 1)));
    }
}
