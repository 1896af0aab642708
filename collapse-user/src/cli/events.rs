//! `collapse events`

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, builder::PossibleValuesParser};
use collapse_common::Cause;

use super::{parse_duration, stacks::StackArgs};
use crate::{
    cli::Setup,
    events::{EventFilter, EventWriter, LineFormat, RegionSample, kinds},
    exit::{Exit, Failure, OrExit as _},
    kernel::Machine,
    model::Model,
    output::{Output, written},
    plan::Coverage,
    report::VmSelect,
    source::{
        Update,
        live::RowFilter,
        recording::{Clocks, Command},
    },
    watch::{
        replay,
        session::{MakeSink, Sink, Wanted},
        window,
    },
};

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Only events of these VMs: process id, name (with * and ?) or debugfs name (TID-FD); repeated, of
    /// all that any of them selects.
    #[arg(long, value_name = "SELECT")]
    vm: Vec<VmSelect>,
    /// Only events of these kinds.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(kinds()))]
    kind: Vec<String>,
    /// Only changes of these causes.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(causes()))]
    cause: Vec<String>,
    /// Only events of the slot with this id.
    #[arg(long, value_name = "N")]
    slot: Option<u16>,
    /// Only changes in one region of N, always the same ones.
    #[arg(long, value_name = "1/N", value_parser = parse_sample)]
    sample: Option<RegionSample>,
    /// Every change on its own, with its time and its SPTE before and after, rather than runs of them.
    ///
    /// Dearer: a time stamp and a ring record per change.
    #[arg(long, conflicts_with = "from")]
    each: bool,
    #[command(flatten)]
    stacks: StackArgs,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write to a file ('-' is stdout).
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Length of the window, such as 10s, 500ms or 2m.
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Events of a recording instead ('-' is stdin).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command", "stacks"])]
    from: Option<PathBuf>,
    /// Command to run meanwhile.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Writes the events of every batch.
struct EventSink {
    name: String,
    writer: EventWriter<Box<dyn Write>>,
    failed: Option<io::Error>,
}

impl EventSink {
    fn new(
        (name, out): (String, Box<dyn Write>),
        clocks: Clocks,
        machine: Machine,
        coverage: &Coverage,
        filter: EventFilter,
    ) -> Result<Self, Failure> {
        let writer = EventWriter::new(out, LineFormat::Json, clocks, machine, coverage, filter);
        let writer =
            writer.with_context(|| format!("cannot write {name}")).or_exit(Exit::Output)?;
        Ok(Self { name, writer, failed: None })
    }
}

impl Sink for EventSink {
    fn update(&mut self, update: Update, _: &Coverage, model: &mut Model) {
        if self.failed.is_none() {
            self.failed = self.writer.update(update, model).err();
        } else {
            model.update(update);
        }
    }

    fn is_done(&self) -> bool {
        self.failed.is_some() || self.writer.is_done()
    }

    fn finish(&mut self, _: Option<&Command>, _: &Model) -> Result<(), Failure> {
        let result = match self.failed.take() {
            Some(error) => Err(error),
            None => self.writer.finish(),
        };
        written(result, &self.name)
    }
}

pub(super) fn run(args: EventsArgs, setup: Setup) -> Result<Exit, Failure> {
    let output = Output::open(args.output.as_deref())?;
    let keeps_stdout = !matches!(output, Output::Stdout);
    let out = output.into_writer();
    let each = args.each;
    let EventsArgs { vm: vms, kind: kinds, cause: causes, slot, sample, limit, .. } = args;
    let filter = EventFilter { vms, kinds, causes, slot, sample, limit };
    if let Some(path) = &args.from {
        let recording = replay::open(path)?;
        let (clocks, machine) = (recording.header().clocks, recording.machine().clone());
        let mut sink = EventSink::new(out, clocks, machine, recording.coverage(), filter)?;
        return Ok(replay::replay(recording, path, &mut sink)?.exit);
    }
    let selection = args.stacks.of(filter.selection(each));
    let rows = filter.clone();
    let rows: RowFilter = Rc::new(move |process, fd, cause| rows.takes_row(process, fd, cause));
    let rows = (selection.by_row != 0).then_some(rows);
    let wanted = Wanted { setup, selection, rows };
    let sink: MakeSink = Box::new(move |host, coverage| {
        Ok(Box::new(EventSink::new(out, Clocks::now(), host.into(), coverage, filter)?))
    });
    let window = window::run(args.duration, &args.command, keeps_stdout, wanted, sink);
    window::runtime()?.block_on(window)
}

fn causes() -> impl Iterator<Item = &'static str> {
    Cause::ALL.iter().map(|cause| cause.name())
}

/// `1/N`.
fn parse_sample(text: &str) -> Result<RegionSample, String> {
    let n = text.strip_prefix("1/").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    n.map(RegionSample).ok_or_else(|| "expected 1/N, such as 1/100".to_owned())
}
