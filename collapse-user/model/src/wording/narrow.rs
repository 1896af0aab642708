//! Numbers in narrow columns.

use super::UNKNOWN;
use crate::Outcome;

/// A number of things, in at most five columns.
pub fn count(n: u64) -> String {
    scaled(n as f64, 1_000.0, ["", "k", "M", "G", "T", "P", "E"], 10_000.0)
}

/// Things per second, in at most five columns.
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        // Never rounds something to nothing.
        return format!("{:.1}", per_second.max(0.1));
    }
    count(per_second.max(0.0).round() as u64)
}

/// An amount of memory, in at most five columns.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1_024.0, ["B", "K", "M", "G", "T", "P", "E"], 1_000.0)
}

/// A duration, in at most seven columns.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.1}µs", floor(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{:.1}ms", floor(ns as f64 / 1e6)),
        1_000_000_000..60_000_000_000 => format!("{:.1}s", floor(ns as f64 / 1e9)),
        60_000_000_000..3_600_000_000_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600_000_000_000..360_000_000_000_000 => {
            format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60)
        }
        360_000_000_000_000..8_640_000_000_000_000 => {
            format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24)
        }
        _ => format!("{}d", seconds / 86_400),
    }
}

/// An estimated duration with its standard error, in at most fifteen columns. Of one that might as well be
/// nothing, what it is at most.
pub fn estimate(ns: u64, error: Option<u64>) -> String {
    match error.filter(|error| *error > 0) {
        None => duration(ns),
        Some(error) if error.saturating_mul(2) >= ns => {
            format!("≤{}", duration(ns.saturating_add(error.saturating_mul(2))))
        }
        Some(error) => format!("{}±{}", duration(ns), duration(error)),
    }
}

/// A part of a whole. Never rounds up to a whole that is not.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return UNKNOWN.to_owned();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    if percent > 0.0 && percent < 0.1 {
        return "<.1%".to_owned();
    }
    if percent >= 10.0 { format!("{:.0}%", percent.floor()) } else { format!("{percent:.1}%") }
}

/// The vCPU time per second of time, as a part of one vCPU.
pub fn busy(ns_per_second: f64) -> String {
    let percent = ns_per_second / 1e7;
    match percent {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 0.1 => "<.1%".to_owned(),
        p if p < 10.0 => format!("{p:.1}%"),
        p => format!("{}%", count(p as u64)),
    }
}

/// A value as `shown` puts it, or a dash if it is not known.
pub fn known<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), shown)
}

/// The outcome of an episode, in at most 13 columns.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "running",
        Outcome::NothingLost => "nothing lost",
        Outcome::Unknown => "unknown",
        Outcome::Recovered => "recovered",
        Outcome::Partly => "partly small",
        Outcome::NotRecovered => "NOT recovered",
        Outcome::Untouched => "not touched",
        Outcome::Gone => "taken away",
        Outcome::RecoveredTouched => "all touched",
    }
}

fn scaled(n: f64, base: f64, units: [&str; 7], plain: f64) -> String {
    if n < plain {
        return format!("{n:.0}{}", units[0]);
    }
    let (mut n, mut unit) = (n, 0);
    while n >= base && unit < units.len() - 1 {
        (n, unit) = (n / base, unit + 1);
    }
    let digits = if n < 10.0 {
        100.0
    } else if n < 100.0 {
        10.0
    } else {
        1.0
    };
    format!("{}{}", (n * digits).floor() / digits, units[unit])
}

/// One digit after the point, rounded down.
fn floor(n: f64) -> f64 {
    (n * 10.0).floor() / 10.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 9_999, 12_345, 999_999, 1_250_000].map(count);
        assert_eq!(counts, ["0", "9999", "12.3k", "999k", "1.25M"]);
        assert_eq!([0.0, 0.01, 3.25, 10.4].map(rate), ["0", "0.1", "3.2", "10"]);
        assert_eq!([0, 4096, 64 << 20, 12_900 << 20].map(bytes), ["0B", "4K", "64M", "12.5G"]);
        let durations = [950, 1_500, 23_800_000, 59_990_000_000, 133_000_000_000].map(duration);
        assert_eq!(durations, ["950ns", "1.5µs", "23.8ms", "59.9s", "2m13s"]);
        assert_eq!([share(32, 32), share(999, 1000), share(1, 0)], ["100%", "99%", "–"]);
        assert_eq!([0.0, 1e5, 5e7, 1.5e9].map(busy), ["0%", "<.1%", "5.0%", "150%"]);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_promised(n: u64) {
            let width = |text: String| text.chars().count();
            prop_assert!(width(count(n)) <= 5 && width(bytes(n)) <= 5);
            prop_assert!(width(duration(n)) <= 7, "{}", duration(n));
            prop_assert!(width(rate(n as f64)) <= 5);
        }
    }
}
