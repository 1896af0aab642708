//! The guest workload: creates small KVM guests and takes them through a scenario of memory
//! accesses, dirty logging and host memory operations, one JSON line per phase.
//!
//! Data flows one way: [`cli`] names a scenario, [`scenario`] understands it, [`run`] carries it
//! out on the VMs of `collapse_guest`, [`report`] prints what happened.

mod act;
mod builtin;
mod cli;
mod fork;
mod host;
mod options;
mod out;
mod parse;
mod report;
mod run;
mod scenario;
mod share;
mod signal;
mod slots;
mod syntax;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match cli::parse() {
        Ok(cli::Request::List) => builtin::list(),
        Ok(cli::Request::Run(plan)) => run::start(&plan),
        Err(usage) => {
            eprintln!("workload: {usage:#}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}
