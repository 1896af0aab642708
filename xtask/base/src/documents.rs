//! The documents of the project, and the commands in them.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// The languages of blocks whose lines are commands, and what these lines begin with.
const COMMANDS: [(&str, &[&str]); 3] = [("sh", &[""]), ("text", &[""]), ("console", &["$ ", "# "])];

/// All documents, with their text.
pub fn all() -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![(workspace::root(), false), (workspace::root().join("docs"), true)];
    while let Some((folder, with_folders)) = folders.pop() {
        let listing = || format!("listing {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(listing)? {
            let path = entry.with_context(listing)?.path();
            if path.is_dir() {
                folders.extend(with_folders.then_some((path, true)));
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("reading {}", path.display()))?;
                found.push((path, text));
            }
        }
    }
    Ok(found)
}

/// The words of each command in the blocks of a document, without `sudo`, comments, and what else a shell does with it.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // Every other part is inside a block.
    for block in text.split("\n```").skip(1).step_by(2) {
        let (language, lines) = block.split_once('\n').unwrap_or_default();
        let Some((_, marks)) = COMMANDS.iter().find(|(name, _)| *name == language) else {
            continue;
        };
        let lines = lines.replace("\\\n", " ");
        for line in lines.lines() {
            let command = marks.iter().find_map(|mark| line.strip_prefix(mark));
            found.extend(command.map(|line| words(line.strip_prefix("sudo ").unwrap_or(line))));
        }
    }
    found
}

/// The words of the first command of a line, as a shell reads them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (Vec::new(), None);
    let mut word: Option<String> = None;
    for sign in line.chars() {
        match (quote, sign) {
            (Some(open), sign) if sign == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '&' | '|' | ';' | '<' | '>') => break,
            (_, sign) => word.get_or_insert_default().push(sign),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lines_of_blocks() {
        let text = "collapse no\n```sh\nsudo collapse report \\\n    --budget 'a == 0' &   # why\n```\ncollapse no\n\
                    ```yaml\ncollapse: no\n```\n\n```console\n$ collapse live | cat\ncollapse runs 1\n```\n";
        let expected = [&["collapse", "report", "--budget", "a == 0"][..], &["collapse", "live"]];
        assert_eq!(commands(text), expected);
        assert_eq!(words("a \"b 'c'\" ''"), ["a", "b 'c'", ""]);
    }

    #[test]
    fn documents_are_found_wherever_they_are() {
        let names: Vec<_> = all().expect("documents").into_iter().map(|(path, _)| path).collect();
        for name in ["README.md", "docs/usage.md", "docs/contrib/systemd/README.md"] {
            assert!(names.contains(&workspace::root().join(name)), "{name}");
        }
    }
}
