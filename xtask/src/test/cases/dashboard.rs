//! The dashboard on a terminal, watching a guest.

use anyhow::{Result, ensure};

use crate::{lab::Outcome, test::lab::Case};

/// A guest whose migrations keep failing, and the dashboard driven through everything it can.
const SCRIPT: &str = "workload failed-migration --loop --quiet --pause 300 >/dev/null 2>&1 & \
                      drive workload '' collapse live --title lab";

/// On the newest kernel with the long-term one's hooks.
pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "the dashboard is driven through every view and ending",
        "6.12",
        &["sh", "-c", SCRIPT],
        check,
    )]
}

fn check(outcome: &Outcome) -> Result<()> {
    let told = String::from_utf8_lossy(&outcome.stdout);
    let passed = told.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(outcome.ending.code() == 0 && passed > 0, "{told}");
    Ok(())
}
