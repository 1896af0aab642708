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

/// Rows as CSV.
pub(crate) fn written(rows: &[Vec<String>]) -> String {
    let mut table = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for row in rows {
        // Writing to memory cannot fail.
        let _ = table.write_record(row);
    }
    let bytes = table.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
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

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let row = ["a b", "a,\"b\"", "two\nlines", ""].map(str::to_owned).to_vec();
        assert_eq!(written(&[row]), "a b,\"a,\"\"b\"\"\",\"two\nlines\",\n");
    }
}
