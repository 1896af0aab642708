//! `collapse record`

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, builder::PossibleValuesParser};
use collapse_common::Selection;

use super::{ready::ReadyArgs, stacks::StackArgs};
use crate::{
    exit::{Exit, Failure},
    findings,
    settings::{
        ThresholdFlags,
        values::{parse_duration, parse_size},
    },
    source::recording::SizeLimits,
    watch::{Attached, NewRecording, Pipeline, Session, Setup, Trigger, Wanted, Window},
};

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// File to record to
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Time to record, such as 10s, 500ms or 2m
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Stop before the file is larger than this, such as 500k, 64M or 1G. With --keep-last, keep less
    /// instead
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Keep only the last part: at least this much, at most twice as much
    ///
    /// The older half is in FILE.old until the end. If the recorder is killed, `cat FILE.old FILE` is
    /// the recording.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    keep_last: Option<Duration>,
    /// With --keep-last: record until one of these findings appears, and stop soon after
    #[arg(long, value_name = "FINDING", value_delimiter = ',', requires = "keep_last",
        value_parser = PossibleValuesParser::new(findings::names()))]
    trigger: Vec<String>,
    /// Time to go on after --trigger
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    trigger_after: Duration,
    #[command(flatten)]
    thresholds: ThresholdFlags,
    /// Record every change with its time and its SPTE before and after, rather than runs of changes.
    /// Costs more: a ring record per change, and some 16 bytes in the file
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    stacks: StackArgs,
    #[command(flatten)]
    ready: ReadyArgs,
    /// Command to run and record
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: RecordArgs, setup: Setup) -> Result<Exit, Failure> {
    let readiness = args.ready.readiness(!args.command.is_empty())?;
    let RecordArgs { output, duration, max_size, keep_last, each, command, .. } = args;
    let selection = args.stacks.of(Selection { each: each.into(), ..Selection::DEFAULT });
    let thresholds = args.thresholds.load()?;
    let trigger =
        (!args.trigger.is_empty()).then(|| Trigger::new(args.trigger, args.trigger_after));
    let recording = NewRecording::create(output, SizeLimits { max_size, keep_last }, trigger)?;
    let attached = Attached::new(&Wanted { setup, selection, rows: None })?;
    let tap = recording.begin((&attached.host).into(), attached.coverage())?;
    let mut session = Session::start(attached, Pipeline::tapped(tap).diagnosing(thresholds));
    let replaces_files = keep_last.is_some();
    Window { duration, command: &command, keeps_stdout: true, replaces_files }
        .run(&mut session, readiness)
}
