//! `collapse export`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{
    events::{EventFilter, EventWriter, LineFormat},
    exit::{Exit, Failure, OrExit as _},
    export::{Folded, Perfetto},
    model::Model,
    output::{Output, written},
    plan::Coverage,
    source::{
        Update,
        recording::{Command, Replay},
    },
    watch::{replay, session::Sink},
};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The recording ('-' is stdin).
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Format of the file.
    #[arg(long, short, value_enum)]
    format: ExportFormat,
    /// Write to this file ('-' is stdout).
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// A format of other programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// A trace for ui.perfetto.dev and its tools.
    Perfetto,
    /// Events as a table, with the keys of the lines of events as columns.
    Csv,
    /// Stacks of splits and zaps for flame graphs, in SPTEs, of a recording made with --stacks.
    Folded,
}

/// Writes what a recording tells.
enum ExportSink {
    Perfetto(Perfetto<Box<dyn Write>>),
    Csv(EventWriter<Box<dyn Write>>),
    Folded(Folded<Box<dyn Write>>),
}

/// Keeps the first error for the end.
struct Export {
    name: String,
    sink: ExportSink,
    failed: Option<io::Error>,
}

impl Sink for Export {
    fn update(&mut self, update: Update, _: &Coverage, model: &mut Model) {
        if self.failed.is_some() {
            return model.update(update);
        }
        let written = match &mut self.sink {
            ExportSink::Perfetto(trace) => {
                let told = update.clone();
                model.update(update);
                trace.update(&told, model)
            }
            ExportSink::Csv(table) => table.update(update, model),
            ExportSink::Folded(stacks) => {
                stacks.update(update, model);
                Ok(())
            }
        };
        self.failed = written.err();
    }

    fn is_done(&self) -> bool {
        self.failed.is_some()
    }

    fn finish(&mut self, _: Option<&Command>, model: &Model) -> Result<(), Failure> {
        let result = match (self.failed.take(), &mut self.sink) {
            (Some(error), _) => Err(error),
            (None, ExportSink::Perfetto(trace)) => trace.finish(model),
            (None, ExportSink::Csv(table)) => table.finish(),
            (None, ExportSink::Folded(stacks)) => stacks.finish().map(|any| {
                if !any {
                    eprintln!("collapse: no stacks are in this recording: record with --stacks");
                }
            }),
        };
        written(result, &self.name)
    }
}

pub(super) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let recording = replay::open(&args.from)?;
    let (name, out) = Output::open(Some(&args.output))?.into_writer();
    let sink = write(out, args.format, &recording);
    let sink = sink.with_context(|| format!("cannot write {name}")).or_exit(Exit::Output)?;
    let mut export = Export { name, sink, failed: None };
    Ok(replay::replay(recording, &args.from, &mut export)?.exit)
}

fn write(out: Box<dyn Write>, format: ExportFormat, recording: &Replay) -> io::Result<ExportSink> {
    let clocks = recording.header().clocks;
    Ok(match format {
        ExportFormat::Perfetto => ExportSink::Perfetto(Perfetto::new(out, clocks)?),
        ExportFormat::Folded => ExportSink::Folded(Folded::new(out)),
        ExportFormat::Csv => {
            let (machine, filter) = (recording.machine().clone(), EventFilter::default());
            let coverage = recording.coverage();
            ExportSink::Csv(EventWriter::new(
                out,
                LineFormat::Csv,
                clocks,
                machine,
                coverage,
                filter,
            )?)
        }
    })
}
