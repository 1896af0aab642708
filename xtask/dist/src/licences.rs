//! The licences of all that the program contains.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use base::{CommandExt as _, workspace};
use serde_json::Value;

use lab::programs::TARGET;

/// What is in the program beside crates.
const RUNTIME: &str = "\
The standard library of Rust (MIT OR Apache-2.0) and the GNU C library (LGPL-2.1-or-later), which is linked
statically: to link the program with another version of it, build the program from its sources.
";

/// Licences under which crates may be in the program.
const PERMISSIVE: [&str; 5] = ["MIT", "Apache-2.0", "BSD-3-Clause", "Unicode-3.0", "Zlib"];

/// Beginnings of the names of files with licences.
const NAMES: [&str; 4] = ["license", "licence", "copying", "unlicense"];

/// Every crate with its licence, and the texts of all licences, each once.
pub fn text() -> Result<String> {
    let mut tree = workspace::cargo();
    tree.args(["tree", "--locked", "-p", "collapse-user", "--edges", "normal"]);
    tree.args(["--target", TARGET, "--prefix", "none", "--format", "{p}"]);
    let tree = String::from_utf8(tree.read()?)?;
    let linked = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    });
    let linked: BTreeSet<(String, String)> = linked.collect();
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]);
    let metadata: Value = serde_json::from_slice(&metadata.read()?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;

    let (mut list, mut texts) = (String::new(), BTreeMap::<String, Vec<String>>::new());
    let mut found = BTreeSet::new();
    for package in packages {
        let of = |key: &str| package[key].as_str().unwrap_or_default();
        let key = (of("name").to_owned(), of("version").to_owned());
        // The project's own crates have its licence.
        if !linked.contains(&key) || package["source"].is_null() || !found.insert(key) {
            continue;
        }
        let name = format!("{} {}", of("name"), of("version"));
        ensure!(is_permissive(of("license")), "{name} has the licence {:?}", of("license"));
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{name}: {}", of("license"));
        let folder = Path::new(of("manifest_path")).parent().context("a manifest at the root")?;
        for text in of_folder(folder)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    ensure!(found.len() > 50, "only {} crates were found", found.len());
    let mut texts: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
    texts.sort();
    let mut all = format!("{RUNTIME}\n{list}");
    for (names, text) in texts {
        let _ = write!(all, "\n{}\n{}:\n\n{}\n", "-".repeat(80), names.join(", "), text.trim_end());
    }
    Ok(all)
}

/// The licences in a crate's folder.
fn of_folder(folder: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|begin| name.starts_with(begin)) && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    paths.iter().map(|path| Ok(fs::read_to_string(path)?.replace("\r\n", "\n"))).collect()
}

/// Whether an SPDX expression, or one of the older form with slashes, lets the program be distributed under its own
/// licence.
fn is_permissive(expression: &str) -> bool {
    let any = |alternatives: &str| {
        let words = alternatives.split(" OR ").flat_map(|part| part.split('/'));
        words.map(str::trim).any(|word| PERMISSIVE.contains(&word))
    };
    expression.split(" AND ").all(|part| any(part.trim_matches(['(', ')'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissive_licences() {
        for expression in ["MIT", "Unlicense/MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert!(is_permissive(expression), "{expression}");
        }
        for expression in ["", "GPL-2.0", "MIT AND GPL-2.0", "(GPL-2.0 OR AGPL-3.0) AND MIT"] {
            assert!(!is_permissive(expression), "{expression}");
        }
    }

    #[test]
    fn everything_linked_may_be_distributed() {
        let text = text().expect("the licences");
        assert!(text.contains("\naya 0.") && text.contains("Permission is hereby granted"));
    }
}
