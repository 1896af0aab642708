//! Settings: defaults, overridden by the file, overridden by flags.

mod file;
mod print;
mod table;
#[cfg(test)]
mod tests;
pub mod values;

use std::{env, path::PathBuf, time::Duration};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    findings::Thresholds,
    tui::{Background, DashboardOptions, Depth, Theme},
};
pub use print::file_text;
use table::{SETTINGS, Setting};

/// Every setting of the dashboard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Options of the views at the start.
    pub options: DashboardOptions,
    /// How long history is kept; `None` for as long as there is room.
    pub history: Option<Duration>,
    /// Number of colours; `None` to follow the environment.
    pub palette: Option<Depth>,
    /// Background of the terminal; `None` to follow the environment.
    pub background: Option<Background>,
    /// Whether to use ASCII only; `None` to follow the locale.
    pub ascii: Option<bool>,
    /// Whether the dashboard takes the mouse.
    pub mouse: Mouse,
}

/// Whether the dashboard takes the mouse, as it does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mouse(pub bool);

impl Default for Mouse {
    fn default() -> Self {
        Self(true)
    }
}

impl Settings {
    /// The defaults, overridden by the user's file, overridden by flags.
    pub fn load(flags: &Flags) -> Result<Self, Failure> {
        let mut settings = Self::default();
        if let Some(path) = Self::path() {
            log::info!("settings are read from {}", path.display());
            file::read(&path, &mut settings).or_exit(Exit::Usage)?;
        }
        flags.apply(&mut settings).map_err(anyhow::Error::msg).or_exit(Exit::Usage)?;
        Ok(settings)
    }

    /// The file that settings are read from, if there is one.
    pub fn path() -> Option<PathBuf> {
        file::find(|name| env::var_os(name))
    }

    /// The theme that was set; where none was, the one that suits the terminal by the environment.
    pub fn theme(&self) -> Theme {
        let found = Theme::detect(|name| env::var(name).ok());
        Theme {
            depth: self.palette.unwrap_or(found.depth),
            background: self.background.unwrap_or(found.background),
            ascii: self.ascii.unwrap_or(found.ascii),
        }
    }
}

/// A flag for each setting.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The flags that are given: place in the table, and value.
    given: Vec<(usize, String)>,
}

impl Flags {
    /// Whether no flag is given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    fn apply(&self, settings: &mut Settings) -> Result<(), String> {
        for (place, value) in &self.given {
            let setting = &SETTINGS[*place];
            (setting.set)(settings, value)
                .map_err(|error| format!("--{} {value}: {error}", setting.flag()))?;
        }
        Ok(())
    }
}

impl Flags {
    /// The flags among `matches`, which may have been made from some of the settings only.
    fn of(matches: &ArgMatches) -> Self {
        let value = |setting: &Setting| matches.try_get_one::<String>(setting.key).ok().flatten();
        let given = SETTINGS.iter().enumerate();
        let given = given.filter_map(|(place, setting)| Some((place, value(setting)?.clone())));
        Self { given: given.collect() }
    }

    /// Adds a flag for each setting that `pick` takes.
    fn augment(command: Command, pick: fn(&Setting) -> bool) -> Command {
        SETTINGS.iter().filter(|setting| pick(setting)).fold(command, |command, setting| {
            let help = setting.help.trim_end_matches('.');
            let help = format!("{help} [default: {}]", setting.default());
            let arg = Arg::new(setting.key)
                .long(setting.flag())
                .value_name(setting.value)
                .help(help)
                .help_heading("Settings")
                .value_parser(|text: &str| Ok::<_, String>(text.to_owned()));
            command.arg(match setting.short {
                Some(short) => arg.short(short),
                None => arg,
            })
        })
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::of(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.extend(Self::of(matches).given);
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        Self::augment(command, |_| true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A flag for each setting that says from where on something is a finding.
#[derive(Clone, Debug, Default)]
pub struct ThresholdFlags(Flags);

impl ThresholdFlags {
    /// The thresholds by the defaults, overridden by the user's file, overridden by flags.
    pub fn load(&self) -> Result<Thresholds, Failure> {
        Ok(Settings::load(&self.0)?.options.thresholds)
    }
}

impl FromArgMatches for ThresholdFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Flags::of(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for ThresholdFlags {
    fn augment_args(command: Command) -> Command {
        Flags::augment(command, |setting| setting.key.starts_with("threshold."))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
