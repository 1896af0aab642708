//! `cargo xtask bench`: the cost of observing, tool by tool, in executed instructions.

mod cases;
mod document;
mod figures;
mod goals;
mod host;
mod machine;
mod render;
mod scenario;
mod seen;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base::workspace;
use clap::Args;
use lab::{
    Ending, ImageFile, Lab, Series,
    foreign::Fetched,
    kernels::{self, DefaultMmu, MeasuredTools},
    programs,
    tools::TOOLS,
};
use serde::de::DeserializeOwned;

use cases::{BenchCase, CASES, Part};
use figures::{Measured, MeteredCost};
use machine::BenchMachine;
use render::CaseRun;

/// The time limit of a boot with all cases.
const TIMEOUT: Duration = Duration::from_hours(1);
/// The parts of the document: the cost for the machine, and for user space.
const PARTS: [&str; 2] = ["lab", "host"];

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct BenchOptions {
    #[arg(long, help = format!("Only on this kernel series ({})", kernels::names()))]
    kernel: Option<String>,
    /// Only on this machine; may be repeated
    #[arg(long, value_name = "MACHINE")]
    machine: Vec<BenchMachine>,
    /// Only cases with this in their names, besides the runs without tracing; may be repeated
    #[arg(long, value_name = "PART OF A NAME")]
    only: Vec<String>,
    /// Measure user space on this machine instead, without a kernel
    #[arg(long, conflicts_with_all = ["kernel", "machine", "only", "no_build"])]
    host: bool,
    /// Write the tables to docs/cost.md, too
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Use the programs of the last build
    #[arg(long)]
    no_build: bool,
}

/// Measures, prints the tables and returns the exit code.
pub fn run(options: &BenchOptions) -> Result<i32> {
    if options.host {
        show(PARTS[1], &host::run()?, options)?;
    } else {
        in_lab(options)?;
    }
    Ok(0)
}

/// Prints tables, and writes them to the document if that is wanted.
fn show(part: &str, text: &str, options: &BenchOptions) -> Result<()> {
    print!("{text}");
    if options.write && !text.is_empty() {
        document::write(part, text)?;
    }
    Ok(())
}

/// Shows the tables of the kernels and machines that are wanted, one after the other; the kernel with
/// every tool is the first.
fn in_lab(options: &BenchOptions) -> Result<()> {
    let binaries = if options.no_build { programs::built() } else { programs::build() }?;
    let mut kernels: Vec<&Series> = kernels::all()
        .iter()
        .filter(|series| options.kernel.as_ref().is_none_or(|wanted| series.name == *wanted))
        .collect();
    ensure!(!kernels.is_empty(), "the kernels of the lab are {}", kernels::names());
    kernels.sort_by_key(|series| series.bench);
    for kernel in kernels {
        for machine in BenchMachine::ALL {
            if options.machine.is_empty() || options.machine.contains(&machine) {
                show(PARTS[0], &on_machine(kernel, machine, &binaries, options)?, options)?;
            }
        }
    }
    Ok(())
}

/// The tables of one kernel on one machine; none if nothing is measured there.
fn on_machine(
    kernel: &Series,
    machine: BenchMachine,
    binaries: &[PathBuf],
    options: &BenchOptions,
) -> Result<String> {
    let cases: Vec<&BenchCase> =
        CASES.iter().filter(|case| wanted(case, machine, kernel, options)).collect();
    if !cases.iter().any(|case| case.part.is_shown()) {
        return Ok(String::new());
    }
    let peers = cases.iter().any(|case| needs_peers(case)).then(|| TOOLS.fetch());
    let (peers, missing) = match peers.transpose() {
        Ok(peers) => (peers, false),
        Err(error) => {
            eprintln!("bench: continuing without other tools: {error:#}");
            (None, true)
        }
    };
    let (lab, ns_per_instruction) = machine.lab(kernel);
    let lab = Lab { binaries: binaries.to_vec(), ..lab };
    let out = boot(lab, kernel, machine, &cases, peers.as_ref())?;
    let run = |case: &&'static BenchCase| {
        let outcome = if missing && needs_peers(case) {
            Err("could not be fetched here".to_owned())
        } else {
            let measured = read(case, &out.join(folder(case)), ns_per_instruction);
            measured.map_err(|error| format!("{error:#}"))
        };
        CaseRun { case, outcome }
    };
    let runs: Vec<CaseRun> = cases.iter().map(run).collect();
    let release = fs::read_to_string(out.join("release")).unwrap_or_default();
    let heading = format!("### {}{}", release.trim(), machine.heading());
    let mut text = format!("{heading}\n\n{}\n", render::tables(&runs));
    // Writing to a String cannot fail.
    if machine == BenchMachine::OneCpu && options.only.is_empty() && has_tracepoint(kernel) {
        let _ = writeln!(text, "{}", goals::goals(kernel, &runs));
    }
    let every_tool = machine == BenchMachine::OneCpu && kernel.bench == MeasuredTools::EveryTool;
    if let Some(peers) = peers.filter(|_| every_tool) {
        let versions = peers.versions.iter().map(|(name, version)| format!("{name} {version}"));
        let (versions, own) = (versions.collect::<Vec<_>>(), env!("CARGO_PKG_VERSION"));
        let _ = writeln!(text, "Tools: {}, collapse {own}.\n", versions.join(", "));
    }
    Ok(text)
}

fn wanted(
    case: &BenchCase,
    machine: BenchMachine,
    kernel: &Series,
    options: &BenchOptions,
) -> bool {
    let named = || options.only.iter().any(|part| case.name.contains(part.as_str()));
    let measured = machine.runs(case, kernel) && (!needs_peers(case) || has_tracepoint(kernel));
    measured && (case.is_needed_always() || options.only.is_empty() || named())
}

/// Whether the kernel has the tracepoint that other tools count.
fn has_tracepoint(kernel: &Series) -> bool {
    kernel.mmu == DefaultMmu::Tdp
}

fn needs_peers(case: &BenchCase) -> bool {
    case.tool.is_peer() || case.part == Part::Check
}

/// The name of a case's folder below `/out`.
fn folder(case: &BenchCase) -> String {
    case.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Runs the cases one after the other in one boot; returns where their files are.
fn boot(
    lab: Lab,
    kernel: &Series,
    machine: BenchMachine,
    cases: &[&BenchCase],
    peers: Option<&Fetched>,
) -> Result<PathBuf> {
    let name = format!("{}-{machine:?}", kernel.name);
    let out = workspace::lab_dir().join("bench").join(&name);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("clearing {}", out.display()))?;
    }
    let commands = scenario::commands().into_iter().chain([("bench", script(cases))]);
    let mut files: Vec<ImageFile> = commands
        .map(|(name, text)| ImageFile {
            path: format!("/bin/{name}"),
            permissions: 0o755,
            content: text.into_bytes(),
        })
        .collect();
    files.extend(peers.into_iter().flat_map(|peers| peers.files.iter().cloned()));
    let lab = Lab { timeout: Some(TIMEOUT), files, out: Some(out.clone()), ..lab };
    let outcome = lab.stream(["bench"])?;
    outcome.explain();
    ensure!(outcome.ending == Ending::Exited(0), "the run {name} did not come to its end");
    Ok(out)
}

/// The script for the lab, which runs every case in a folder of its own.
fn script(cases: &[&BenchCase]) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let calls = cases.iter().map(|case| {
        let words = [&folder(case), case.run, case.after].map(quote);
        format!("run {}\n", words.join(" "))
    });
    let calls: String = calls.collect();
    format!(
        "#!/bin/sh\nuname -r >/out/release\n\
         run() {{\n\
         \x20   echo \"bench: $1\" >&2\n\
         \x20   mkdir \"/out/$1\" && cd \"/out/$1\" || exit 1\n\
         \x20   meter cost tool.json timeout -s KILL 60 sh -c \"$2\" >stdout 2>stderr\n\
         \x20   echo $? >status\n\
         \x20   eval \"$3\" >>stdout 2>>stderr\n\
         }}\n{calls}exit 0\n"
    )
}

/// Reads the files that a case left on a machine on which an instruction takes `ns_per_instruction`.
fn read(case: &BenchCase, folder: &Path, ns_per_instruction: u64) -> Result<Measured> {
    let text = |name: &str| {
        fs::read_to_string(folder.join(name)).with_context(|| format!("it left no {name}"))
    };
    let status = text("status")?;
    if status.trim() != "0" {
        let stderr = text("stderr").unwrap_or_default();
        eprintln!("bench: {} ended with {}: {stderr}", case.name, status.trim());
        anyhow::bail!("ended with status {}", status.trim());
    }
    Ok(Measured {
        tool: json::<MeteredCost>(&text("tool.json")?)?.in_instructions(ns_per_instruction),
        work: json::<MeteredCost>(&text("work.json")?)?.in_instructions(ns_per_instruction),
        phases: text("phases.jsonl")
            .and_then(|phases| scenario::parse(&phases, ns_per_instruction))
            .ok(),
        seen: case.tool.seen(folder),
        perf: text("perf.csv").ok().and_then(|csv| seen::perf(&csv).changes),
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).context("the meter's output")
}
