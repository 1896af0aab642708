//! Project tasks: `cargo xtask <task>`.

mod capture;
mod demo;
mod setup;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the project collapse", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure the cost of observing, beside other tools, in executed instructions
    Bench(bench::BenchOptions),
    /// Make a static program, and packages of it
    Dist(dist::DistOptions),
    /// Find or install everything that the other tasks need
    Setup(setup::SetupOptions),
    /// Show huge pages being split, zapped and recovered: on this machine, or else in the lab
    Demo(demo::DemoOptions),
    /// Draw the dashboard as a picture for the README, from a recording of guests in the lab
    Capture(capture::CaptureOptions),
    /// Run the tests: the host's, then the lab's on every kernel
    Test(suite::TestOptions),
    /// Run a command, or a shell, on a real kernel with KVM inside an emulated machine
    ///
    /// Exits with the command's status; 122: the emulator ran a stale breakpoint (`--parallel`) and is
    /// to be run again; 124: time limit; 125: the machine died, or the lab could not be set up.
    Vm(vm::VmOptions),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn run(task: Task) -> Result<i32> {
    setup::ensure_ready()?;
    match task {
        Task::Bench(options) => bench::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Setup(options) => setup::report(&options),
        Task::Demo(options) => demo::run(options),
        Task::Capture(options) => capture::run(&options),
        Task::Test(options) => suite::run(options),
        Task::Vm(options) => vm::run(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_documents_can_be_given() {
        let mut count = 0;
        for (document, text) in base::documents::all().expect("documents") {
            for words in base::documents::commands(&text) {
                if words.starts_with(&["cargo", "xtask"].map(str::to_owned)) {
                    let parsed = Cli::try_parse_from(&words[1..]);
                    assert!(parsed.is_ok(), "{}: {words:?}", document.display());
                    count += 1;
                }
            }
        }
        assert!(count > 10, "{count} commands");
    }
}
