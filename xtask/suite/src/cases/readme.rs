//! The README's commands for a real host, on one.

use anyhow::{Context, Result, ensure};
use lab::{LabOutcome, Series, kernels};

use crate::{case::LabCase, readme};

/// All in one boot, beside a guest. Commands that run until Ctrl-C get one.
pub fn cases() -> Vec<LabCase> {
    let run = |line| match line {
        "collapse live" => format!("timeout -s INT 20 {line} || exit $?"),
        _ => format!("{line} || exit $?"),
    };
    let commands: Vec<_> = readme::on_a_host().map(run).collect();
    let script = format!(
        "cd /out; workload failed-migration --loop --quiet --name guest & sleep 1\n{}\nkill %1",
        commands.join("\n")
    );
    vec![LabCase {
        cpus: 1,
        ..LabCase::new(
            "the README's commands for a host",
            kernels::default(),
            &["sh", "-c", &script],
            check,
        )
    }]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    for part in [
        "ok  tdp_changes",
        "name=guest",
        "\nguest (pid ",
        "command: sleep 3 (exited with 0)",
        " 0 failed, 0 skipped\n",
    ] {
        ensure!(stdout.contains(part), "no {part:?} in {stdout}");
    }
    let files = outcome.files.as_deref().context("no files came back")?;
    ensure!(files.join("report.json").exists(), "no report.json");
    Ok(())
}
