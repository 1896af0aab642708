//! Text in tables for spreadsheets. Quoting is the `csv` crate's; what it does not know is formulas.

use std::borrow::Cow;

/// Text that no spreadsheet takes for a formula: an apostrophe precedes what could begin one.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text() {
        for formula in ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        for text in ["", "a=b", "1-2", " =1"] {
            assert_eq!(harmless(text), text);
        }
    }
}
