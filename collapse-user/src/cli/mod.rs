//! The command line.

mod doctor;
mod events;
mod live;
mod output;
mod record;
mod replay;
mod report;
mod schema;
mod session;
mod window;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

use crate::{
    events::{KINDS, Sample},
    exit::{Exit, Failure},
};

/// See KVM's huge pages being split, zapped and recovered.
///
/// Without a command, shows the live table.
#[derive(Debug, Parser)]
#[command(name = "collapse", version, after_help = Exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Let the eBPF programs' own diagnostics through, on stderr.
    #[arg(long, global = true)]
    ebpf_log: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch VMs in a table that is refreshed until Ctrl-C.
    Live(LiveArgs),
    /// Report on a time span, or on a command from start to end.
    ///
    /// The report goes to stdout, and the command's own stdout to stderr; with --output the report
    /// goes to the file and the command keeps its stdout. Without --duration and COMMAND, Ctrl-C
    /// ends the window.
    #[command(after_help = Exit::HELP)]
    Report(ReportArgs),
    /// Keep everything in a file, for report --from and the like.
    ///
    /// The file is valid up to the last complete block whatever happens. Without --duration and
    /// COMMAND, Ctrl-C ends the recording.
    #[command(after_help = Exit::HELP)]
    Record(RecordArgs),
    /// Print every event as a line of JSON.
    ///
    /// Consecutive changes of one kind by one thread are one line. Filters run in this program, not
    /// in the kernel, so they make the output smaller but not the measurement cheaper. Single
    /// changes with their SPTEs are not to be had yet.
    #[command(after_help = Exit::HELP)]
    Events(EventsArgs),
    /// Print the JSON Schema of an output.
    Schema {
        /// Which output.
        of: schema::Schema,
    },
    /// Tell what can be seen on this kernel, and by which hooks.
    #[command(after_help = Exit::HELP)]
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
struct LiveArgs {
    /// Time between refreshes, such as 1s or 500ms.
    #[arg(long, short, default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Text for the first line, such as the name of the machine.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

impl Default for LiveArgs {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), title: None }
    }
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// Length of the window, such as 10s, 500ms or 2m.
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Format of the report.
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
    /// Write the report to a file.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Report on a recording instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command", "record"])]
    from: Option<PathBuf>,
    /// Keep a recording of the window too.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Command to run and report on.
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct RecordArgs {
    /// Write the recording to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How long to record, such as 10s, 500ms or 2m.
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Greatest size, such as 500k, 64M or 1G. Recording ends there, unless with --flight.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Keep only the latest: at least so much, at most twice that.
    ///
    /// The older half is in FILE.old until the end. Should the recorder be killed, `cat FILE.old
    /// FILE` is the recording.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    flight: Option<Duration>,
    /// Command to run and record.
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct EventsArgs {
    /// Only VMs of this process id, or with this in their name.
    #[arg(long, value_name = "PID|NAME")]
    vm: Option<String>,
    /// Only events of these kinds.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(KINDS))]
    kind: Vec<String>,
    /// Only changes of these causes.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(causes()))]
    cause: Vec<String>,
    /// Only events of the slot with this id.
    #[arg(long, value_name = "N")]
    slot: Option<u16>,
    /// Only changes in one region of N, always the same ones.
    #[arg(long, value_name = "1/N", value_parser = parse_sample)]
    sample: Option<Sample>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write to a file.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Length of the window, such as 10s, 500ms or 2m.
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Events of a recording instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command"])]
    from: Option<PathBuf>,
    /// Command to run meanwhile.
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Runs the program: parses the command line, does what it says, and turns errors into one line on
/// stderr and an exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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

fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, ebpf_log } = cli;
    match command.unwrap_or(Command::Live(LiveArgs::default())) {
        Command::Live(args) => live::run(&args, ebpf_log),
        Command::Report(args) => report::run(&args, ebpf_log),
        Command::Events(args) => events::run(args, ebpf_log),
        Command::Schema { of } => schema::run(of),
        Command::Record(args) => record::run(args, ebpf_log),
        Command::Doctor(args) => doctor::run(args.format),
    }
}

/// A number with a unit: `ms`, `s` (or none), `m`, `h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
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

fn causes() -> impl Iterator<Item = &'static str> {
    collapse_common::Cause::ALL.iter().map(|cause| cause.name())
}

/// `1/N`.
fn parse_sample(text: &str) -> Result<Sample, String> {
    let n = text.strip_prefix("1/").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    n.map(Sample).ok_or_else(|| "expected 1/N, such as 1/100".to_owned())
}

/// A number of bytes with a unit: `k`, `M`, `G` (powers of 1024), or none.
fn parse_size(text: &str) -> Result<u64, String> {
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("500"), Ok(500));
        assert!(parse_size("0").is_err() && parse_size("M").is_err() && parse_size("9T").is_err());
        assert!(parse_size("99999999999G").is_err());
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
