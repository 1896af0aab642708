//! `collapse report`

mod args;
mod outputs;
mod window;

pub(super) use args::ReportArgs;

use super::session::Session;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::{CommandReport, Report},
};
use outputs::Outputs;

pub(super) fn run(args: &ReportArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::CannotMeasure)?;
    runtime.block_on(report(args, ebpf_log))
}

async fn report(args: &ReportArgs, ebpf_log: bool) -> Result<Exit, Failure> {
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
    outputs.write(&report)?;
    Ok(report.command.as_ref().map_or(Exit::Ok, command_exit))
}

fn command_exit(command: &CommandReport) -> Exit {
    let killed = || command.signal.map_or(1, |signal| 128 + signal);
    Exit::Command(command.status.unwrap_or_else(killed) as u8)
}
