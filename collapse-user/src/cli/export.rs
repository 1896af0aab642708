//! `collapse export`

use std::{io, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{
    events::{EventFilter, EventWriter, LineFormat},
    exit::{Exit, Failure, OrExit as _},
    export::{Folded, Perfetto},
    output::{Output, cannot_write},
    source::recording::Replay,
    watch::{Pipeline, replay},
};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The recording ('-' for stdin)
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Output format
    #[arg(long, short, value_enum)]
    format: ExportFormat,
    /// Show addresses of the host in the table: SPTEs with the host frames that they point to
    #[arg(long)]
    addresses: bool,
    /// File to write ('-' for stdout)
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// A format of other programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// Trace for ui.perfetto.dev and its tools
    Perfetto,
    /// Table of events, with the keys of `collapse events` as columns
    Csv,
    /// Stacks of splits and zaps for flame graphs, weighted by SPTEs; needs a recording made with
    /// --stacks
    Folded,
}

pub(super) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let recording = replay::open(&args.from)?;
    let output = Output::open(Some(&args.output))?;
    let pipeline = pipeline(output, args, &recording).or_exit(Exit::Output)?;
    Ok(replay::replay(recording, &args.from, pipeline)?.exit)
}

fn pipeline(output: Output, args: &ExportArgs, recording: &Replay) -> anyhow::Result<Pipeline> {
    let (name, out) = output.into_writer();
    let clocks = recording.header().clocks;
    let begun = || -> io::Result<Pipeline> {
        Ok(match args.format {
            ExportFormat::Perfetto => Pipeline::observed(name.clone(), Perfetto::new(out, clocks)?),
            ExportFormat::Folded => Pipeline::observed(name.clone(), Folded::new(out)),
            ExportFormat::Csv => {
                let (machine, filter) = (recording.machine().clone(), EventFilter::default());
                let coverage = recording.coverage();
                let lines =
                    EventWriter::new(out, LineFormat::Csv, clocks, machine, coverage, filter)?;
                Pipeline::observed(name.clone(), lines.showing_addresses(args.addresses))
            }
        })
    };
    begun().with_context(|| cannot_write(&name))
}
