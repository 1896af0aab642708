//! Words for people: durations, counts, sizes, shares, VMs, outcomes and grades, worded here alone.
//!
//! Numbers here are for running text; those in [`narrow`] are for columns of a few characters.

pub mod narrow;

use std::{borrow::Cow, fmt::Display};

use collapse_common::abi::Pages;
use collapse_feed::VmProcess;

use crate::{Grade, Outcome};

/// Stands for what is not known.
pub const UNKNOWN: &str = "–";

/// Stands for a VM that changes could not be attributed to.
pub const UNKNOWN_VM: &str = "unknown VM";

/// Stands for the name of a VM whose process is not known.
pub const UNNAMED_VM: &str = "VM of unknown process";

/// A size of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// Key in JSON and lines.
    pub key: &'static str,
    /// Name in narrow columns and after a count.
    pub short: &'static str,
    /// Name in text.
    pub name: &'static str,
    /// Bytes that one leaf maps.
    pub bytes: u64,
}

/// Sizes of mappings at levels 1 to 3.
pub const SIZES: [PageSize; 3] = [
    PageSize { key: "4k", short: "4K", name: "4 KiB", bytes: 4 << 10 },
    PageSize { key: "2m", short: "2M", name: "2 MiB", bytes: 2 << 20 },
    PageSize { key: "1g", short: "1G", name: "1 GiB", bytes: 1 << 30 },
];

/// Memory that is mapped by each size of mapping, bytes. KVM's gauges have been wrong before: whatever
/// they claim, nothing overflows.
pub fn mapped_bytes(pages: Pages) -> [u64; 3] {
    std::array::from_fn(|size| pages[size].saturating_mul(SIZES[size].bytes))
}

/// All memory that is mapped, bytes.
pub fn mapped_sum(pages: Pages) -> u64 {
    mapped_bytes(pages).into_iter().fold(0, u64::saturating_add)
}

/// The part of what is mapped that each size of mapping has; `None` if nothing is mapped.
pub fn mapped_shares(pages: Pages) -> Option<[f64; 3]> {
    let sum = mapped_sum(pages);
    (sum > 0).then(|| mapped_bytes(pages).map(|bytes| bytes as f64 / sum as f64))
}

/// The part of what is mapped that is mapped huge; `None` if nothing is mapped.
pub fn huge_share(pages: Pages) -> Option<f64> {
    let [_, huge, giant] = mapped_bytes(pages);
    let (large, sum) = (huge.saturating_add(giant), mapped_sum(pages));
    (sum > 0).then(|| large as f64 / sum as f64)
}

/// A number, or a dash if it is unknown.
pub fn known(number: Option<impl ToString>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string())
}

/// A number of leaves of one size, given its level from 1 to 3.
pub fn leaves(n: impl Display, level: u32) -> String {
    format!("{n} × {}", SIZES[level as usize - 1].short)
}

/// A duration in ns, in the unit that suits it.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        60_000_000_000..3_600_000_000_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// An estimated duration in ns, with its standard error where there is one. Of one that might as well be
/// nothing, what it is at most: two errors more.
pub fn estimate(ns: u64, error: Option<u64>) -> String {
    match error {
        Some(error) if error.saturating_mul(2) >= ns && error > 0 => {
            format!("up to {}", duration(ns.saturating_add(error.saturating_mul(2))))
        }
        Some(error) if error > 0 => format!("{} ± {}", duration(ns), duration(error)),
        _ => duration(ns),
    }
}

/// An amount of memory in bytes, in the unit that suits it.
pub fn bytes(n: u64) -> String {
    match n {
        0..0x10_0000 => format!("{} KiB", n >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", n >> 20),
        _ => format!("{:.1} GiB", n as f64 / f64::from(1 << 30)),
    }
}

/// A ratio in percent. Never rounds up to a whole that is not.
pub fn percent(ratio: f64) -> String {
    format!("{:.1} %", (ratio * 1000.0).floor() / 10.0)
}

/// The name of a VM.
pub fn vm_name(process: Option<&VmProcess>) -> &str {
    process.map_or(UNNAMED_VM, |process| &process.name.text)
}

/// The name of a VM and its process id, as far as they are known.
pub fn vm_label(name: Option<&str>, pid: Option<u32>) -> String {
    let name = name.unwrap_or(UNNAMED_VM);
    pid.map_or_else(|| name.to_owned(), |pid| format!("{name} (pid {pid})"))
}

/// A vCPU by its number, if known.
pub fn vcpu(number: Option<u32>) -> String {
    number.map_or_else(|| "a vCPU".to_owned(), |number| format!("vCPU {number}"))
}

/// The outcome of an episode.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "running",
        Outcome::NothingLost => "nothing lost",
        Outcome::Unknown => "unknown",
        Outcome::Recovered => "recovered",
        Outcome::Partly => "recovered in part, the rest stayed small",
        Outcome::NotRecovered => "NOT recovered",
        Outcome::Untouched => "not touched since",
        Outcome::Gone => "taken away before they could come back",
        Outcome::RecoveredTouched => "recovered where touched",
    }
}

/// The grade of a comparison with KVM's gauges.
pub fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Unknown => "no gauges to compare with",
        Grade::Exact => "exact",
        Grade::Moving => "moving, not judged",
        Grade::Off => "OFF",
    }
}

/// A phrase with a capital letter at its beginning, unless its first word is a name such as vCPU.
pub fn capitalized(phrase: &str) -> Cow<'_, str> {
    let mut chars = phrase.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
            first.to_uppercase().chain(chars).collect::<String>().into()
        }
        _ => phrase.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_units() {
        let durations =
            [950, 1_500, 23_800_000, 59_900_000_000, 133_000_000_000, 7_260_000_000_000];
        let words = ["950 ns", "1.5 µs", "23.8 ms", "59.9 s", "2 min 13 s", "2 h 01 min"];
        assert_eq!(durations.map(duration), words);
        assert_eq!([4096, 64 << 20, 1536 << 20].map(bytes), ["4 KiB", "64 MiB", "1.5 GiB"]);
        let estimates = [
            (170_000_000, Some(12_000_000)),
            (734_000_000, Some(808_500_000)),
            (7_000, Some(0)),
            (7_000, None),
        ];
        let estimates = estimates.map(|(ns, error)| estimate(ns, error));
        assert_eq!(estimates, ["170.0 ms ± 12.0 ms", "up to 2.4 s", "7.0 µs", "7.0 µs"]);
        assert_eq!([1.0, 0.9999].map(percent), ["100.0 %", "99.9 %"]);
        assert_eq!((leaves(30, 2), known(None::<u64>)), ("30 × 2M".to_owned(), "–".to_owned()));
    }

    #[test]
    fn vms_are_named_as_far_as_they_are_known() {
        assert_eq!(vm_label(Some("db"), Some(7)), "db (pid 7)");
        assert_eq!(vm_label(None, None), UNNAMED_VM);
        assert_eq!(vm_name(None), UNNAMED_VM);
    }

    #[test]
    fn names_keep_their_case() {
        assert_eq!(capitalized("guest faults"), "Guest faults");
        assert_eq!(capitalized("vCPU time"), "vCPU time");
        assert_eq!(capitalized("4 KiB leaves"), "4 KiB leaves");
    }
}
