//! `collapse report`

mod args;
mod demands;
mod outputs;
mod window;

pub(super) use args::ReportArgs;

use super::session::Session;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::{CheckKind, CommandReport, Report, State, checks},
};
use demands::Demands;
use outputs::Outputs;

pub(super) fn run(args: &ReportArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::CannotMeasure)?;
    runtime.block_on(report(args, ebpf_log))
}

async fn report(args: &ReportArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let demands = Demands::read(args)?;
    let mut outputs = Outputs::open(&args.format, &args.output)?;
    let mut session = Session::start(ebpf_log)?;
    let command = if args.command.is_empty() {
        window::watch(&mut session, args.duration).await?;
        None
    } else {
        let keeps_stdout = outputs.spare_stdout();
        Some(window::watch_command(&mut session, &args.command, keeps_stdout).await?)
    };
    session.poll(true);
    let mut report = Report::new(&session.model, session.coverage(), &session.host, command);
    report.select(&args.vm);
    demands.check(&mut report)?;
    let written = outputs.write(&report);
    if !outputs.show_text() {
        for check in checks(&report).iter().filter(|check| check.state == State::Failed) {
            // The command speaks for itself.
            if check.kind != CheckKind::Command {
                eprintln!("collapse: {}", check.line());
            }
        }
    }
    verdict(&report, written)
}

/// How to end: the command's failure comes first, as if it had been run without us.
fn verdict(report: &Report, written: Result<(), Failure>) -> Result<Exit, Failure> {
    let exit = report.command.as_ref().map_or(Exit::Ok, command_exit);
    let failed = exit.code() != Exit::Ok.code();
    match written {
        Err(failure) if failed => {
            eprintln!("collapse: {failure}");
            Ok(exit)
        }
        Err(failure) => Err(failure),
        Ok(()) if failed => Ok(exit),
        Ok(()) if !report.is_within_budget() => Ok(Exit::Budget),
        Ok(()) if !report.is_covered() => Ok(Exit::Coverage),
        Ok(()) => Ok(exit),
    }
}

fn command_exit(command: &CommandReport) -> Exit {
    let killed = || command.signal.map_or(1, |signal| 128 + signal);
    Exit::Command(command.status.unwrap_or_else(killed) as u8)
}

#[cfg(test)]
mod tests;
