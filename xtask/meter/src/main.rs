//! Measures, inside the lab, the cost of a tool while it observes a command.
//!
//! `meter cost FILE COMMAND...` runs the command and writes to the file, as JSON, when it ran and the
//! CPU time and memory of its observer: the parent process, as tools start the command that they observe,
//! or the process that `METER_OF` names. `meter terminal COMMAND...` runs a command on a terminal of its
//! own and copies the output to stdout. `meter census PID...` prints, as a line of JSON, what these processes hold.

mod census;
mod observer;
mod terminal;

use std::{
    env,
    ffi::OsString,
    fs, process,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use census::Census;
use observer::{Observer, busy_ns, now};

/// The content of the file. Times are `CLOCK_MONOTONIC`, ns.
#[derive(Serialize)]
struct Cost {
    /// Before the command was started.
    start_ns: u64,
    /// After it had ended.
    end_ns: u64,
    /// Time that the machine's CPUs had been busy with tasks before, ns.
    busy_start_ns: u64,
    /// Time that the CPUs had been busy when the command had ended, ns.
    busy_end_ns: u64,
    /// CPU time that the observer had used before.
    cpu_before_ns: u64,
    /// CPU time that the observer had used when the command had ended.
    cpu_after_ns: u64,
    /// Most memory that the observer ever had resident, bytes; `None` if it is gone.
    resident: Option<u64>,
    /// Kernel memory of the observer's eBPF maps and programs, bytes.
    bpf: u64,
}

fn main() -> ExitCode {
    match run(env::args_os().skip(1).collect()) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("meter: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn run(words: Vec<OsString>) -> Result<i32> {
    let mut words = words.into_iter();
    let what = words.next().unwrap_or_default();
    match what.to_str() {
        Some("cost") => cost(&words.next().context("no file given")?, words.collect()),
        Some("terminal") => terminal::run(words.collect()),
        Some("census") => census(&words.collect::<Vec<_>>()),
        _ => bail!(
            "usage: meter cost FILE COMMAND... | meter terminal COMMAND... | meter census PID..."
        ),
    }
}

fn cost(file: &OsString, words: Vec<OsString>) -> Result<i32> {
    let observer = match env::var("METER_OF") {
        Ok(pid) => pid.trim().parse().context("METER_OF is no process id")?,
        Err(_) => std::os::unix::process::parent_id(),
    };
    let mut command = command(words)?;
    let observer = Observer::new(observer, process::id());
    let (cpu_before_ns, busy_start_ns) = (observer.cpu_ns(), busy_ns()?);
    let start_ns = now(libc::CLOCK_MONOTONIC);
    let status = command.status().context("starting the command")?;
    let end_ns = now(libc::CLOCK_MONOTONIC);
    let (busy_end_ns, cpu_after_ns) = (busy_ns()?, observer.cpu_ns());
    let cost = Cost {
        start_ns,
        end_ns,
        busy_start_ns,
        busy_end_ns,
        cpu_before_ns,
        cpu_after_ns,
        resident: observer.resident(),
        bpf: observer.bpf(),
    };
    fs::write(file, serde_json::to_vec(&cost)?).context("writing the file")?;
    Ok(status.code().unwrap_or(1))
}

fn census(words: &[OsString]) -> Result<i32> {
    let pids = words.iter().map(|word| word.to_str().and_then(|word| word.parse().ok()));
    let pids: Option<Vec<u32>> = pids.collect();
    let census = Census::of(&pids.context("not a process id")?)?;
    println!("{}", serde_json::to_string(&census)?);
    Ok(0)
}

fn command(words: Vec<OsString>) -> Result<Command> {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().context("no command given")?);
    command.args(words);
    Ok(command)
}
