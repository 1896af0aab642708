//! The command line: options, dispatch and exit codes.

mod choices;
mod config;
mod doctor;
mod events;
mod explain;
mod export;
mod live;
mod measuring;
mod metrics;
mod packaging;
mod ready;
mod record;
mod report;
mod schema;
mod selftest;
mod stacks;

use std::{ffi::OsString, process::ExitCode};

use clap::{
    ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    ValueEnum, error::ErrorKind, parser::ValueSource,
};

use self::{measuring::MeasuringArgs, ready::ReadyArgs};
use crate::{
    diagnostics,
    exit::{Exit, Failure},
    selftest::guest,
    settings::Flags,
};

/// Watch KVM split, zap and recover huge pages
///
/// Without a command, shows the dashboard, like `collapse live` with the same options.
#[derive(Debug, Parser)]
#[command(name = "collapse", version, after_help = Exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print more on stderr: what the program does; -vv also the verifier's logs
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    live: live::LiveArgs,
    #[command(flatten)]
    measuring: MeasuringArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show VMs in a dashboard, live or from a recording; into a pipe, in lines
    ///
    /// In the dashboard, ? lists the keys.
    #[command(after_help = Exit::HELP)]
    Live(live::LiveArgs),
    /// Report on a time span, or on a command from start to end
    ///
    /// The report goes to stdout, and the command's own stdout to stderr. With an --output for each
    /// format, reports go to files and the command keeps its stdout. Without --duration and COMMAND,
    /// Ctrl-C ends the window.
    #[command(after_help = Exit::HELP)]
    Report(report::ReportArgs),
    /// Record everything to a file for `collapse report --from` and the like
    ///
    /// Whatever ends the recording, the file is valid up to its last complete block. Without --duration
    /// and COMMAND, Ctrl-C ends the recording.
    #[command(after_help = Exit::HELP)]
    Record(record::RecordArgs),
    /// Print events as lines of JSON
    ///
    /// Consecutive changes of one kind by one thread share a line, unless --each is given. All filters
    /// but --slot run in the kernel: changes that they leave out are counted there, but not recorded.
    #[command(after_help = Exit::HELP)]
    Events(events::EventsArgs),
    /// Serve metrics to Prometheus, or write them to a file for its node exporter
    ///
    /// Without --duration and COMMAND, Ctrl-C or SIGTERM ends it. VMs that end have no series any more.
    #[command(after_help = Exit::HELP)]
    Metrics(metrics::MetricsArgs),
    /// Tell why guests are not huge: by memslot, with what to do
    ///
    /// Looks once, at VMs that run already: what is mapped for the guest and in the host, the memory behind, dirty
    /// logging, and the settings. Attaches nothing, and faults no page in.
    #[command(after_help = Exit::HELP)]
    Explain(explain::ExplainArgs),
    /// Convert a recording for other programs
    #[command(after_help = Exit::HELP)]
    Export(export::ExportArgs),
    /// Print the settings in effect, in the form of a settings file
    ///
    /// Flags override the file, and the file overrides the defaults. The file is the first that exists
    /// of `$XDG_CONFIG_HOME/collapse/config.toml` (by default in `~/.config`) and
    /// `collapse/config.toml` in `$XDG_CONFIG_DIRS` (by default `/etc/xdg`).
    Config(Flags),
    /// Check what can be seen on this kernel, and by which hooks
    ///
    /// Loads and attaches all programs for a second, and detaches them again. With -v, prints the full
    /// log of the verifier for a program that it refuses.
    #[command(after_help = Exit::HELP)]
    Doctor(doctor::DoctorArgs),
    /// Print the JSON Schema of an output
    Schema {
        /// Output to describe
        document: schema::Document,
    },
    /// Print completions for a shell
    Completions(packaging::CompletionsArgs),
    /// Write the manual, a page for each command
    Manual(packaging::ManualArgs),
    /// Check on this machine that measurements are right
    ///
    /// A guest of 16 MiB, in a process of its own, causes known numbers of splits, zaps, refaults and
    /// recoveries. Other VMs are left alone.
    #[command(after_help = Exit::HELP)]
    Selftest(selftest::SelftestArgs),
    /// The process with the guest
    #[command(name = guest::COMMAND, hide = true)]
    SelftestGuest,
}

/// An output format of commands without one of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Runs the program: parses the command line, runs the command, and turns an error into one line on
/// stderr and an exit code.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    diagnostics::start(cli.verbose);
    let exit = run(cli).unwrap_or_else(|failure| {
        log::error!("{failure}");
        failure.exit
    });
    exit.into()
}

/// Parses the command line, and refuses options that would have no effect.
fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let mut refuse = |what: &str| Err(command.error(ErrorKind::ArgumentConflict, what));
    if let Some(name) = matches.subcommand_name().filter(|_| !cli.live.is_empty()) {
        return refuse(&format!(
            "options of live are given before '{name}', which is another command"
        ));
    }
    let given = |matches: &ArgMatches, id: &str| {
        matches.try_contains_id(id).is_ok()
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let innermost = matches.subcommand().map_or(&matches, |(_, matches)| matches);
    let ids = [command_ids::<MeasuringArgs>(), command_ids::<ReadyArgs>()].concat();
    let measuring = ids.into_iter().find(|id| given(innermost, id));
    match measuring.filter(|_| given(innermost, "from")) {
        Some(id) => refuse(&format!(
            "--{} is about measuring, and --from measures nothing",
            id.replace('_', "-")
        )),
        None => Ok(cli),
    }
}

/// Ids of the options that a type adds, groups not among them.
fn command_ids<T: Args>() -> Vec<String> {
    let command = T::augment_args(clap::Command::new(""));
    command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, live, measuring, verbose } = cli;
    let setup = measuring.into();
    match command.unwrap_or(Command::Live(live)) {
        Command::Live(args) => live::run(&args, setup),
        Command::Config(flags) => config::run(&flags),
        Command::Report(args) => report::run(&args, setup),
        Command::Record(args) => record::run(args, setup),
        Command::Events(args) => events::run(args, setup),
        Command::Explain(args) => explain::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Metrics(args) => metrics::run(args, setup),
        Command::Doctor(args) => doctor::run(&args, verbose > 0, setup),
        Command::Schema { document } => schema::run(document),
        Command::Completions(args) => packaging::completions(&args, Cli::command()),
        Command::Manual(args) => packaging::manual(&args, Cli::command()),
        Command::Selftest(args) => selftest::run(&args, setup),
        Command::SelftestGuest => guest::run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_in_documents_can_be_given() {
        let mut count = 0;
        for (document, text) in base::documents::all().expect("documents") {
            for words in base::documents::commands(&text) {
                // In the lab it is the command of another.
                let Some(first) = words.iter().position(|word| word == "collapse") else {
                    continue;
                };
                if first > 0 && !words.starts_with(&["cargo", "xtask", "vm"].map(str::to_owned)) {
                    continue;
                }
                let parsed = Cli::try_parse_from(&words[first..]);
                let error = parsed.err().map(|error| error.to_string());
                assert_eq!(error, None, "{}: {words:?}", document.display());
                count += 1;
            }
        }
        assert!(count > 40, "{count} commands");
    }
}
