//! What the host and the VMM do to guest memory outside dirty logging: each has its own cause, as an independent
//! recording confirms, and the findings that it should have and no others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{LabOutcome, Series, kernels::SelectCase};
use serde_json::Value;

use super::{
    observed::{self, ObservedRun, same},
    on,
};
use crate::case::LabCase;

/// Guests, what the host does to each, and what should come of it.
const GUESTS: [Guest; 7] = [
    Guest {
        name: "migrated",
        options: "--backing 4k --size 8M",
        scenario: "touch; madvise soft-offline from=0 size=64K; touch",
        zapped_by: &["notifier_migrate"],
        findings: &[],
    },
    Guest {
        name: "reported",
        options: "--size 16M",
        scenario: "touch; repeat 2 { madvise dontneed; touch }",
        zapped_by: &["notifier_discard"],
        findings: &[],
    },
    Guest {
        name: "ballooned",
        options: "--size 16M",
        scenario: "touch; madvise split; touch",
        zapped_by: &["notifier_discard_small"],
        findings: &["given_back_small"],
    },
    Guest {
        name: "thrashed",
        options: "--size 16M",
        scenario: "touch; repeat 6 { mprotect none; mprotect rw; touch }",
        zapped_by: &["notifier_protect"],
        findings: &["host_thrashes"],
    },
    Guest {
        name: "protected",
        options: "--size 16M",
        scenario: "touch; repeat 2 { mprotect none; mprotect rw; touch }",
        zapped_by: &["notifier_protect"],
        findings: &[],
    },
    Guest {
        name: "churned",
        options: "--size 16M --slots 2",
        scenario: "touch; repeat 8 { slot-delete slot=2; touch slot=1; slot-add slot=2; touch }",
        zapped_by: &["slot_deleted"],
        findings: &["memslot_churn"],
    },
    Guest {
        name: "periodic",
        options: "--size 16M",
        scenario: "touch; repeat 4 { log-on; touch; get-log; touch; log-off; touch }",
        zapped_by: &[],
        findings: &["logged_periodically"],
    },
];

struct Guest {
    name: &'static str,
    options: &'static str,
    scenario: &'static str,
    /// Causes of zaps but for the collapse routine and the VM's end.
    zapped_by: &'static [&'static str],
    findings: &'static [&'static str],
}

/// All guests in one boot, on each kernel.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    on(SelectCase::HostWork, rarely).map(case).collect()
}

fn case(kernel: &'static Series) -> LabCase {
    let runs: Vec<_> = GUESTS
        .iter()
        .map(|Guest { name, options, scenario, .. }| {
            format!("workload run '{scenario}' {options} --name {name}")
        })
        .collect();
    let runs = format!("set -e\n{}", runs.join("\n"));
    LabCase {
        timeout: Duration::from_mins(4),
        files: observed::files(kernel),
        ..LabCase::new(
            "work of the host, against tracefs",
            kernel,
            &["sh", "/bin/observe.sh", "/out", "sh", "-c", &runs],
            check,
        )
    }
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    run.against_tracefs()?;
    for guest in &GUESTS {
        let vm = run.vms().iter().find(|vm| vm["name"] == guest.name);
        let vm = vm.with_context(|| format!("no VM named {} in the report", guest.name))?;
        guest.check(vm).with_context(|| format!("VM {}", guest.name))?;
    }
    run.trust(kernel)
}

impl Guest {
    fn check(&self, vm: &Value) -> Result<()> {
        let causes = vm["zaps"]["by_cause"].as_object().context("no causes")?;
        let causes = causes.keys().map(String::as_str);
        // Where it rebuilds huge pages in place, the collapse routine zaps nothing.
        let causes: Vec<_> =
            causes.filter(|cause| !matches!(*cause, "teardown" | "collapse")).collect();
        same("causes of zaps", causes.as_slice(), self.zapped_by)?;
        let findings = vm["findings"].as_array().context("no findings")?;
        let names: Vec<_> = findings.iter().filter_map(|found| found["name"].as_str()).collect();
        same("findings", names.as_slice(), self.findings)?;
        let complete = |found: &Value| {
            let numbers = found["evidence"].as_array().is_some_and(|numbers| !numbers.is_empty());
            numbers && found["knobs"].as_array().is_some_and(|knobs| !knobs.is_empty())
        };
        ensure!(
            findings.iter().all(complete),
            "a finding without evidence or remedy: {findings:?}"
        );
        Ok(())
    }
}
