//! Budgets that are kept because they are, or once were, hard to read: each is understood or refused in
//! words.

use std::{fs, path::PathBuf};

use collapse_report::gate::Budget;

#[test]
fn budgets() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus/budgets.txt");
    let text = fs::read_to_string(path).expect("the corpus");
    assert!(text.lines().count() > 10);
    for line in text.lines() {
        if let Err(error) = line.parse::<Budget>() {
            assert!(!error.to_string().is_empty(), "{line}");
        }
    }
}
