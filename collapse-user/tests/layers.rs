//! Modules use only modules below them, so that data flows one way.

#![allow(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    iter::Peekable,
    path::{Path, PathBuf},
};

/// Folders of `src` and the layers of the modules in each, the lowest first. A module may use those of
/// lower layers, and none of its own layer.
const FOLDERS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "bpf diagnostics exit identity tui",
            "kernel",
            "output plan rights settings",
            "exporter",
            "probe",
            "source",
            "watch",
            "doctor explain live selftest",
            "cli",
        ],
    ),
    (
        "tui",
        &[
            "ascii column format notices terminal theme",
            "nav options",
            "keys",
            "spots",
            "scene",
            "metric",
            "transport vm_state widgets",
            "table",
            "views",
            "frame",
            "app",
            "mouse",
        ],
    ),
    ("tui/views", &["caption events findings probes", "episodes map vm", "help overview"]),
];

#[test]
fn modules_use_only_modules_below_them() {
    let mut wrong = Vec::new();
    for (folder, layers) in FOLDERS {
        let layer =
            |name: &str| layers.iter().position(|layer| layer.split(' ').any(|n| n == name));
        for (module, files) in modules(&source().join(folder)) {
            let Some(own) = layer(&module) else {
                wrong.push(format!("{module} in src/{folder} is in no layer"));
                continue;
            };
            let used: BTreeSet<_> = files.iter().flat_map(|file| used(file, folder)).collect();
            for used in used {
                // At the top, other names are re-exports of the crates below.
                let is_below = layer(&used).map_or(folder.is_empty(), |layer| layer < own);
                if used != module && !is_below {
                    wrong.push(format!("{module} in src/{folder} uses {used}, which is not below"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_wherever_they_are() {
    let text = "use crate::{a::{self, b as c}, d};\n// crate::e\nlet f = super::g::h(x);\n\
        #[cfg(test)]\nmod tests {\nuse crate::i;";
    let found: Vec<_> = paths(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::self", "crate::a::b", "crate::d", "super::g::h"]);
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Names and files of the modules in a folder, tests aside.
fn modules(folder: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let named = entries(folder).into_iter().map(|path| (stem(&path), files(path)));
    named.filter(|(name, _)| !["lib", "main", "mod"].contains(&name.as_str())).collect()
}

fn files(path: PathBuf) -> Vec<PathBuf> {
    if path.is_dir() { entries(&path).into_iter().flat_map(files).collect() } else { vec![path] }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_source =
        |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|end| end == "rs");
    entries.filter(|path| is_source(path) && stem(path) != "tests").collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The modules of a folder that a file uses.
fn used(file: &Path, folder: &str) -> Vec<String> {
    let relative = file.strip_prefix(source()).unwrap().with_extension("");
    let mut own: Vec<_> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    own.pop_if(|last| last == "mod");
    let folder: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let absolute = |path: Vec<String>| {
        let up = path.iter().take_while(|part| *part == "super").count();
        let start = if path[0] == "crate" { 0 } else { own.len() - up };
        let rest = path.into_iter().skip(up.max(usize::from(up == 0)));
        own[..start].iter().cloned().chain(rest).collect::<Vec<_>>()
    };
    let paths = paths(&fs::read_to_string(file).unwrap()).into_iter().map(absolute);
    let inside = paths
        .filter(|path| path.len() > folder.len() && path.iter().zip(&folder).all(|(a, b)| a == b));
    inside.map(|path| path[folder.len()].clone()).collect()
}

/// Paths from `crate`, `self` or `super` on in a source text, comments and tests aside.
fn paths(text: &str) -> Vec<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let tokens: Vec<_> = code.lines().flat_map(tokens).collect();
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let begins = ["crate", "self", "super"].contains(&token.as_str())
            && tokens.get(index + 1).is_some_and(|next| next == "::")
            && (index == 0 || tokens[index - 1] != "::");
        if begins {
            tree(&mut tokens[index..].iter().cloned().peekable(), &[], &mut found);
        }
    }
    found
}

/// Words, `::` and single characters of a line, without its comment.
fn tokens(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut tokens: Vec<String> = Vec::new();
    let mut last = ' ';
    for char in code.chars() {
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        match tokens.last_mut() {
            Some(token) if is_word(char) && is_word(last) => token.push(char),
            Some(token) if char == ':' && token == ":" && last == ':' => token.push(char),
            _ if char.is_whitespace() => {}
            _ => tokens.push(char.to_string()),
        }
        last = char;
    }
    tokens
}

/// Reads a path or a tree of them, such as `a::{b, c::d}`, that continues the path `before`.
fn tree(
    tokens: &mut Peekable<impl Iterator<Item = String>>,
    before: &[String],
    found: &mut Vec<Vec<String>>,
) {
    let mut path = before.to_vec();
    while let Some(token) = tokens.next() {
        if token == "{" {
            while tokens.next_if(|token| token == "}").is_none() && tokens.peek().is_some() {
                tree(tokens, &path, found);
                tokens.next_if(|token| token == ",");
            }
            return;
        }
        path.push(token);
        if tokens.next_if(|token| token == "::").is_none() {
            break;
        }
    }
    if tokens.next_if(|token| token == "as").is_some() {
        tokens.next();
    }
    found.push(path);
}
