//! Values as users write them: durations, sizes, shares, words.

use std::time::Duration;

use crate::tui::Column;

/// Values by name.
pub type Words<T> = &'static [(&'static str, T)];

/// Units of time, ns, from the greatest to the least.
const TIMES: [(u64, &str); 4] =
    [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms")];

/// Parses a duration longer than 0: a number with a unit, `ms`, `s` (or none), `m` or `h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = if unit.is_empty() { "s" } else { unit };
    let (ns, _) = TIMES
        .into_iter()
        .find(|(_, name)| *name == unit)
        .ok_or_else(|| format!("unknown unit '{unit}': use ms, s, m or h"))?;
    let number: f64 = number.parse().map_err(|_| "expected a number such as 10s".to_owned())?;
    let seconds = number * (ns as f64 / 1e9);
    let duration = Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())?;
    if duration.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(duration) }
}

/// Writes a duration in the greatest unit that is exact. Less than 1 ms is cut off.
pub fn duration(value: Duration) -> String {
    nanoseconds(value.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// Writes a number of ns as [`duration`] does.
pub fn nanoseconds(ns: u64) -> String {
    let (unit, name) = TIMES
        .into_iter()
        .find(|(unit, _)| ns.is_multiple_of(*unit))
        .unwrap_or(TIMES[TIMES.len() - 1]);
    format!("{}{name}", ns / unit)
}

/// Parses a number of bytes greater than 0, with a unit: `k`, `M`, `G` (powers of 1024), or none.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err(format!("unknown unit '{unit}': use k, M or G")),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number such as 64M".to_owned())?;
    number.checked_mul(scale).filter(|size| *size > 0).ok_or_else(|| "out of range".to_owned())
}

/// Parses the size of a ring buffer, bytes: the kernel wants a power of two, and whole pages.
pub fn parse_ring_size(text: &str) -> Result<u32, String> {
    let size = parse_size(text)?;
    let size = u32::try_from(size).ok().filter(|size| (1 << 12..=1 << 30).contains(size));
    size.filter(|size| size.is_power_of_two())
        .ok_or_else(|| "expected a power of two from 4k to 1G".to_owned())
}

/// Parses a share of at least 0 that is given in percent, with or without a `%`.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent / 100.0),
        _ => Err("expected a percentage such as 10%".to_owned()),
    }
}

/// Parses a share from 0 to 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".to_owned()) }
}

/// Parses a whole number.
pub fn parse_count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// Parses a word; `None` for `auto`.
pub fn parse_auto<T: Copy>(text: &str, words: Words<T>) -> Result<Option<T>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let found = words.iter().find(|(name, _)| *name == text);
    let names = || words.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| Some(*value)).ok_or_else(|| format!("expected auto, {}", names()))
}

/// Writes a word; `auto` for `None`.
pub fn auto<T: Copy + PartialEq>(value: Option<T>, words: Words<T>) -> String {
    let named = value.and_then(|value| words.iter().find(|(_, other)| *other == value));
    named.map_or("auto", |(name, _)| name).to_owned()
}

/// Parses the name of a column.
pub fn parse_column(text: &str) -> Result<Column, String> {
    let found = Column::all().into_iter().find(|column| column.key() == text);
    found.ok_or_else(|| {
        let near = nearest(text, Column::all().iter().map(|column| column.key()));
        format!("no column '{text}'; did you mean '{near}'?")
    })
}

/// Parses names of columns with commas between them, each at most once.
pub fn parse_columns(text: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in text.split(',').map(str::trim) {
        let column = parse_column(name)?;
        if columns.contains(&column) {
            return Err(format!("column '{name}' is given twice"));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The name that is most similar to a text.
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

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_is_written(ms in 1u64..1_000_000_000) {
            let value = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&duration(value)), Ok(value));
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for wrong in ["", "2 weeks", "0", "1e400s", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(nanoseconds(1_999_999), "1ms");
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("500"), Ok(500));
        for wrong in ["0", "M", "9T", "99999999999G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        let rings = ["4k", "16M", "1G"].map(parse_ring_size);
        assert_eq!(rings, [Ok(1 << 12), Ok(1 << 24), Ok(1 << 30)]);
        for wrong in ["", "0", "2k", "3M", "2G", "4 apples"] {
            assert!(parse_ring_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(parse_percent("10%"), Ok(0.1));
        assert_eq!(parse_percent("5"), Ok(0.05));
        for wrong in ["", "ten", "-1%", "inf", "nan"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
