//! The command line.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Arg, ArgGroup, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::builtin::{BUILTINS, Builtin};
use crate::options::{WorkloadOptions, check_slot_size};
use crate::parse;
use crate::scenario::ScenarioStep;

/// A command of the user.
pub enum Request {
    /// The list of scenarios and phases.
    List,
    /// A scenario to be carried out.
    Run(Plan),
}

/// A scenario with its options.
pub struct Plan {
    /// The built-in's name, `run`, or the file's name.
    pub scenario: String,
    /// The scenario as written.
    pub text: String,
    /// The scenario as understood.
    pub steps: Vec<ScenarioStep>,
    /// All other options.
    pub options: WorkloadOptions,
}

/// Reads the command line. Ends the process after `--help`.
pub fn parse() -> Result<Request> {
    match command().try_get_matches() {
        Ok(matches) => request(&matches),
        Err(error) if error.use_stderr() => Err(one_line(&error)),
        Err(help) => help.exit(),
    }
}

/// The first paragraph of `clap`'s message.
fn one_line(error: &clap::Error) -> anyhow::Error {
    let text = error.to_string();
    let paragraph = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let line = paragraph.collect::<Vec<_>>().join(" ");
    anyhow!("{} (see --help)", line.trim_start_matches("error: "))
}

fn command() -> Command {
    let run = WorkloadOptions::augment_args(Command::new("run"))
        .about("Runs a scenario written in the mini-language (see `workload list`)")
        .arg(
            Arg::new("scenario")
                .value_name("SCENARIO")
                .help("The scenario, e.g. 'touch; log-on; touch; log-off'"),
        )
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A file with the scenario"),
        )
        .group(ArgGroup::new("source").args(["scenario", "file"]).required(true));
    let builtins = BUILTINS.iter().map(|builtin| {
        let command =
            WorkloadOptions::augment_args(Command::new(builtin.name)).about(builtin.about);
        builtin
            .defaults
            .iter()
            .fold(command, |command, (name, value)| {
                command.mut_arg(name, |arg| arg.default_value(value))
            })
            .after_help(format!("Phases:\n  {}", flat(builtin.text)))
    });
    Command::new("workload")
        .about("Takes small KVM guests through a scenario, one JSON line per phase")
        .subcommand_required(true)
        .subcommand_value_name("SCENARIO")
        .subcommand(Command::new("list").about("Lists the scenarios and the phases"))
        .subcommand(run)
        .subcommands(builtins)
}

fn request(matches: &ArgMatches) -> Result<Request> {
    let (name, matches) = matches.subcommand().context("no scenario given")?;
    if name == "list" {
        return Ok(Request::List);
    }
    let (scenario, text) = match BUILTINS.iter().find(|builtin| builtin.name == name) {
        Some(Builtin { name, text, .. }) => ((*name).to_owned(), flat(text)),
        None => written(matches)?,
    };
    let steps = parse::scenario(&text).context("scenario")?;
    ensure!(!steps.is_empty(), "scenario: it has no phases");
    let options = WorkloadOptions::from_arg_matches(matches)?;
    check(&options)?;
    Ok(Request::Run(Plan { scenario, text, steps, options }))
}

/// The name and the text of the scenario that `run` was given.
fn written(matches: &ArgMatches) -> Result<(String, String)> {
    if let Some(path) = matches.get_one::<PathBuf>("file") {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the scenario {}", path.display()))?;
        return Ok((path.display().to_string(), text));
    }
    let text = matches.get_one::<String>("scenario").context("no scenario given")?;
    Ok(("run".to_owned(), text.clone()))
}

fn check(options: &WorkloadOptions) -> Result<()> {
    ensure!(options.vms > 0, "--vms must be at least 1");
    ensure!(options.vcpus > 0, "--vcpus must be at least 1");
    ensure!(options.iterations > 0, "--iterations must be at least 1");
    check_slot_size(options.size, options.backing)
}

/// A scenario on one line.
fn flat(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use collapse_guest::LogProtect;
    use collapse_guest::units::Bytes;

    use super::*;

    fn plan(line: &str) -> Result<Plan> {
        let matches = command().try_get_matches_from(line.split(' '))?;
        match request(&matches)? {
            Request::Run(plan) => Ok(plan),
            Request::List => panic!("a list"),
        }
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn built_ins_bring_their_defaults_and_give_way() {
        assert_eq!(plan("workload two-vms").unwrap().options.vms, 2);
        assert_eq!(plan("workload two-vms --vms 5").unwrap().options.vms, 5);
        let plan = plan("workload initially-set --size 16M").unwrap();
        assert_eq!(plan.options.log_protect, LogProtect::InitiallySet);
        assert_eq!(plan.options.size, Bytes(16 << 20));
    }

    #[test]
    fn mistakes_fit_a_line() {
        for line in ["workload", "workload run", "workload run touch --bogus", "workload x"] {
            let error = command().try_get_matches_from(line.split(' ')).unwrap_err();
            let text = one_line(&error).to_string();
            assert!(!text.contains('\n') && !text.contains("error:"), "{line}: {text}");
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "workload",
            "workload nothing",
            "workload run",
            "workload run ;",
            "workload run tuch",
            "workload steady --vms 0",
            "workload steady --size 1M",
            "workload steady --size 0",
            "workload steady --loop --iterations 2",
            "workload run -f /nonexistent",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
        assert!(plan("workload steady --size 4K --backing 4k").is_ok());
    }
}
