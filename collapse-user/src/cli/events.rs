//! `collapse events`

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use anyhow::Context as _;

use super::{
    EventsArgs, replay,
    session::{Session, Sink},
    window,
};
use crate::{
    events::{EventWriter, Filter, Host},
    exit::{Exit, Failure, OrExit as _},
    model::Model,
    plan::Coverage,
    report::release,
    source::{
        Batch,
        recording::{Clocks, Command},
    },
};

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
        kernel: String,
        coverage: &Coverage,
        filter: Filter,
    ) -> Result<Self, Failure> {
        let host = Host { kernel, mmu: coverage.mmu };
        let writer = EventWriter::new(out, clocks, host, filter);
        let writer =
            writer.with_context(|| format!("cannot write {name}")).or_exit(Exit::Output)?;
        Ok(Self { name, writer, failed: None })
    }
}

impl Sink for EventSink {
    fn batch(&mut self, batch: Batch, _: &Coverage, model: &mut Model) {
        let (at, events, losses) = (batch.at, batch.events.clone(), batch.losses.clone());
        model.apply(batch);
        if self.failed.is_none() {
            self.failed = self.writer.batch(at, &events, &losses, model).err();
        }
    }

    fn is_done(&self) -> bool {
        self.failed.is_some() || self.writer.is_done()
    }

    fn finish(&mut self, _: Option<Command>) -> Result<(), Failure> {
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None => self.writer.finish(),
        };
        match written {
            // A reader that has seen enough is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => {
                written.with_context(|| format!("cannot write {}", self.name)).or_exit(Exit::Output)
            }
        }
    }
}

pub(super) fn run(args: EventsArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let out = open(&args)?;
    let EventsArgs { vm, kind: kinds, cause: causes, slot, sample, limit, .. } = args;
    let filter = Filter { vm, kinds, causes, slot, sample, limit };
    if let Some(path) = &args.from {
        let recording = replay::open(path)?;
        let header = recording.header();
        let kernel = header.kernel.clone();
        let mut sink = EventSink::new(out, header.clocks, kernel, recording.coverage(), filter)?;
        replay::replay(path, &mut sink)?;
        return Ok(Exit::Ok);
    }
    window::runtime()?.block_on(async {
        let keeps_stdout = args.output.is_some();
        let mut session = Session::start_with(ebpf_log, |host, coverage| {
            let sink = EventSink::new(out, Clocks::now(), release(host), coverage, filter)?;
            Ok(Some(Box::new(sink)))
        })?;
        let (exit, command) =
            window::observe(&mut session, args.duration, &args.command, keeps_stdout).await?;
        session.finish(command)?;
        Ok(exit)
    })
}

/// Where the lines go, and its name.
fn open(args: &EventsArgs) -> Result<(String, Box<dyn Write>), Failure> {
    let Some(path) = &args.output else {
        return Ok(("standard output".to_owned(), Box::new(BufWriter::new(io::stdout()))));
    };
    let name = path.display().to_string();
    let file = File::create(path).with_context(|| format!("cannot write {name}"));
    Ok((name, Box::new(BufWriter::new(file.or_exit(Exit::Output)?))))
}
