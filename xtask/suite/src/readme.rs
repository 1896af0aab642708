//! The README's commands: each line of each `sh` block does what it says, or at least succeeds.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Report, Selection};
use crate::build;

const README: &str = include_str!("../../../README.md");

/// Lines of `sh` blocks.
pub fn commands() -> impl Iterator<Item = &'static str> {
    README
        .split("\n```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .flat_map(|(block, _)| block.lines())
}

/// Commands for a host with VMs, without `sudo`; they are tested in the lab.
pub fn on_a_host() -> impl Iterator<Item = &'static str> {
    let line = |line: &'static str| line.strip_prefix("sudo ").unwrap_or(line);
    commands().map(line).filter(|line| line.starts_with("collapse "))
}

/// Runs the commands for a checkout, except the one that runs these tests.
pub fn run(selection: &Selection, report: &mut Report) {
    for command in commands().filter(|line| line.starts_with("cargo ")) {
        let name = format!("readme: {command}");
        if command != "cargo xtask test" && selection.wants(&name) {
            report.timed(&name, || succeeds(command));
        }
    }
}

fn succeeds(command: &str) -> Result<()> {
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(build::workspace())
        .stdin(Stdio::null())
        .output()
        .context("starting a shell")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
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
