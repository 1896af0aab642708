//! `collapse live`

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::ready::ReadyArgs;
use crate::{
    exit::{Exit, Failure},
    live::{self, Beginning},
    settings::{Flags, Settings, values::parse_duration},
    watch::Setup,
};

#[derive(Debug, Default, Args)]
pub(super) struct LiveArgs {
    #[command(flatten)]
    settings: Flags,
    /// Text for the first line [default: the machine's name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Play a recording instead of watching; needs neither root nor KVM
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Start this far into the recording, such as 90s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "from")]
    at: Option<Duration>,
    /// Start paused
    #[arg(long, requires = "from")]
    paused: bool,
    #[command(flatten)]
    ready: ReadyArgs,
}

impl LiveArgs {
    /// Whether no option is given.
    pub(super) fn is_empty(&self) -> bool {
        let Self { settings, title, from, at: _, paused: _, ready } = self;
        settings.is_empty() && title.is_none() && from.is_none() && *ready == ReadyArgs::default()
    }
}

pub(super) fn run(args: &LiveArgs, setup: Setup) -> Result<Exit, Failure> {
    let readiness = args.ready.readiness(false)?;
    let settings = Settings::load(&args.settings)?;
    let title = args.title.as_deref();
    let Some(path) = &args.from else { return live::show(title, &settings, setup, readiness) };
    let beginning = Beginning { at: args.at.unwrap_or_default(), paused: args.paused };
    live::play(path, title, beginning, &settings)
}
