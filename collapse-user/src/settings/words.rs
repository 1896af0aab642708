//! Values in words.

use std::time::Duration;

use crate::tui::Column;

/// Values by name.
pub type Words<T> = &'static [(&'static str, T)];

/// A duration, in the greatest unit that tells it exactly.
pub fn duration(value: Duration) -> String {
    nanoseconds(value.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// The same, of ns. What is less than 1 ms falls off.
pub fn nanoseconds(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] =
        [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s")];
    let exact = UNITS.into_iter().find(|(unit, _)| ns.is_multiple_of(*unit));
    exact.map_or(format!("{}ms", ns / 1_000_000), |(unit, name)| format!("{}{name}", ns / unit))
}

/// A name, or `auto`.
pub fn auto<T: Copy + PartialEq>(value: Option<T>, words: Words<T>) -> String {
    let named = value.and_then(|value| words.iter().find(|(_, other)| *other == value));
    named.map_or("auto", |(name, _)| name).to_owned()
}

/// What a name means; `None` for `auto`.
pub fn parse_auto<T: Copy>(text: &str, words: Words<T>) -> Result<Option<T>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let found = words.iter().find(|(name, _)| *name == text);
    let names = || words.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| Some(*value)).ok_or_else(|| format!("expected auto, {}", names()))
}

/// A number of things.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// A part of a whole.
pub fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".to_owned()) }
}

/// A column by its name.
pub fn column(text: &str) -> Result<Column, String> {
    let found = Column::ALL.into_iter().find(|column| column.key() == text);
    found.ok_or_else(|| {
        let near = nearest(text, Column::ALL.iter().map(|column| column.key()));
        format!("no column '{text}'; did you mean '{near}'?")
    })
}

/// Columns, each once.
pub fn columns(text: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in text.split(',').map(str::trim) {
        let column = column(name)?;
        if columns.contains(&column) {
            return Err(format!("column '{name}' is there twice"));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The most similar of some names.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> &'a str {
    names
        .max_by(|a, b| {
            let near = |name| strsim::jaro_winkler(text, name);
            near(a).total_cmp(&near(b))
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::parse_duration;

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_is_written(ms in 1u64..1_000_000_000) {
            let value = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&duration(value)), Ok(value));
        }
    }
}
