//! The commands of the README and of what it leads on to: each line of each `sh` block succeeds.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use base::workspace;
use lab::programs;

use crate::{report::TestReport, selection::Selection};

const DOCUMENTS: [&str; 2] =
    [include_str!("../../../README.md"), include_str!("../../../docs/usage.md")];

/// The lines of all `sh` blocks.
pub fn commands() -> impl Iterator<Item = &'static str> {
    let blocks = DOCUMENTS.iter().flat_map(|text| text.split("\n```sh\n").skip(1));
    blocks.filter_map(|rest| rest.split_once("\n```")).flat_map(|(block, _)| block.lines())
}

/// Commands for a host with VMs, without `sudo`. They are tested in the lab.
pub fn on_a_host() -> impl Iterator<Item = &'static str> {
    let line = |line: &'static str| line.strip_prefix("sudo ").unwrap_or(line);
    commands().map(line).filter(|line| line.starts_with("collapse "))
}

/// Runs the commands for a checkout, except `cargo xtask test` itself.
pub fn run(selection: &Selection, report: &mut TestReport) {
    for command in commands().filter(|line| line.starts_with("cargo ")) {
        let name = format!("readme: {command}");
        if command != "cargo xtask test" && selection.wants(&name) {
            report.timed(&name, || succeeds(command));
        }
    }
}

fn succeeds(command: &str) -> Result<()> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(workspace::root()).stdin(Stdio::null());
    if command.starts_with("cargo build ") {
        // Most of it has been built for the lab, which saves minutes.
        programs::make_static(&mut shell);
    }
    let output = shell.output().context("starting a shell")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {stderr}", output.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_tested() {
        let lines: Vec<_> = commands().collect();
        assert!(lines.contains(&"cargo xtask demo"));
        for line in lines {
            let command = line.strip_prefix("sudo ").unwrap_or(line);
            assert!(["cargo ", "collapse "].iter().any(|it| command.starts_with(it)), "{line}");
        }
    }
}
