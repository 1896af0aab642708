//! The dashboard on a terminal, watching a guest.

use std::time::Duration;

use anyhow::{Result, ensure};

use lab::{
    LabOutcome, Series,
    kernels::{self, CpuVendor},
};

use crate::case::LabCase;

/// A guest whose migrations keep failing, and the dashboard driven through all of its functions.
const SCRIPT: &str = "workload failed-migration --loop --quiet --pause 300 >/dev/null 2>&1 & \
                      drive workload '' collapse live --title lab";

/// One boot of each vendor's CPU, Intel's for `--all`, in which hooks are attached and detached some ten times. On
/// one CPU: with two, that often makes the emulator run a stale breakpoint.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let name = "the dashboard is driven through every view and ending";
    let case = |cpu| LabCase {
        cpu,
        cpus: 1,
        timeout: Duration::from_mins(12),
        ..LabCase::new(name, kernels::default(), &["sh", "-c", SCRIPT], check)
    };
    CpuVendor::ALL.into_iter().filter(|cpu| *cpu == CpuVendor::Amd || rarely).map(case).collect()
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let steps = String::from_utf8_lossy(&outcome.stdout);
    let passed = steps.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(outcome.ending.code() == 0 && passed > 0, "{steps}");
    Ok(())
}
