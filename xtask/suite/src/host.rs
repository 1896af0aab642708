//! Tests that need no lab.

use std::{path::Path, process::Command};

use base::{CommandExt, workspace};

use crate::{report::TestReport, selection::Selection};

// The eBPF crate is for another target, and built by the crate that embeds it.
const PACKAGES: [&str; 3] = ["--workspace", "--exclude", "collapse-ebpf"];

const FORMATTING: &str = "host: formatting";
const LINTS: &str = "host: lints";
const UNIT_TESTS: &str = "host: unit tests";

/// Runs the wanted tests.
pub fn run(selection: &Selection, report: &mut TestReport) {
    if selection.wants(FORMATTING) && has(FORMATTING, "rustfmt", "fmt") {
        let mut format = workspace::cargo();
        report.timed(FORMATTING, || format.args(["fmt", "--all", "--check"]).run());
    }
    let mut is_linted = false;
    if selection.wants(LINTS) && has(LINTS, "clippy", "clippy") {
        report.timed(LINTS, || {
            let built = linting(&mut workspace::cargo())
                .args(["test", "--quiet", "--no-run", "--all-targets"])
                .args(PACKAGES)
                .run();
            is_linted = built.is_ok();
            built
        });
    }
    if selection.wants(UNIT_TESTS) {
        let mut tests = workspace::cargo();
        if is_linted {
            linting(&mut tests);
        }
        report.timed(UNIT_TESTS, || tests.args(["test", "--quiet"]).args(PACKAGES).run());
    }
}

/// Makes a cargo command lint what it builds, and fail at warnings: as `cargo clippy -- -Dwarnings` does,
/// but with results that can be run, so that lints and tests are one build.
fn linting(cargo: &mut Command) -> &mut Command {
    let beside = Path::new(cargo.get_program()).with_file_name("clippy-driver");
    let driver = if beside.is_file() { beside } else { "clippy-driver".into() };
    cargo.env("RUSTC_WORKSPACE_WRAPPER", driver).env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")
}

/// Makes sure that cargo has a component; prints that a test is skipped where it has not.
fn has(test: &str, component: &str, subcommand: &str) -> bool {
    let present = workspace::ensure_component(component, subcommand);
    if !present {
        println!("{:6} {test}: cargo has no {subcommand} here", "skip");
    }
    present
}
