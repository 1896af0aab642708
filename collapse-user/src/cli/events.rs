//! `collapse events`

use std::{ffi::OsString, path::PathBuf, rc::Rc, time::Duration};

use anyhow::Context as _;
use clap::{Args, builder::PossibleValuesParser};
use collapse_common::Cause;

use super::{ready::ReadyArgs, stacks::StackArgs};
use crate::{
    events::{EventFilter, EventWriter, LineFormat, RegionSample, kinds},
    exit::{Exit, Failure, OrExit as _},
    kernel::Machine,
    output::{Output, cannot_write},
    plan::Coverage,
    report::VmSelect,
    settings::{ThresholdFlags, values::parse_duration},
    source::{live::RowFilter, recording::Clocks},
    watch::{Attached, Pipeline, Session, Setup, Wanted, Window, replay},
};

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Only events of these VMs: process id, name (with * and ?) or debugfs name (TID-FD). Can be
    /// repeated
    #[arg(long, value_name = "VM")]
    vm: Vec<VmSelect>,
    /// Only events of these kinds
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(kinds()))]
    kind: Vec<String>,
    /// Only changes with these causes
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(causes()))]
    cause: Vec<String>,
    /// Only events of the slot with this id
    #[arg(long, value_name = "N")]
    slot: Option<u16>,
    /// Only changes in one region of N, always the same regions
    #[arg(long, value_name = "1/N", value_parser = parse_sample)]
    sample: Option<RegionSample>,
    /// Print every change with its time and its SPTE before and after, rather than runs of changes
    ///
    /// Costs more: a time stamp and a ring record per change.
    #[arg(long, conflicts_with = "from")]
    each: bool,
    /// Show addresses of the host: SPTEs with the host frames that they point to
    #[arg(long)]
    addresses: bool,
    #[command(flatten)]
    thresholds: ThresholdFlags,
    #[command(flatten)]
    stacks: StackArgs,
    #[command(flatten)]
    ready: ReadyArgs,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// File to write ('-' for stdout) [default: -]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Time to watch, such as 10s, 500ms or 2m
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Print the events of a recording instead ('-' for stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command", "stacks"])]
    from: Option<PathBuf>,
    /// Command to run and watch
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: EventsArgs, setup: Setup) -> Result<Exit, Failure> {
    let readiness = args.ready.readiness(!args.command.is_empty())?;
    let thresholds = args.thresholds.load()?;
    let output = Output::open(args.output.as_deref())?;
    let keeps_stdout = !matches!(output, Output::Stdout);
    let EventsArgs { vm: vms, kind: kinds, cause: causes, slot, sample, limit, addresses, .. } =
        args;
    let filter = EventFilter { vms, kinds, causes, slot, sample, limit };
    if let Some(path) = &args.from {
        let recording = replay::open(path)?;
        let (clocks, machine) = (recording.header().clocks, recording.machine().clone());
        let lines = Lines { clocks, machine, filter, addresses };
        let pipeline = lines.pipeline(output, recording.coverage())?;
        return Ok(replay::replay(recording, path, pipeline.diagnosing(thresholds))?.exit);
    }
    let selection = args.stacks.of(filter.selection(args.each));
    let rows = filter.clone();
    let rows: RowFilter = Rc::new(move |process, fd, cause| rows.takes_row(process, fd, cause));
    let rows = (selection.by_row != 0).then_some(rows);
    let attached = Attached::new(&Wanted { setup, selection, rows })?;
    let (clocks, machine) = (Clocks::now(), (&attached.host).into());
    let lines = Lines { clocks, machine, filter, addresses };
    let pipeline = lines.pipeline(output, attached.coverage())?;
    let mut session = Session::start(attached, pipeline.diagnosing(thresholds));
    let (duration, command) = (args.duration, &args.command);
    Window { duration, command, keeps_stdout, replaces_files: false }.run(&mut session, readiness)
}

/// What lines are made of, and which.
struct Lines {
    clocks: Clocks,
    machine: Machine,
    filter: EventFilter,
    addresses: bool,
}

impl Lines {
    fn pipeline(self, output: Output, coverage: &Coverage) -> Result<Pipeline, Failure> {
        let Self { clocks, machine, filter, addresses } = self;
        let (name, out) = output.into_writer();
        let writer = EventWriter::new(out, LineFormat::Json, clocks, machine, coverage, filter);
        let writer = writer.with_context(|| cannot_write(&name)).or_exit(Exit::Output)?;
        Ok(Pipeline::observed(name, writer.showing_addresses(addresses)))
    }
}

fn causes() -> impl Iterator<Item = &'static str> {
    Cause::ALL.iter().map(|cause| cause.name())
}

/// Parses `1/N`.
fn parse_sample(text: &str) -> Result<RegionSample, String> {
    let n = text.strip_prefix("1/").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    n.map(RegionSample).ok_or_else(|| "expected 1/N, such as 1/100".to_owned())
}
