//! Every other built-in scenario, on every kernel and MMU: whatever happens to the guests, the report
//! equals an independent recording and adds up with KVM's own gauges.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

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

/// Splits executable huge pages, and recovers them soon where the period can be set (5.17 and later;
/// once a minute before).
const NX_FORCED: &str = "\
nx=/sys/module/kvm/parameters
if [ -e $nx/nx_huge_pages_recovery_period_ms ]; then
    echo 100 >$nx/nx_huge_pages_recovery_period_ms
    echo 1 >$nx/nx_huge_pages_recovery_ratio
    echo force >$nx/nx_huge_pages
fi";
const NX_OFF: &str = "echo off >$nx/nx_huge_pages";

/// khugepaged collapses what the scenario splits, and is stopped again.
const KHUGEPAGED: &str = "\
thp=/sys/kernel/mm/transparent_hugepage/khugepaged
echo 10 >$thp/scan_sleep_millisecs
echo 10 >$thp/alloc_sleep_millisecs
echo 65536 >$thp/pages_to_scan
workload run 'touch; madvise split; touch; hold 2000; touch' --size 16M --name khugepaged
echo 4294967295 >$thp/scan_sleep_millisecs
echo 1 >$thp/pages_to_scan";

/// All scenarios one after the other in one report, per kernel and MMU.
pub fn cases() -> Vec<Case> {
    let defaults = TESTED.into_iter().map(|kernel| case(kernel, &[]));
    let others = OTHER_MMUS.into_iter().map(|(kernel, kvm)| case(kernel, &[kvm]));
    defaults.chain(others).chain([crowded(), hardly_seen()]).collect()
}

/// Four vCPUs on one CPU where the kernel preempts programs in the middle of an event: what a program
/// is skipped for then must be seen all the same.
fn crowded() -> Case {
    const COMMAND: [&str; 7] =
        ["sh", "/bin/observe.sh", "/out", "workload", "race", "--vcpus", "4"];
    Case {
        cpus: 1,
        timeout: Duration::from_secs(150),
        files: vec![observed::script()],
        ..Case::new("more vCPUs than CPUs, against tracefs", "7.3", &COMMAND, check_crowded)
    }
}

/// vCPUs that take a fault or two, 320 of them, where the kernel skips programs: for some of them it
/// skips all.
fn hardly_seen() -> Case {
    const LOOP: &str = "for vm in $(seq 40); do workload run 'touch vcpu=all; touch background vcpu=all; \
        hold 60; stop' --vcpus 8 --size 4M; done";
    const COMMAND: [&str; 6] = ["sh", "/bin/observe.sh", "/out", "sh", "-c", LOOP];
    Case {
        cpus: 1,
        timeout: Duration::from_secs(150),
        files: vec![observed::script()],
        ..Case::new(
            "first faults of many vCPUs, against tracefs",
            "7.3",
            &COMMAND,
            check_hardly_seen,
        )
    }
}

fn check_hardly_seen(outcome: &Outcome) -> Result<()> {
    outcome.success()?;
    Run::read(outcome.files.as_deref().context("no files came back")?)?
        .first_faults_against_tracefs()
}

fn check_crowded(outcome: &Outcome) -> Result<()> {
    outcome.success()?;
    let run = Run::read(outcome.files.as_deref().context("no files came back")?)?;
    run.against_tracefs()?;
    run.trust(false)
}

fn case(kernel: &'static str, kvm: &[&str]) -> Case {
    let mut script = "set -e\n".to_owned();
    for (scenario, options) in SCENARIOS {
        let run = format!("workload {scenario} {options} --name {scenario}");
        let _ = match scenario {
            "nx" => writeln!(script, "{NX_FORCED}\n{run}\n{NX_OFF}"),
            _ => writeln!(script, "{run}"),
        };
    }
    let _ = writeln!(script, "{KHUGEPAGED}");
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
    let old = kernel.starts_with("5.10.");
    let eager = run.report["host"]["mmu"] == "tdp" && !old;
    for vm in run.vms() {
        causes(vm, eager, old).with_context(|| format!("VM {}", vm["name"]))?;
    }
    run.trust(old)
}

/// Splits and zaps have the causes that the scenario gave them, and no others. `eager` says whether
/// dirty logging splits when it goes on, `old` means 5.10.
fn causes(vm: &Value, eager: bool, old: bool) -> Result<()> {
    const COLLAPSED: &[&str] = &["collapse"];
    let logging: &[&str] = if eager { &["eager_split"] } else { &["guest_fault_logging"] };
    let (splits, zaps): (&[&str], &[&str]) = match vm["name"].as_str().unwrap_or_default() {
        "initially-set" if eager => (&["clear_dirty_log"], COLLAPSED),
        "dirty-rate" | "manual-protect" | "initially-set" | "two-vms" | "pause" | "churn" => {
            (logging, COLLAPSED)
        }
        "madvise" if old => (&[], &["notifier_clear"]),
        // Khugepaged's is named like the kernel's thread, which must not be mistaken for it.
        "madvise" | "khugepaged" => (&[], &["notifier_clear", "notifier_thp_collapse"]),
        "mprotect" | "fork-cow" => (&[], &["notifier_protect"]),
        "memslot" => (&[], &["slot_deleted"]),
        "steady" => (&[], &[]),
        "nx" if old => (&[], &[]),
        "nx" => (&["guest_fault"], &["nx_recovery"]),
        // What guest faults split and zap here depends on who comes first.
        "race" => return Ok(()),
        name => bail!("no causes are known for {name}"),
    };
    let of = |kind: &str| {
        let causes = vm[kind]["by_cause"].as_object().into_iter().flatten();
        causes.map(|(cause, _)| cause.as_str()).filter(|cause| *cause != "teardown").collect()
    };
    let (split, zapped): (Vec<&str>, Vec<&str>) = (of("splits"), of("zaps"));
    same("causes of splits", split.as_slice(), splits)?;
    same("causes of zaps", zapped.as_slice(), zaps)
}
