//! Every setting, declared once: for the file, for the flags, and for what is printed.

use super::{
    Mouse, Settings,
    words::{self, Words},
};
use crate::{
    cli::parse_duration,
    tui::{Background, Column, Depth},
};

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
    /// Its key in the file, after the section that it is in.
    pub key: &'static str,
    /// The letter of its flag.
    pub short: Option<char>,
    /// What a value looks like.
    pub value: &'static str,
    /// How a value is written in the file.
    pub kind: Kind,
    /// What it does.
    pub help: &'static str,
    /// Its value.
    pub get: fn(&Settings) -> String,
    /// Sets its value, or tells what is wrong with it.
    pub set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
    /// Its long flag: its key with dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// Its value unless set.
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
            |settings| words::duration(settings.$($path).+),
            |settings, text| parse_duration(text).map(|value| settings.$($path).+ = value),
        )
    };
}

macro_rules! threshold_ns {
    ($name:ident) => {
        (
            |settings| words::nanoseconds(settings.options.thresholds.$name),
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
            |settings| words::auto(settings.$name, $words),
            |settings, text| words::parse_auto(text, $words).map(|value| settings.$name = value),
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

/// All, in the order of the file; keys of a section follow each other.
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
        "How far back one can scroll. auto keeps what there is room for: at one refresh a second, \
         three days, of which the last eight minutes second by second.",
        (
            |settings| settings.history.map_or("auto".to_owned(), words::duration),
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
        "Length of the time that charts show at first.",
        duration!(options.window),
    ),
    setting(
        "palette",
        "auto|none|16|256|true",
        Kind::Text,
        "Colours. auto follows TERM, COLORTERM and NO_COLOR.",
        auto!(palette, PALETTES),
    ),
    setting(
        "background",
        "auto|dark|light",
        Kind::Text,
        "The terminal's background. auto follows COLORFGBG, and is dark without it.",
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
        "Whether clicks and the wheel go to the dashboard. Where they do, most terminals select text \
         while Shift is held.",
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
        "Columns of the overview, in that order: vm, pid, state, mapped, splits, zaps, recoveries, \
         recovered, faults, vcpu. What does not fit is left out.",
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
            |settings, text| words::columns(text).map(|columns| settings.options.columns = columns),
        ),
    ),
    setting(
        "sort",
        "NAME",
        Kind::Text,
        "The column that VMs are sorted by at first.",
        (
            |settings| settings.options.sort.key().to_owned(),
            |settings, text| {
                words::column(text).map(|column: Column| settings.options.sort = column)
            },
        ),
    ),
    setting(
        "threshold.logging",
        "DURATION",
        Kind::Text,
        "dirty_logging_on_for_long: dirty logging is on for longer.",
        threshold_ns!(logging_ns),
    ),
    setting(
        "threshold.small",
        "DURATION",
        Kind::Text,
        "regions_stuck_small, and the state 'stuck': regions are mapped small for so long after \
         dirty logging went off.",
        threshold_ns!(small_ns),
    ),
    setting(
        "threshold.least",
        "COUNT",
        Kind::Number,
        "Findings of fewer regions are not worth a look.",
        threshold!(least, words::count),
    ),
    setting(
        "threshold.raced",
        "COUNT",
        Kind::Number,
        "collapse_raced: so many small SPTEs were installed while the collapse routine ran.",
        threshold!(raced, words::count),
    ),
    setting(
        "threshold.read_only",
        "SHARE",
        Kind::Number,
        "recovered_read_only: such a part of recovered regions came back write-protected.",
        threshold!(read_only_share, words::share),
    ),
    setting(
        "threshold.hugetlb",
        "SHARE",
        Kind::Number,
        "hugetlb_mapped_small: such a part of hugetlb memory is mapped by 4 KiB SPTEs.",
        threshold!(hugetlb_share, words::share),
    ),
];
