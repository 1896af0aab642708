//! Text in columns. Numbers in narrow columns are worded where all are.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub use collapse_model::wording::{
    UNKNOWN,
    narrow::{busy, bytes, count, duration, estimate, known, rate, share},
};

/// Truncates `text` to `columns` columns, with `…` at its end if anything is cut.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut width = 0;
    let room = columns.saturating_sub(1);
    let kept = text.chars().take_while(|c| {
        width += c.width().unwrap_or(0);
        width <= room
    });
    let mut kept: String = kept.collect();
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// Pads or truncates `text` to `columns` columns, on the left.
pub fn left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let space = columns.saturating_sub(text.width());
    text + &" ".repeat(space)
}

/// Pads or truncates `text` to `columns` columns, on the right.
pub fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    " ".repeat(columns.saturating_sub(text.width())) + &text
}

/// Breaks `text` between words into lines of at most `columns` columns.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, columns)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_wider_than_promised(columns in 0usize..40, text in "[a-z漢字– ]*") {
            prop_assert!(cut(&text, columns).width() <= columns);
            prop_assert!(wrapped(&text, columns).iter().all(|line| line.width() <= columns));
        }
    }
}
