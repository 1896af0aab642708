//! The mini-language's form: statements, arguments, repetition. Their meaning is
//! for [`parse`](crate::parse).
//!
//! ```text
//! scenario  := statement { (";" | newline) statement }
//! statement := NAME { WORD | KEY=VALUE } | "repeat" COUNT "{" scenario "}"
//! ```
//! `#` starts a comment that runs to the end of the line.

use anyhow::{Context, Result, bail, ensure};

/// One statement as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// A phase: its name, its bare words and its `key=value` pairs in order.
    Phase {
        /// The phase's name.
        name: String,
        /// Arguments without a key.
        words: Vec<String>,
        /// Arguments with a key.
        pairs: Vec<(String, String)>,
    },
    /// A group of statements carried out several times.
    Repeat(u64, Vec<Statement>),
}

/// The deepest nesting of `repeat`. The parser and the runner recurse, and the text comes from outside.
const MAX_DEPTH: usize = 16;

/// Reads a scenario's text.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let mut tokens = tokens(text).into_iter();
    statements(&mut tokens, 0)
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.split('#').next().unwrap_or_default();
        while let Some(at) = rest.find(|c: char| c.is_whitespace() || ";{}".contains(c)) {
            let (word, tail) = rest.split_at(at);
            push_word(&mut tokens, word);
            let mut tail = tail.chars();
            match tail.next() {
                Some(';') => tokens.push(Token::End),
                Some('{') => tokens.push(Token::Open),
                Some('}') => tokens.push(Token::Close),
                _ => {}
            }
            rest = tail.as_str();
        }
        push_word(&mut tokens, rest);
        tokens.push(Token::End);
    }
    tokens
}

fn push_word<'a>(tokens: &mut Vec<Token<'a>>, word: &'a str) {
    if !word.is_empty() {
        tokens.push(Token::Word(word));
    }
}

/// Reads statements up to the end of the text, or of the group when `depth` is not 0.
fn statements<'a>(
    tokens: &mut impl Iterator<Item = Token<'a>>,
    depth: usize,
) -> Result<Vec<Statement>> {
    let mut found = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    loop {
        match tokens.next() {
            Some(Token::Word(word)) => words.push(word),
            Some(Token::End) => found.extend(phase(&mut words)?),
            Some(Token::Open) => {
                let count = repetition(&words)?;
                words.clear();
                ensure!(depth < MAX_DEPTH, "`repeat` nests deeper than {MAX_DEPTH}");
                found.push(Statement::Repeat(count, statements(tokens, depth + 1)?));
            }
            Some(Token::Close) => {
                ensure!(depth > 0, "`}}` without `repeat N {{`");
                found.extend(phase(&mut words)?);
                return Ok(found);
            }
            None => {
                ensure!(depth == 0, "`repeat` without its closing `}}`");
                return Ok(found);
            }
        }
    }
}

fn repetition(words: &[&str]) -> Result<u64> {
    match words {
        ["repeat", count] => {
            count.parse().with_context(|| format!("`repeat {count}`: not a count"))
        }
        _ => bail!("`{{` must follow `repeat N`, not `{}`", words.join(" ")),
    }
}

/// Takes the collected words as one phase, if there are any.
fn phase(words: &mut Vec<&str>) -> Result<Option<Statement>> {
    let mut parts = words.drain(..);
    let Some(name) = parts.next() else { return Ok(None) };
    ensure!(name != "repeat", "`repeat` must be followed by a count and `{{`");
    ensure!(!name.contains('='), "`{name}` stands where the name of a phase belongs");
    let (mut bare, mut pairs) = (Vec::new(), Vec::new());
    for part in parts {
        match part.split_once('=') {
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None => bare.push(part.to_owned()),
        }
    }
    Ok(Some(Statement::Phase { name: name.to_owned(), words: bare, pairs }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(statements: &[Statement]) -> String {
        let print_one = |statement: &Statement| match statement {
            Statement::Phase { name, words, pairs } => {
                let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
                std::iter::once(name.clone())
                    .chain(words.iter().cloned())
                    .chain(pairs)
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Statement::Repeat(count, body) => format!("repeat {count} {{ {} }}", print(body)),
        };
        statements.iter().map(print_one).collect::<Vec<_>>().join("; ")
    }

    fn named(name: &str) -> Statement {
        Statement::Phase { name: name.into(), words: vec![], pairs: vec![] }
    }

    #[test]
    fn separators_comments_and_groups() {
        let text = "touch ;; log-on # why not; really\n repeat 2 {a\nb} c\n\n";
        let expected = vec![
            named("touch"),
            named("log-on"),
            Statement::Repeat(2, vec![named("a"), named("b")]),
            named("c"),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(" ; \n # nothing\n").unwrap(), vec![]);
    }

    #[test]
    fn arguments_keep_their_order() {
        let expected = Statement::Phase {
            name: "touch".into(),
            words: vec!["write".into(), "background".into()],
            pairs: vec![("vm".into(), "1".into()), ("rate".into(), "10".into())],
        };
        assert_eq!(parse("touch write vm=1 background rate=10").unwrap(), vec![expected]);
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            ("repeat 2 { touch", "closing"),
            ("touch }", "without"),
            ("repeat x { }", "not a count"),
            ("touch { }", "must follow"),
            ("repeat 2; touch", "followed by"),
            ("vm=1 touch", "name of a phase"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&"repeat 1 {".repeat(100_000)).is_err());
    }

    fn any_statement() -> impl Strategy<Value = Statement> {
        let name = "[a-z][a-z-]{0,8}".prop_filter("reserved", |name| name != "repeat");
        let words = prop::collection::vec("[a-z0-9%.]{1,6}", 0..3);
        let pairs = prop::collection::vec(("[a-z]{1,6}", "[a-zA-Z0-9%]{0,6}"), 0..3);
        let phase = (name, words, pairs).prop_map(|(name, words, pairs)| Statement::Phase {
            name,
            words,
            pairs,
        });
        phase.prop_recursive(3, 16, 4, |inner| {
            (any::<u64>(), prop::collection::vec(inner, 0..4))
                .prop_map(|(count, body)| Statement::Repeat(count, body))
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(written in prop::collection::vec(any_statement(), 0..6)) {
            prop_assert_eq!(parse(&print(&written)).unwrap(), written);
        }

        #[test]
        fn no_text_panics(text in "[ a-z0-9=;{}#\n]{0,80}") {
            let _ = parse(&text);
        }
    }
}
