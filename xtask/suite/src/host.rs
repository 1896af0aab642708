//! Tests that need no lab.

use std::{env, iter};

use anyhow::Result;
use base::{CommandExt, packages, workspace};
use lab::{KernelChoice, kernels};

use crate::{report::TestReport, selection::Selection};

/// A name, the component that cargo needs for it with the subcommand, and cargo's arguments.
type HostStep = (&'static str, Option<(&'static str, &'static str)>, &'static [&'static str]);

// The eBPF crate is for another target, and built by the crate that embeds it.
const STEPS: [HostStep; 3] = [
    ("host: formatting", Some(("rustfmt", "fmt")), &["fmt", "--all", "--check"]),
    (
        "host: lints",
        Some(("clippy", "clippy")),
        &[
            "clippy",
            "--quiet",
            "--workspace",
            "--exclude",
            "collapse-ebpf",
            "--all-targets",
            "--",
            "-Dwarnings",
        ],
    ),
    ("host: unit tests", None, &["test", "--quiet", "--workspace", "--exclude", "collapse-ebpf"]),
];

/// Runs the wanted tests.
pub fn run(selection: &Selection, report: &mut TestReport) {
    for (name, component, arguments) in STEPS {
        if !selection.wants(name) {
            continue;
        }
        match component {
            Some((component, subcommand))
                if !workspace::ensure_component(component, subcommand) =>
            {
                println!("{:6} {name}: cargo has no {subcommand} here", "skip");
            }
            _ => report.timed(name, || workspace::cargo().args(arguments).run()),
        }
    }
    if selection.wants(PROMETHEUS) {
        report.timed(PROMETHEUS, prometheus);
    }
    // Everything is built twice, and the tools as well the first time.
    if selection.all && selection.wants(PACKAGES) {
        report.timed(PACKAGES, packages);
    }
}

const PROMETHEUS: &str = "host: metrics, rules and dashboard in a real Prometheus";

fn prometheus() -> Result<()> {
    let mut tests = workspace::cargo();
    tests.args([
        "test",
        "--quiet",
        "-p",
        "collapse-user",
        "--test",
        "prometheus",
        "--",
        "--ignored",
    ]);
    if let Some(programs) = packages::unpacked("prometheus", "promtool")? {
        let path = env::var_os("PATH").unwrap_or_default();
        let path = iter::once(programs).chain(env::split_paths(&path));
        tests.env("PATH", env::join_paths(path)?);
    }
    tests.run()
}

const PACKAGES: &str = "host: packages, the same wherever they are built, come, work and go";

fn packages() -> Result<()> {
    let kernel = KernelChoice::Series(kernels::default().name.to_owned()).resolve()?;
    dist::check::run(&kernel.vmlinuz)
}
