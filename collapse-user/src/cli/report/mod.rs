//! `collapse report`

mod args;
mod demands;
mod outputs;
#[cfg(test)]
mod tests;

use std::path::Path;

pub(super) use args::ReportArgs;

use crate::{
    exit::{Exit, Failure},
    report::{
        CommandReport, Report,
        gate::{CheckKind, CheckState, DemandCheck, checks, decisive},
    },
    source::recording::SizeLimits,
    watch::{
        Attached, NewRecording, Part, Pipeline, Readiness, Replayed, Session, Setup, Window,
        ended_as, replay,
    },
};
use outputs::Outputs;

pub(super) fn run(args: &ReportArgs, setup: Setup) -> Result<Exit, Failure> {
    let readiness = args.ready.readiness(!args.command.is_empty())?;
    let demands = demands::read(args)?;
    let mut outputs = Outputs::open(&args.formats(), &args.output)?;
    let Measured { mut report, exit, recorded } = match &args.from {
        Some(path) => of_recording(path, args)?,
        None => of_window(args, setup, &outputs, readiness)?,
    };
    report.select(&args.vm);
    report.verdicts = demands.judge(&report);
    let written = outputs.write(&report).and(recorded);
    if !outputs.show_text() {
        complain(&report);
    }
    exit.or_else(written.map(|()| verdict(&report)))
}

/// A report, and how it came about.
struct Measured {
    report: Report,
    /// The exit of the command, or of reading the recording.
    exit: Exit,
    /// Whether the recording beside it could be written.
    recorded: Result<(), Failure>,
}

fn of_recording(path: &Path, args: &ReportArgs) -> Result<Measured, Failure> {
    let pipeline = Pipeline::default().diagnosing(args.thresholds.load()?);
    let part = Part { since: args.since, until: args.until };
    let recording = replay::open(path)?;
    let Replayed { machine, model, coverage, command, exit } =
        replay::replay_part(recording, path, pipeline, &part)?;
    let command = command.map(CommandReport::from);
    let report = Report::new(&model, &coverage, machine, command);
    Ok(Measured { report, exit, recorded: Ok(()) })
}

fn of_window(
    args: &ReportArgs,
    setup: Setup,
    outputs: &Outputs,
    readiness: Readiness,
) -> Result<Measured, Failure> {
    let thresholds = args.thresholds.load()?;
    let recording = args.record.clone();
    let recording = recording.map(|path| NewRecording::create(path, SizeLimits::default(), None));
    let recording = recording.transpose()?;
    let attached = Attached::new(&setup.into())?;
    let pipeline = match recording {
        Some(recording) => {
            Pipeline::tapped(recording.begin((&attached.host).into(), attached.coverage())?)
        }
        None => Pipeline::default(),
    };
    let mut session = Session::start(attached, pipeline.diagnosing(thresholds));
    let (duration, keeps_stdout) = (args.duration, outputs.spare_stdout());
    let command = &args.command;
    let window = Window { duration, command, keeps_stdout, replaces_files: false };
    let command = window.watch(&mut session, readiness)?;
    let recorded = session.finish(command.as_ref());
    let exit = ended_as(command.as_ref());
    let command = command.map(CommandReport::from);
    let report = Report::new(session.model(), session.coverage(), (&session.host).into(), command);
    Ok(Measured { report, exit, recorded })
}

/// Prints the demands that are not met on stderr, where the report itself is not shown to people.
fn complain(report: &Report) {
    for check in demanded(report).filter(|check| check.state == CheckState::Failed) {
        log::error!("{}", check.line());
    }
}

/// The exit by the demands on the report.
fn verdict(report: &Report) -> Exit {
    match decisive(&demanded(report).collect::<Vec<_>>()) {
        Some(CheckKind::Budget | CheckKind::Baseline) => Exit::Budget,
        Some(CheckKind::Coverage) => Exit::Coverage,
        Some(CheckKind::Command) | None => Exit::Ok,
    }
}

/// The checks but for that of the command: one that was watched speaks for itself, and the failure of one
/// that was recorded is not ours.
fn demanded(report: &Report) -> impl Iterator<Item = DemandCheck> {
    checks(report).into_iter().filter(|check| check.kind != CheckKind::Command)
}
