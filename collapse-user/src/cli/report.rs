//! `collapse report`

use super::{
    Format, ReportArgs,
    output::Output,
    record::RecordingSink,
    replay::{Replayed, replay},
    session::Session,
    window,
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::{CommandReport, Report, render},
    source::recording::Limits,
};

pub(super) fn run(args: &ReportArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let mut output = Output::open(args.output.as_deref())?;
    let (report, exit) = match &args.from {
        Some(path) => {
            let Replayed { kernel, model, coverage, command } = replay(path, &mut ())?;
            let command = command.map(CommandReport::from);
            (Report::of_recording(&model, &coverage, kernel, command), Exit::Ok)
        }
        None => window::runtime()?.block_on(live(args, ebpf_log, &output))?,
    };
    let text = match args.format {
        Format::Text => render(&report, output.style()),
        Format::Json => {
            let mut json = serde_json::to_string_pretty(&report).or_exit(Exit::Output)?;
            json.push('\n');
            json
        }
    };
    output.write(&text)?;
    Ok(exit)
}

async fn live(
    args: &ReportArgs,
    ebpf_log: bool,
    output: &Output,
) -> Result<(Report, Exit), Failure> {
    let sink = RecordingSink::maker(args.record.clone(), Limits::default());
    let mut session = Session::start_with(ebpf_log, sink)?;
    let keeps_stdout = matches!(output, Output::File(..));
    let (exit, command) =
        window::observe(&mut session, args.duration, &args.command, keeps_stdout).await?;
    session.finish(command.clone())?;
    let command = command.map(CommandReport::from);
    Ok((Report::new(&session.model, session.coverage(), &session.host, command), exit))
}
