//! `collapse record`

use std::{io, path::PathBuf};

use anyhow::Context as _;

use super::{
    RecordArgs,
    session::{Session, Sink},
    window,
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::inspect::Inspected,
    model::Model,
    plan::Coverage,
    report::release,
    source::{
        Batch,
        recording::{Command, Limits, Recorder},
    },
};

/// Writes every batch to a recording.
pub struct RecordingSink {
    path: PathBuf,
    recorder: Recorder,
    failed: Option<io::Error>,
}

impl RecordingSink {
    /// Makes one that records to `path`, if there is one, once the programs are attached.
    pub fn maker(
        path: Option<PathBuf>,
        limits: Limits,
    ) -> impl FnOnce(&Inspected, &Coverage) -> Result<Option<Box<dyn Sink>>, Failure> {
        move |host, coverage| {
            let Some(path) = path else { return Ok(None) };
            let recorder = Recorder::create(&path, release(host), coverage, limits)
                .with_context(|| format!("cannot write {}", path.display()))
                .or_exit(Exit::Output)?;
            Ok(Some(Box::new(Self { path, recorder, failed: None })))
        }
    }
}

impl Sink for RecordingSink {
    fn batch(&mut self, batch: Batch, coverage: &Coverage, model: &mut Model) {
        if self.failed.is_none() {
            self.failed = self.recorder.batch(&batch, coverage).err();
        }
        model.apply(batch);
    }

    fn is_done(&self) -> bool {
        self.failed.is_some() || self.recorder.is_full()
    }

    fn finish(&mut self, command: Option<Command>) -> Result<(), Failure> {
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None => self.recorder.finish(command),
        };
        let context = || format!("cannot write {}", self.path.display());
        written.with_context(context).or_exit(Exit::Output)?;
        if self.recorder.is_full() {
            eprintln!("collapse: {} is full: the recording ends early", self.path.display());
        }
        Ok(())
    }
}

pub(super) fn run(args: RecordArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    window::runtime()?.block_on(async {
        let limits = Limits { max_size: args.max_size, flight: args.flight };
        let sink = RecordingSink::maker(Some(args.output), limits);
        let mut session = Session::start_with(ebpf_log, sink)?;
        let (exit, command) =
            window::observe(&mut session, args.duration, &args.command, true).await?;
        session.finish(command)?;
        Ok(exit)
    })
}
