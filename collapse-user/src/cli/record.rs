//! `collapse record`

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::{Args, builder::PossibleValuesParser};
use collapse_common::Selection;

use super::{parse_duration, stacks::StackArgs};
use crate::{
    cli::Setup,
    exit::{Exit, Failure, OrExit as _},
    findings,
    model::Model,
    output::is_dash,
    plan::Coverage,
    source::{
        Update,
        recording::{self, Command, Limits, Recorder},
    },
    watch::{
        session::{MakeSink, Sink, Wanted},
        trigger::Trigger,
        window,
    },
};

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// Write the recording to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How long to record, such as 10s, 500ms or 2m.
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Greatest size, such as 500k, 64M or 1G. Recording ends there; with --keep-last, less is kept.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Keep only the latest: at least so much, at most twice that.
    ///
    /// The older half is in FILE.old until the end. Should the recorder be killed, `cat FILE.old
    /// FILE` is the recording.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    keep_last: Option<Duration>,
    /// With --keep-last: go on until one of these findings appears, and end soon after it.
    #[arg(long, value_name = "FINDING", value_delimiter = ',', requires = "keep_last",
        value_parser = PossibleValuesParser::new(findings::names()))]
    trigger: Vec<String>,
    /// How long to go on after --trigger.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    trigger_after: Duration,
    /// Keep each change on its own, with its time and its SPTE before and after, rather than runs of
    /// them. Dearer: a ring record per change, and some 16 bytes in the file.
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    stacks: StackArgs,
    /// Command to run and record.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Writes every update to a recording.
pub(super) struct RecordingSink {
    path: PathBuf,
    recorder: Recorder,
    trigger: Option<Trigger>,
    /// Whether all that was wanted is recorded.
    over: bool,
    failed: Option<io::Error>,
}

impl RecordingSink {
    /// Opens `path`, if there is one, and makes a sink that records to it once the programs are
    /// attached.
    pub fn maker(
        path: Option<PathBuf>,
        limits: Limits,
        trigger: Option<Trigger>,
    ) -> Result<MakeSink, Failure> {
        let Some(path) = path else { return Ok(Box::new(|_, _| Ok(Box::new(())))) };
        if is_dash(&path) {
            return Err(anyhow!("a recording is a file, not standard output: name one"))
                .or_exit(Exit::Usage);
        }
        let file = write(&path, recording::create(&path))?;
        Ok(Box::new(move |host, coverage| {
            let recorder = Recorder::new(file, &path, host.into(), coverage, limits);
            let recorder = write(&path, recorder)?;
            Ok(Box::new(Self { path, recorder, trigger, over: false, failed: None }))
        }))
    }
}

fn write<T>(path: &Path, written: io::Result<T>) -> Result<T, Failure> {
    written.with_context(|| format!("cannot write {}", path.display())).or_exit(Exit::Output)
}

impl Sink for RecordingSink {
    fn update(&mut self, update: Update, coverage: &Coverage, model: &mut Model) {
        if !self.is_done() {
            self.failed = self.recorder.update(&update, coverage).err();
        }
        model.update(update);
        if let Some(trigger) = &mut self.trigger {
            if let Some((finding, vm)) = trigger.look(model, coverage) {
                eprintln!("collapse: {finding} of {vm}: the recording ends soon");
                self.recorder.keep_all();
            }
            self.over = trigger.is_over(model);
        }
    }

    fn is_done(&self) -> bool {
        self.over || self.failed.is_some() || self.recorder.is_full()
    }

    fn finish(&mut self, command: Option<&Command>, _: &Model) -> Result<(), Failure> {
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None => self.recorder.finish(command),
        };
        write(&self.path, written)?;
        if self.trigger.as_ref().is_some_and(|trigger| !trigger.has_fired()) {
            eprintln!("collapse: nothing of what --trigger names was found");
        }
        if self.recorder.is_full() {
            eprintln!("collapse: {} is full: the recording ends early", self.path.display());
        }
        Ok(())
    }
}

pub(super) fn run(args: RecordArgs, setup: Setup) -> Result<Exit, Failure> {
    let RecordArgs { output, duration, max_size, keep_last, each, command, .. } = args;
    let selection = args.stacks.of(Selection { each: each.into(), ..Selection::DEFAULT });
    let wanted = Wanted { setup, selection, rows: None };
    let trigger =
        (!args.trigger.is_empty()).then(|| Trigger::new(args.trigger, args.trigger_after));
    let sink = RecordingSink::maker(Some(output), Limits { max_size, keep_last }, trigger)?;
    window::runtime()?.block_on(window::run(duration, &command, true, wanted, sink))
}

/// A number of bytes with a unit: `k`, `M`, `G` (powers of 1024), or none.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err(format!("unknown unit '{unit}': use k, M or G")),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number such as 64M".to_owned())?;
    number.checked_mul(scale).filter(|size| *size > 0).ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use collapse_common::{
        Cause, Transition,
        abi::VmKey,
        counter::{COUNTERS, index},
    };

    use super::*;
    use crate::{
        kernel::Machine,
        plan::Mmu,
        source::{Batch, VmReading, recording::Replay},
    };

    const SECOND: u64 = 1_000_000_000;

    /// A batch a second; guest faults split huge pages from the 50th on.
    fn second(at: u64) -> Update {
        let vm = VmKey { kvm: 1, born: 1 };
        let mut row = Box::new([0; COUNTERS]);
        row[index(Transition::Split, 2)] = if at < 50 { 0 } else { 100 };
        Update::Batch(Batch {
            at: at * SECOND,
            vms: vec![VmReading { vm, pages: None, process: None, fd: None }],
            rows: vec![(vm, Cause::GuestFault, row)],
            ..Batch::default()
        })
    }

    #[test]
    fn a_finding_ends_a_recording_that_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let coverage = collapse_feed::fixtures::full_coverage(Mmu::Tdp);
        let keep_last = Some(Duration::from_secs(10));
        let limits = Limits { max_size: None, keep_last };
        let file = recording::create(&path).unwrap();
        let recorder = Recorder::new(file, &path, Machine::default(), &coverage, limits).unwrap();
        let trigger = Trigger::new(vec!["split_by_nx".to_owned()], Duration::from_secs(7));
        let (path, trigger) = (path.clone(), Some(trigger));
        let mut sink = RecordingSink { path, recorder, trigger, over: false, failed: None };
        let mut model = Model::default();
        let done = (1..100).find(|at| {
            sink.update(second(*at), &coverage, &mut model);
            sink.is_done()
        });
        assert_eq!(done, Some(57));
        sink.finish(None, &model).unwrap();
        let mut replay = Replay::open(&sink.path).unwrap();
        let mut times = Vec::new();
        while let Some(Update::Batch(batch)) = replay.next_update().unwrap() {
            times.push(batch.at / SECOND);
        }
        assert!(times[0] >= 29 && times[0] <= 40, "{times:?}");
        assert_eq!(times.last(), Some(&57));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("500"), Ok(500));
        assert!(parse_size("0").is_err() && parse_size("M").is_err() && parse_size("9T").is_err());
        assert!(parse_size("99999999999G").is_err());
    }
}
