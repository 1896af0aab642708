//! The command line.

mod choices;
mod events;
mod export;
mod record;
mod report;
mod schema;
mod stacks;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    error::ErrorKind, parser::ValueSource,
};

use crate::{
    doctor,
    exit::{Exit, Failure},
    live,
    plan::FaultLatency,
    selftest, settings,
    source::cost::Limit,
};

/// See KVM's huge pages being split, zapped and recovered.
///
/// Without a command, shows the dashboard, as live does with the same options.
#[derive(Debug, Parser)]
#[command(name = "collapse", version, after_help = Exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    live: live::LiveArgs,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch VMs in a dashboard; into a pipe, in lines. Or play a recording there.
    #[command(after_help = Exit::HELP)]
    Live(live::LiveArgs),
    /// Report on a time span, or on a command from start to end.
    ///
    /// The report goes to stdout, and the command's own stdout to stderr; with --output for each
    /// format, reports go to files and the command keeps its stdout. Without --duration and COMMAND,
    /// Ctrl-C ends the window.
    #[command(after_help = Exit::HELP)]
    Report(report::ReportArgs),
    /// Keep everything in a file, for report --from and the like.
    ///
    /// The file is valid up to its last complete block whatever happens. Without --duration and
    /// COMMAND, Ctrl-C ends the recording.
    #[command(after_help = Exit::HELP)]
    Record(record::RecordArgs),
    /// Print every event as a line of JSON.
    ///
    /// Consecutive changes of one kind by one thread are one line, unless --each is given. Filters run
    /// in the kernel, except --slot: what is not wanted is counted there, but not recorded.
    #[command(after_help = Exit::HELP)]
    Events(events::EventsArgs),
    /// Turn a recording into a file for other programs.
    #[command(after_help = Exit::HELP)]
    Export(export::ExportArgs),
    /// Print the settings in effect, as a file that would set them.
    ///
    /// A file overrides the defaults, and flags override the file, which is the first that there is of
    /// `$XDG_CONFIG_HOME/collapse/config.toml`, by default in `~/.config`, and of
    /// `collapse/config.toml` in `$XDG_CONFIG_DIRS`, by default `/etc/xdg`.
    Config(settings::Flags),
    /// Tell what can be seen on this kernel, and by which hooks, and try them.
    ///
    /// All programs are loaded and attached for a second, and detached again.
    #[command(after_help = Exit::HELP)]
    Doctor(DoctorArgs),
    /// Print the JSON Schema of an output.
    Schema {
        /// The output.
        document: schema::Document,
    },
    /// Check on this machine that what is measured is right.
    ///
    /// A guest of 16 MiB, in a process of its own, causes known numbers of splits, zaps, refaults and
    /// recoveries. The VMs of this machine are left alone.
    #[command(after_help = Exit::HELP)]
    Selftest(SelftestArgs),
    /// The process with the guest.
    #[command(name = selftest::guest::COMMAND, hide = true)]
    SelftestGuest,
}

/// How programs are loaded and attached.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct Setup {
    /// Let the eBPF programs' own diagnostics through, on stderr.
    #[arg(long, global = true)]
    pub(crate) ebpf_log: bool,
    /// How many guest faults are timed: off, 1/N, or all. Seeing them end costs as much as all else
    /// that is seen of them.
    #[arg(long, global = true, value_name = "HOW MANY", default_value_t)]
    pub(crate) fault_latency: FaultLatency,
    /// The most that the probes may cost, in percent of one core, or off. If they cost more, less is
    /// seen: first no fault is timed, then one region in 16 followed, then none. It comes back when
    /// there is room.
    #[arg(long, global = true, value_name = "PERCENT", default_value_t)]
    pub(crate) budget_overhead: Limit,
    /// Ring buffer between the programs and user space, such as 4M; a power of two from 4k to 1G.
    /// What finds it full is counted as lost; totals are not in it.
    #[arg(long, global = true, value_name = "SIZE", value_parser = ring_size)]
    pub(crate) ring_size: Option<u32>,
    /// VMs at one time that the tables in the kernel are to have room for: 128, or up to 8000. Each takes
    /// some 30 KiB, and 4 KiB more for each CPU. What finds them full is counted as lost, of unknown
    /// VM.
    #[arg(long, global = true, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) max_vms: Option<u32>,
}

/// The kernel wants a power of two, and whole pages.
fn ring_size(text: &str) -> Result<u32, String> {
    let size = record::parse_size(text)?;
    let size = u32::try_from(size).ok().filter(|size| (1 << 12..=1 << 30).contains(size));
    size.filter(|size| size.is_power_of_two())
        .ok_or_else(|| "expected a power of two from 4k to 1G".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Only look, and leave the kernel alone: load and attach nothing.
    #[arg(long)]
    pub(crate) no_attach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SelftestArgs {
    /// Format of the outcome.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Where to write what a bug report needs; collapse-selftest.json if something is wrong.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Write it even if nothing is wrong.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Runs the program: parses the command line, does what it says, and turns errors into one line on
/// stderr and an exit code.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("collapse: {failure}");
            failure.exit.into()
        }
    }
}

/// Understands the command line, and refuses what would be without effect.
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
    let measuring = command_ids::<Setup>().into_iter().find(|id| given(innermost, id));
    match measuring.filter(|_| given(innermost, "from")) {
        Some(id) => refuse(&format!(
            "--{} is about measuring, and --from measures nothing",
            id.replace('_', "-")
        )),
        None => Ok(cli),
    }
}

/// Ids of the options that a type adds.
fn command_ids<T: Args>() -> Vec<String> {
    let command = T::augment_args(clap::Command::new(""));
    command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, live, setup } = cli;
    match command.unwrap_or(Command::Live(live)) {
        Command::Live(args) => live::run(&args, setup),
        Command::Config(flags) => settings::run(&flags),
        Command::Report(args) => report::run(&args, setup),
        Command::Record(args) => record::run(args, setup),
        Command::Events(args) => events::run(args, setup),
        Command::Export(args) => export::run(&args),
        Command::Doctor(args) => doctor::run(&args, setup),
        Command::Schema { document } => schema::run(document),
        Command::Selftest(args) => selftest::run(&args, setup),
        Command::SelftestGuest => selftest::guest::run(),
    }
}

/// A number with a unit: `ms`, `s` (or none), `m`, `h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit '{unit}': use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number such as 10s".to_owned())?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())?;
    if duration.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ring_sizes() {
        assert_eq!(
            [ring_size("4k"), ring_size("16M"), ring_size("1G")],
            [Ok(1 << 12), Ok(1 << 24), Ok(1 << 30)]
        );
        for wrong in ["", "0", "2k", "3M", "2G", "4 apples"] {
            assert!(ring_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert!(parse_duration("2 weeks").is_err());
        assert!(parse_duration("0").is_err());
        assert!(parse_duration("1e400s").is_err());
    }
}
