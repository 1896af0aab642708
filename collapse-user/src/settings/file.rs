//! The settings file: finding and reading it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Settings,
    table::{Kind, SETTINGS, Setting},
    values::nearest,
};

/// Path in a folder of settings.
const PLACE: &str = "collapse/config.toml";

/// Finds the first file that exists: the user's, then the machine's, by the XDG base directory rules.
pub fn find(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty());
    let own = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")));
    let shared = set("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
    let shared: Vec<_> = std::env::split_paths(&shared).collect();
    // The rules say to ignore relative paths.
    let folders = own.into_iter().chain(shared).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(PLACE)).find(|path| path.exists())
}

/// Reads a file; what it sets replaces what `settings` has.
pub fn read(path: &Path, settings: &mut Settings) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    apply(&text, settings).with_context(|| path.display().to_string())
}

/// Applies the text of a file.
pub fn apply(text: &str, settings: &mut Settings) -> Result<()> {
    let line = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            bail!("line {}: {}", line(at), error.message())
        }
    };
    table_into(table.get_ref(), "", &line, settings)
}

fn table_into(
    table: &DeTable,
    section: &str,
    line: &dyn Fn(usize) -> usize,
    settings: &mut Settings,
) -> Result<()> {
    for (key, value) in table {
        let name = format!("{section}{}", key.get_ref());
        let at = line(key.span().start);
        let found = SETTINGS.iter().find(|setting| setting.key == name);
        match (found, value.get_ref()) {
            (Some(setting), value) => {
                let text = written(setting, value)
                    .with_context(|| format!("line {at}: {name}: expected {}", wanted(setting)))?;
                (setting.set)(settings, &text)
                    .map_err(|error| anyhow::anyhow!("line {at}: {name}: {error}"))?;
            }
            (None, DeValue::Table(inner)) if is_section(&name) => {
                table_into(inner, &format!("{name}."), line, settings)?;
            }
            (None, _) => {
                let near = nearest(&name, SETTINGS.iter().map(|setting| setting.key));
                bail!("line {at}: there is no setting '{name}'; did you mean '{near}'?")
            }
        }
    }
    Ok(())
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.split_once('.').is_some_and(|(of, _)| of == name))
}

fn wanted(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Text => "a string",
        Kind::Number => "a number",
        Kind::Bool => "true or false",
        Kind::List => "an array of strings",
    }
}

/// A value in the form of a flag's; `None` if it has another type.
fn written(setting: &Setting, value: &DeValue) -> Option<String> {
    Some(match (setting.kind, value) {
        (Kind::Text, DeValue::String(text)) => text.clone().into_owned(),
        (Kind::Number, DeValue::Integer(number)) => number.to_string(),
        (Kind::Number, DeValue::Float(number)) => number.to_string(),
        (Kind::Bool, DeValue::Boolean(value)) => value.to_string(),
        (Kind::List, DeValue::Array(values)) => {
            let text = |value: &Spanned<DeValue>| value.get_ref().as_str().map(str::to_owned);
            values.iter().map(text).collect::<Option<Vec<_>>>()?.join(",")
        }
        _ => return None,
    })
}
