//! A document with generated parts between marks.

use std::{fmt::Display, fs};

use anyhow::{Context, Result};
use base::workspace;

/// The document, relative to the workspace's root.
const PATH: &str = "docs/cost.md";

/// Replaces one generated part of the document.
pub fn write(part: &str, content: &str) -> Result<()> {
    let path = workspace::root().join(PATH);
    let old = fs::read_to_string(&path).with_context(|| format!("reading {PATH}"))?;
    let new = replace(&old, part, content)?;
    fs::write(&path, new).with_context(|| format!("writing {PATH}"))?;
    eprintln!("bench: wrote the part {part:?} of {PATH}");
    Ok(())
}

fn replace(document: &str, part: &str, content: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {part} -->\n"), format!("<!-- end {part} -->"));
    let found = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}{}\n{end}{after}", content.trim_end()))
    });
    found.with_context(|| format!("no part {part:?} between marks"))
}

/// A table in Markdown, the first column to the left and the others to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = format!("|---|{}\n", "---:|".repeat(head.len().saturating_sub(1)));
    let rows: String = rows.iter().map(|row| line(row)).collect();
    line(&head) + &rule + &rows
}

/// A figure, or a dash for what is not known.
pub fn or_dash(figure: Option<impl Display>) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| figure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_is_replaced() {
        let old =
            "text\n<!-- begin a -->\nold\n<!-- end a -->\nmore\n<!-- begin b -->\n<!-- end b -->\n";
        let new = replace(old, "a", "new\n\n").unwrap();
        assert_eq!(new, old.replace("old\n", "new\n"));
        assert_eq!(replace(&new, "a", "old").unwrap(), old);
        assert!(replace(&new, "b", "x").unwrap().contains("<!-- begin b -->\nx\n<!-- end b -->"));
        assert!(replace(&new, "c", "").is_err());
    }

    #[test]
    fn tables_are_markdown() {
        let rows =
            [vec!["x".to_owned(), or_dash(Some(1))], vec!["y".to_owned(), or_dash(None::<u8>)]];
        assert_eq!(table(&["a", "b"], &rows), "| a | b |\n|---|---:|\n| x | 1 |\n| y | – |\n");
    }
}
