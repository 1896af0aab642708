//! Every setting, declared once: for the file, for the flags, and for what is printed.

use super::{
    Mouse, Settings,
    values::{self, Words, parse_count, parse_duration, parse_share},
};
use crate::tui::{Background, Depth};

/// How a value is written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A number.
    Number,
    /// true or false.
    Bool,
    /// An array of strings; separated by commas elsewhere.
    List,
}

/// A setting.
pub struct Setting {
    /// Key in the file, with the section before it.
    pub key: &'static str,
    /// Letter of the short flag.
    pub short: Option<char>,
    /// Form of a value, for the help.
    pub value: &'static str,
    /// How a value is written in the file.
    pub kind: Kind,
    /// Description, for the help and the printed file.
    pub help: &'static str,
    /// Writes the value.
    pub get: fn(&Settings) -> String,
    /// Parses and sets the value, or returns what is wrong with it.
    pub set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
    /// The long flag: the key with dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The value if nothing sets it.
    pub fn default(&self) -> String {
        (self.get)(&Settings::default())
    }
}

const PALETTES: Words<Depth> =
    &[("none", Depth::None), ("16", Depth::Ansi16), ("256", Depth::Ansi256), ("true", Depth::True)];
const BACKGROUNDS: Words<Background> = &[("dark", Background::Dark), ("light", Background::Light)];
const GLYPHS: Words<bool> = &[("unicode", false), ("ascii", true)];

macro_rules! duration {
    ($($path:ident).+) => {
        (
            |settings| values::duration(settings.$($path).+),
            |settings, text| parse_duration(text).map(|value| settings.$($path).+ = value),
        )
    };
}

macro_rules! threshold_ns {
    ($name:ident) => {
        (
            |settings| values::nanoseconds(settings.options.thresholds.$name),
            |settings, text| {
                let value = parse_duration(text)?.as_nanos();
                settings.options.thresholds.$name = value.try_into().unwrap_or(u64::MAX);
                Ok(())
            },
        )
    };
}

macro_rules! threshold {
    ($name:ident, $parse:path) => {
        (
            |settings| settings.options.thresholds.$name.to_string(),
            |settings, text| $parse(text).map(|n| settings.options.thresholds.$name = n),
        )
    };
}

macro_rules! auto {
    ($name:ident, $words:expr) => {
        (
            |settings| values::auto(settings.$name, $words),
            |settings, text| values::parse_auto(text, $words).map(|value| settings.$name = value),
        )
    };
}

type Access = (fn(&Settings) -> String, fn(&mut Settings, &str) -> Result<(), String>);

const fn setting(
    key: &'static str,
    value: &'static str,
    kind: Kind,
    help: &'static str,
    (get, set): Access,
) -> Setting {
    Setting { key, short: None, value, kind, help, get, set }
}

/// Every setting, in the order of the file; those of a section follow each other.
pub const SETTINGS: &[Setting] = &[
    Setting {
        short: Some('i'),
        ..setting(
            "interval",
            "DURATION",
            Kind::Text,
            "Time between refreshes, such as 1s or 500ms.",
            duration!(options.interval),
        )
    },
    setting(
        "history",
        "DURATION|auto",
        Kind::Text,
        "How much history to keep. auto keeps what there is room for: at one refresh a second, three \
         days, of which the last eight minutes are kept second by second.",
        (
            |settings| settings.history.map_or("auto".to_owned(), values::duration),
            |settings, text| {
                settings.history = if text == "auto" { None } else { Some(parse_duration(text)?) };
                Ok(())
            },
        ),
    ),
    setting(
        "window",
        "DURATION",
        Kind::Text,
        "Time that charts span at first.",
        duration!(options.window),
    ),
    setting(
        "palette",
        "auto|none|16|256|true",
        Kind::Text,
        "Number of colours. auto follows TERM, COLORTERM and NO_COLOR.",
        auto!(palette, PALETTES),
    ),
    setting(
        "background",
        "auto|dark|light",
        Kind::Text,
        "Background of the terminal. auto follows COLORFGBG, and is dark without it.",
        auto!(background, BACKGROUNDS),
    ),
    setting(
        "glyphs",
        "auto|unicode|ascii",
        Kind::Text,
        "Characters to draw with. auto follows the locale.",
        auto!(ascii, GLYPHS),
    ),
    setting(
        "mouse",
        "true|false",
        Kind::Bool,
        "Send clicks and the wheel to the dashboard. Most terminals then select text while Shift is \
         held.",
        (
            |settings| settings.mouse.0.to_string(),
            |settings, text| {
                settings.mouse = Mouse(text.parse().map_err(|_| "expected true or false")?);
                Ok(())
            },
        ),
    ),
    setting(
        "columns",
        "NAME,...",
        Kind::List,
        "Columns of the overview, in this order. Columns that do not fit are left out.",
        (
            |settings| {
                settings
                    .options
                    .columns
                    .iter()
                    .map(|column| column.key())
                    .collect::<Vec<_>>()
                    .join(",")
            },
            |settings, text| {
                values::parse_columns(text).map(|columns| settings.options.columns = columns)
            },
        ),
    ),
    setting(
        "sort",
        "NAME",
        Kind::Text,
        "Column that VMs are sorted by at first.",
        (
            |settings| settings.options.sort.key().to_owned(),
            |settings, text| {
                values::parse_column(text).map(|column| settings.options.sort = column)
            },
        ),
    ),
    setting(
        "threshold.logging",
        "DURATION",
        Kind::Text,
        "dirty_logging_on_for_long: report dirty logging that is on for longer than this.",
        threshold_ns!(logging_ns),
    ),
    setting(
        "threshold.small",
        "DURATION",
        Kind::Text,
        "regions_stuck_small, and the state 'stuck': report regions that are still mapped small this \
         long after dirty logging went off.",
        threshold_ns!(small_ns),
    ),
    setting(
        "threshold.least",
        "COUNT",
        Kind::Number,
        "Leave out findings of fewer regions than this.",
        threshold!(least, parse_count),
    ),
    setting(
        "threshold.raced",
        "COUNT",
        Kind::Number,
        "collapse_raced: report when this many small SPTEs are installed while the collapse routine \
         runs.",
        threshold!(raced, parse_count),
    ),
    setting(
        "threshold.read_only",
        "SHARE",
        Kind::Number,
        "recovered_read_only: report when this share of recovered regions comes back write-protected.",
        threshold!(read_only_share, parse_share),
    ),
    setting(
        "threshold.hugetlb",
        "SHARE",
        Kind::Number,
        "hugetlb_mapped_small: report when this share of hugetlb memory is mapped by 4 KiB SPTEs.",
        threshold!(hugetlb_share, parse_share),
    ),
    setting(
        "threshold.never_huge",
        "SHARE",
        Kind::Number,
        "never_huge: report when this share of mapped memory is mapped by 4 KiB SPTEs and was not huge while watched.",
        threshold!(never_huge_share, parse_share),
    ),
    setting(
        "threshold.thrash",
        "COUNT",
        Kind::Number,
        "host_thrashes, numa_balancing: report when the host took regions that many times for at least the third \
         time, and the guest faulted them back.",
        threshold!(thrash, parse_count),
    ),
    setting(
        "threshold.churn",
        "COUNT",
        Kind::Number,
        "memslot_churn: report when this many memslots are deleted or moved.",
        threshold!(churn, parse_count),
    ),
    setting(
        "threshold.periodic",
        "COUNT",
        Kind::Number,
        "logged_periodically: report when dirty logging goes on this many times.",
        threshold!(periodic, parse_count),
    ),
    setting(
        "threshold.stuck",
        "DURATION",
        Kind::Text,
        "vcpu_without_progress: report a vCPU that takes faults at one page for so long, none of which KVM resolves. \
         From 10ms on it is noticed.",
        threshold_ns!(stuck_ns),
    ),
    setting(
        "threshold.taken",
        "COUNT",
        Kind::Number,
        "host_reclaims, host_migrates: report when this many regions lost their huge page to reclaim, or as the memory \
         behind was moved.",
        threshold!(taken, parse_count),
    ),
    setting(
        "threshold.lock",
        "DURATION",
        Kind::Text,
        "lock_contended: report when a guest fault waits for mmu_lock this long.",
        threshold_ns!(lock_ns),
    ),
    setting(
        "threshold.retried",
        "COUNT",
        Kind::Number,
        "faults_retried: report when nothing came of this many guest faults, and of the share of all that \
         threshold.retried_share sets.",
        threshold!(retried, parse_count),
    ),
    setting(
        "threshold.retried_share",
        "SHARE",
        Kind::Number,
        "faults_retried: report when nothing came of this share of all guest faults.",
        threshold!(retried_share, parse_share),
    ),
    setting(
        "threshold.dirty_log",
        "DURATION",
        Kind::Text,
        "slow_dirty_log: report when a call that reads, clears or resets the log of dirty pages takes this long.",
        threshold_ns!(dirty_log_ns),
    ),
];
