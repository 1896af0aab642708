//! `cargo xtask bench`: what observing costs, tool by tool, in executed instructions.

mod cases;
mod document;
mod figures;
mod goals;
mod host;
mod peers;
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
use clap::Args;
use serde::de::DeserializeOwned;

use crate::{
    build,
    lab::{Choice, Ending, ImageFile, Lab},
    setup, vm,
};
use cases::{CASES, Case, Part};
use figures::Measured;
use peers::Peers;
use render::Ran;

/// Kernels, and whether all tools are run on them.
const KERNELS: [(&str, bool); 3] = [("6.12", true), ("6.1", false), ("7.3", false)];
/// A boot with all cases.
const TIMEOUT: Duration = Duration::from_hours(1);
/// The parts of the document with what the machine pays, and with what user space takes.
const PARTS: [&str; 2] = ["lab", "host"];

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Only on this kernel series
    #[arg(long)]
    kernel: Option<String>,
    /// Only cases with this in their names, besides the runs without tracing; may be repeated
    #[arg(long, value_name = "PART OF A NAME")]
    only: Vec<String>,
    /// Measure user space on this machine instead, without a kernel
    #[arg(long, conflicts_with_all = ["kernel", "only", "no_build"])]
    host: bool,
    /// Put the tables into docs/cost.md, too
    #[arg(long, conflicts_with_all = ["kernel", "only"])]
    write: bool,
    /// Take the binaries as they were last built
    #[arg(long)]
    no_build: bool,
}

/// Measures, prints the tables and returns the exit code.
pub fn run(options: &Options) -> Result<i32> {
    setup::ensure_ready()?;
    let (part, text) =
        if options.host { (PARTS[1], host::run()?) } else { (PARTS[0], in_lab(options)?) };
    print!("{text}");
    if options.write {
        document::write(part, &text)?;
    }
    Ok(0)
}

/// All kernels' tables.
fn in_lab(options: &Options) -> Result<String> {
    let mut binaries =
        if options.no_build { build::existing_binaries() } else { build::static_binaries() }?;
    binaries.push(build::static_binary("meter")?);
    let own = options.kernel.as_deref().map(|kernel| [(kernel, kernel == KERNELS[0].0)]);
    let kernels = own.as_ref().map_or(&KERNELS[..], |own| &own[..]);
    let mut text = String::new();
    for (kernel, in_full) in kernels {
        let cases: Vec<&Case> =
            CASES.iter().filter(|case| wanted(case, *in_full, options)).collect();
        let peers = cases.iter().any(|case| needs_peers(case)).then(Peers::fetch);
        let (peers, missing) = match peers.transpose() {
            Ok(peers) => (peers, false),
            Err(error) => {
                eprintln!("bench: going on without other tools: {error:#}");
                (None, true)
            }
        };
        let out = boot(kernel, &binaries, &cases, peers.as_ref())?;
        let runs: Vec<Ran> = cases
            .iter()
            .map(|case| {
                let outcome = if missing && needs_peers(case) {
                    Err("could not be fetched here".to_owned())
                } else {
                    read(case, &out.join(folder(case))).map_err(|error| format!("{error:#}"))
                };
                Ran { case, outcome }
            })
            .collect();
        let release = fs::read_to_string(out.join("release")).unwrap_or_default();
        let _ = write!(text, "### {}\n\n{}\n", release.trim(), render::tables(&runs));
        if *in_full && options.only.is_empty() {
            let _ = writeln!(text, "{}", goals::goals(&runs));
        }
        if let Some(peers) = peers.filter(|_| *in_full) {
            let versions = peers.versions.iter().map(|(name, version)| format!("{name} {version}"));
            let versions: Vec<String> = versions.collect();
            let _ = writeln!(
                text,
                "Tools: {}, collapse {}.\n",
                versions.join(", "),
                env!("CARGO_PKG_VERSION")
            );
        }
    }
    Ok(text)
}

fn wanted(case: &Case, in_full: bool, options: &Options) -> bool {
    let named = || options.only.iter().any(|part| case.name.contains(part.as_str()));
    let always = matches!(case.part, Part::WarmUp | Part::Base);
    always || (in_full || case.everywhere) && (options.only.is_empty() || named())
}

fn needs_peers(case: &Case) -> bool {
    case.tool.is_peer() || case.part == Part::Check
}

/// The folder of a case below `/out`.
fn folder(case: &Case) -> String {
    case.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Runs the cases one after the other in one boot; returns where their files are.
fn boot(
    kernel: &str,
    binaries: &[PathBuf],
    cases: &[&Case],
    peers: Option<&Peers>,
) -> Result<PathBuf> {
    let out = build::lab_dir().join("bench").join(kernel);
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
    let lab = Lab {
        cpus: 1,
        icount: true,
        memory: "4G".to_owned(),
        timeout: Some(TIMEOUT),
        files,
        out: Some(out.clone()),
        ..Lab::new(Choice::Series(kernel.to_owned()), binaries.to_vec())
    };
    let outcome = lab.stream(["bench"])?;
    vm::explain(&outcome);
    ensure!(outcome.ending == Ending::Exited(0), "the run on {kernel} did not come to its end");
    Ok(out)
}

/// What the lab runs: every case in a folder of its own.
fn script(cases: &[&Case]) -> String {
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

/// What a case left.
fn read(case: &Case, folder: &Path) -> Result<Measured> {
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
        tool: json(&text("tool.json")?)?,
        work: json(&text("work.json")?)?,
        phases: text("phases.jsonl").and_then(|phases| scenario::parse(&phases)).ok(),
        seen: case.tool.seen(folder),
        perf: text("perf.csv").ok().and_then(|csv| seen::perf(&csv).changes),
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).context("what the meter wrote")
}
