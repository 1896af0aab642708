//! `collapse report`

mod args;
mod demands;
mod outputs;

pub(super) use args::ReportArgs;

use super::record::RecordingSink;
use crate::{
    cli::Setup,
    exit::{Exit, Failure},
    report::{
        CommandReport, Report,
        gate::{CheckKind, CheckState, checks, decisive},
    },
    source::recording::Limits,
    watch::{
        replay::{Replayed, open, replay},
        session::Session,
        window,
    },
};
use outputs::Outputs;

pub(super) fn run(args: &ReportArgs, setup: Setup) -> Result<Exit, Failure> {
    let demands = demands::read(args)?;
    let mut outputs = Outputs::open(&args.formats(), &args.output)?;
    let (mut report, exit, recorded) = match &args.from {
        Some(path) => {
            let Replayed { machine, model, coverage, command, exit } =
                replay(open(path)?, path, &mut ())?;
            let command = command.map(CommandReport::from);
            (Report::new(&model, &coverage, machine, command), exit, Ok(()))
        }
        None => window::runtime()?.block_on(live(args, setup, &outputs))?,
    };
    report.select(&args.vm);
    report.verdicts = demands.judge(&report);
    let written = outputs.write(&report).and(recorded);
    if !outputs.show_text() {
        for check in checks(&report).iter().filter(|check| check.state == CheckState::Failed) {
            // The command speaks for itself.
            if check.kind != CheckKind::Command {
                eprintln!("collapse: {}", check.line());
            }
        }
    }
    verdict(exit, &report, written)
}

/// What is happening now, how the command ended, and whether it could be recorded.
async fn live(
    args: &ReportArgs,
    setup: Setup,
    outputs: &Outputs,
) -> Result<(Report, Exit, Result<(), Failure>), Failure> {
    let sink = RecordingSink::maker(args.record.clone(), Limits::default(), None)?;
    let mut session = Session::start_with(setup.into(), sink)?;
    let keeps_stdout = outputs.spare_stdout();
    let command = window::watch(&mut session, args.duration, &args.command, keeps_stdout).await?;
    let recorded = session.finish(command.as_ref());
    let exit = command
        .as_ref()
        .map_or(Exit::Ok, |command| Exit::of_command(command.status, command.signal));
    let command = command.map(CommandReport::from);
    let report = Report::new(&session.model, session.coverage(), (&session.host).into(), command);
    Ok((report, exit, recorded))
}

/// How to end: the command's failure comes first, as if it had been run without us.
fn verdict(exit: Exit, report: &Report, written: Result<(), Failure>) -> Result<Exit, Failure> {
    let failed = exit.code() != Exit::Ok.code();
    match written {
        Err(failure) if failed => {
            eprintln!("collapse: {failure}");
            Ok(exit)
        }
        Err(failure) => Err(failure),
        Ok(()) if failed => Ok(exit),
        Ok(()) => Ok(match decisive(&checks(report)) {
            None | Some(CheckKind::Command) => exit,
            Some(CheckKind::Budget | CheckKind::Baseline) => Exit::Budget,
            Some(CheckKind::Coverage) => Exit::Coverage,
        }),
    }
}

#[cfg(test)]
mod tests;
