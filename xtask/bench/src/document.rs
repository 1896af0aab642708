//! A document with generated parts between marks.

use std::{fmt::Display, fs};

use anyhow::{Context, Result};
use base::workspace;

/// The document, relative to the workspace's root.
const PATH: &str = "docs/cost.md";

/// Replaces one generated part of the document; where the content has sections, those alone.
pub fn write(part: &str, content: &str) -> Result<()> {
    let path = workspace::root().join(PATH);
    let old = fs::read_to_string(&path).with_context(|| format!("reading {PATH}"))?;
    let new = edit(&old, part, |old| {
        if content.starts_with(SECTION) { merge(old, content) } else { content.to_owned() }
    })?;
    fs::write(&path, new).with_context(|| format!("writing {PATH}"))?;
    eprintln!("bench: wrote the part {part:?} of {PATH}");
    Ok(())
}

/// Replaces one part by what `with` makes of it.
fn edit(document: &str, part: &str, with: impl FnOnce(&str) -> String) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {part} -->\n"), format!("<!-- end {part} -->"));
    let found = document.split_once(&begin).and_then(|(before, rest)| {
        let (old, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}{}\n{end}{after}", with(old).trim_end()))
    });
    found.with_context(|| format!("no part {part:?} between marks"))
}

/// The start of a section's first line.
const SECTION: &str = "### ";

/// Replaces the sections of `old` that `new` has too. Further ones follow the last of their kernel, or all.
fn merge(old: &str, new: &str) -> String {
    let mut sections: Vec<&str> = sections(old).collect();
    for section in self::sections(new) {
        let same = |other: &&str| subject(other) == subject(section);
        if let Some(known) = sections.iter_mut().find(|other| same(other)) {
            *known = section;
            continue;
        }
        let of_kernel = |other: &&str| subject(other).0 == subject(section).0;
        let last = sections.iter().rposition(of_kernel);
        sections.insert(last.map_or(sections.len(), |at| at + 1), section);
    }
    let sections: Vec<&str> = sections.iter().map(|section| section.trim_end()).collect();
    sections.join("\n\n")
}

/// The sections of a text, each with its heading.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices(SECTION).map(|(at, _)| at);
    let starts: Vec<usize> = starts.filter(|at| *at == 0 || text[..*at].ends_with('\n')).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &text[start..end])
}

/// The kernel series and the machine in a section's heading, `### RELEASE, MACHINE`.
fn subject(section: &str) -> (&str, &str) {
    let heading = section.lines().next().unwrap_or_default().trim_start_matches(SECTION);
    let (release, machine) = heading.split_once(", ").unwrap_or((heading, ""));
    let series = release.match_indices('.').nth(1).map_or(release, |(at, _)| &release[..at]);
    (series, machine)
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
        let replace = |old, part, new: &str| edit(old, part, |_| new.to_owned());
        let new = replace(old, "a", "new\n\n").unwrap();
        assert_eq!(new, old.replace("old\n", "new\n"));
        assert_eq!(replace(&new, "a", "old").unwrap(), old);
        assert!(replace(&new, "b", "x").unwrap().contains("<!-- begin b -->\nx\n<!-- end b -->"));
        assert!(replace(&new, "c", "").is_err());
    }

    #[test]
    fn sections_of_the_same_kernel_and_machine_are_replaced() {
        let old = "### 6.12.9-amd64\n\na\n\n### 7.3.4+deb13-amd64\n\nb\n";
        let new = "### 6.12.10-amd64\nc\n### 6.12.10-amd64, on Intel\nd\n### 6.1.0-9-amd64\ne\n";
        assert_eq!(
            merge(old, new),
            "### 6.12.10-amd64\nc\n\n### 6.12.10-amd64, on Intel\nd\n\n\
             ### 7.3.4+deb13-amd64\n\nb\n\n### 6.1.0-9-amd64\ne"
        );
        assert_eq!(merge("", new).trim_end(), new.trim_end().replace("\n###", "\n\n###"));
    }

    #[test]
    fn tables_are_markdown() {
        let rows =
            [vec!["x".to_owned(), or_dash(Some(1))], vec!["y".to_owned(), or_dash(None::<u8>)]];
        assert_eq!(table(&["a", "b"], &rows), "| a | b |\n|---|---:|\n| x | 1 |\n| y | – |\n");
    }
}
