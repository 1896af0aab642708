//! Every other built-in scenario, on every kernel and MMU: whatever happens to the guests, the report
//! equals an independent recording and adds up with KVM's own gauges.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    failed_migration::OTHER_MMUS,
    observed::{self, Run, same},
};
use crate::{
    lab::{Outcome, TESTED},
    test::lab::Case,
};

/// Scenarios and their options. Small guests: the counts matter, not the amount.
const SCENARIOS: [(&str, &str); 13] = [
    ("dirty-rate", "--size 16M"),
    ("madvise", "--size 16M"),
    ("mprotect", "--size 16M"),
    ("memslot", "--size 16M"),
    ("fork-cow", "--size 16M"),
    ("manual-protect", "--size 16M"),
    ("initially-set", "--size 16M"),
    ("nx", "--size 16M"),
    ("two-vms", "--size 16M"),
    ("pause", "--size 16M"),
    ("steady", "--size 16M"),
    ("race", "--size 32M"),
    ("churn", "--size 8M --iterations 3"),
];

/// All scenarios one after the other in one report, per kernel and MMU.
pub fn cases() -> Vec<Case> {
    let defaults = TESTED.into_iter().map(|kernel| case(kernel, &[]));
    defaults.chain(OTHER_MMUS.into_iter().map(|(kernel, kvm)| case(kernel, &[kvm]))).collect()
}

fn case(kernel: &'static str, kvm: &[&str]) -> Case {
    let mut script = "set -e\n".to_owned();
    for (scenario, options) in SCENARIOS {
        let _ = writeln!(script, "workload {scenario} {options} --name {scenario}");
    }
    let command = ["sh", "/bin/observe.sh", "/out", "sh", "-c", &script];
    Case {
        // Two CPUs where the emulator is at its steadiest.
        cpus: if kvm.is_empty() { 2 } else { 1 },
        timeout: Duration::from_secs(150),
        kvm: kvm.iter().map(ToString::to_string).collect(),
        files: vec![observed::script()],
        ..Case::new("every scenario, against tracefs", kernel, &command, check)
    }
}

fn check(outcome: &Outcome) -> Result<()> {
    outcome.success()?;
    let run = Run::read(outcome.files.as_deref().context("no files came back")?)?;
    for (scenario, _) in SCENARIOS {
        let reported = run.vms().iter().any(|vm| vm["name"] == scenario);
        ensure!(reported, "no VM named {scenario} in the report");
    }
    let created = run.phases.iter().filter(|phase| phase["phase"] == "create").count();
    same("VMs", run.vms().len(), created)?;
    run.against_tracefs()?;
    run.races()?;
    let kernel = run.report["host"]["kernel"].as_str().unwrap_or_default();
    run.trust(kernel.starts_with("5.10."))
}
