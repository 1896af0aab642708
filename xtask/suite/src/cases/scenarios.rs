//! Every other built-in scenario, on every kernel and MMU: the report equals an independent recording and
//! adds up with KVM's own gauges.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use lab::{
    LabOutcome, Series,
    kernels::{self, CpuVendor, Feature, SelectCase},
};

use super::{
    cpus_for, matrix,
    observed::{self, ObservedRun, count, same},
    on,
};
use crate::case::LabCase;

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
workload run 'touch; madvise split; touch; wait-huge; touch' --size 16M --name khugepaged
echo 4294967295 >$thp/scan_sleep_millisecs
echo 1 >$thp/pages_to_scan";

/// All scenarios one after the other in one report, per kernel and MMU; on Intel's CPUs only the race, but
/// for `--all`.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let on_cpu_of = |cpu| matrix(cpu, rarely).map(move |(kernel, kvm)| case(kernel, cpu, kvm));
    let mut cases: Vec<_> = on_cpu_of(CpuVendor::Amd).collect();
    if rarely {
        cases.extend(on_cpu_of(CpuVendor::Intel));
    }
    // With dirty pages logged by the CPU, and by write faults.
    cases.extend(["", "pml=0"].map(race));
    let preempted = || on(SelectCase::CrowdedVcpus, rarely);
    cases.extend(preempted().map(crowded).chain(preempted().map(hardly_seen)));
    cases.extend(
        on(SelectCase::Budget, rarely).flat_map(|kernel| [rare_ioctls(kernel), paused(kernel)]),
    );
    cases
}

/// Two vCPUs on two of Intel's CPUs, which take turns of a few instructions.
fn race(kvm: &str) -> LabCase {
    let kernel = kernels::default();
    let command = ["sh", "/bin/observe.sh", "/out", "workload", "race", "--size", "8M"];
    LabCase {
        cpu: CpuVendor::Intel,
        cpus: 2,
        kvm: kvm.to_owned(),
        files: observed::files(kernel),
        ..LabCase::new("race on two CPUs, against tracefs", kernel, &command, check_race)
    }
}

fn check_race(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    run.against_tracefs()?;
    run.races()?;
    run.trust(kernel)
}

/// Eight vCPUs on one CPU, where the kernel may preempt the program that times faults: nothing else may be
/// skipped for it.
fn crowded(kernel: &'static Series) -> LabCase {
    const COMMAND: [&str; 7] =
        ["sh", "/bin/observe.sh", "/out", "workload", "race", "--vcpus", "8"];
    LabCase {
        cpus: 1,
        timeout: Duration::from_secs(150),
        files: observed::files(kernel),
        ..LabCase::new("more vCPUs than CPUs, against tracefs", kernel, &COMMAND, check_crowded)
    }
}

/// 320 vCPUs that take a fault or two each: every one of them is recognised before its first.
fn hardly_seen(kernel: &'static Series) -> LabCase {
    const LOOP: &str = "for vm in $(seq 40); do workload run 'touch vcpu=all; touch background vcpu=all; \
        hold 60; stop' --vcpus 8 --size 4M; done";
    const COMMAND: [&str; 6] = ["sh", "/bin/observe.sh", "/out", "sh", "-c", LOOP];
    LabCase {
        cpus: 1,
        timeout: Duration::from_secs(150),
        files: observed::files(kernel),
        ..LabCase::new(
            "first faults of many vCPUs, against tracefs",
            kernel,
            &COMMAND,
            check_crowded,
        )
    }
}

/// A guest that is held by its VMM in the middle of its faults, twice, for two seconds each.
fn paused(kernel: &'static Series) -> LabCase {
    const RUN: &str = "workload run 'touch; log-on; touch background; hold 100; pause; hold 2000; resume; \
        hold 100; pause; hold 2000; resume; hold 100; stop; log-off' --size 64M";
    const COMMAND: [&str; 5] = ["sh", "/bin/observe.sh", "/out", "sh", "-c"];
    let command: Vec<_> = COMMAND.into_iter().chain([RUN]).collect();
    LabCase {
        timeout: Duration::from_secs(150),
        files: observed::files(kernel),
        ..LabCase::new(
            "time that a VMM holds its guest is no stall",
            kernel,
            &command,
            check_paused,
        )
    }
}

fn check_paused(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    check_crowded(outcome, kernel)?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    let vm = run.vms().first().context("no VM in the report")?;
    let stall = count(vm, "/stall/total_ns").context("no stall")?;
    let held = Duration::from_secs(2);
    ensure!(
        u128::from(stall) < held.as_nanos(),
        "{stall} ns of stall, {held:?} of which were held"
    );
    Ok(())
}

/// Changes by ioctls that few VMMs use: memory that is mapped in advance by a thread that runs no vCPU, and
/// dirty rings, of which one is full and is reset by the vCPU's own thread.
fn rare_ioctls(kernel: &'static Series) -> LabCase {
    const RUNS: &str = "set -e
        workload run 'pre-fault; touch' --size 16M --name pre-fault
        workload run 'touch; log-on; touch; get-log; touch; get-log; log-off; touch' --size 32M \
            --log-protect ring --name ring";
    const COMMAND: [&str; 6] = ["sh", "/bin/observe.sh", "/out", "sh", "-c", RUNS];
    LabCase {
        timeout: Duration::from_secs(150),
        files: observed::files(kernel),
        ..LabCase::new(
            "pre-faulting and dirty rings, against tracefs",
            kernel,
            &COMMAND,
            check_rare_ioctls,
        )
    }
}

fn check_rare_ioctls(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    check_crowded(outcome, kernel)?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    let of = |name: &str| {
        let vm = run.vms().iter().find(|vm| vm["name"] == name);
        vm.with_context(|| format!("no VM named {name} in the report"))
    };
    let by_cause = |vm, path| count(vm, path).unwrap_or(0);
    let early = of("pre-fault")?;
    same("installs in advance", by_cause(early, "/installs/by_cause/pre_fault"), 8)?;
    let rings = of("ring")?;
    let reset = by_cause(rings, "/write_protects/by_cause/reset_dirty_ring");
    // All pages are read and reset twice; the one that fills a ring is written once more after its reset.
    let expected = 2 * 8192..=2 * 8192 + 16;
    ensure!(expected.contains(&reset), "{reset} write-protects by resets of rings");
    // A ring holds half of the pages, and KVM keeps some entries in reserve.
    ensure!(count(rings, "/ring_full_exits") >= Some(2), "rings were full more often");
    same("rings full without rings", count(early, "/ring_full_exits"), Some(0))?;
    let causes = rings["write_protects"]["by_cause"].as_object().context("no causes")?;
    let causes = causes.keys().map(String::as_str);
    let others: Vec<_> = causes.filter(|cause| *cause != "reset_dirty_ring").collect();
    same("other causes of write-protects", others, vec!["log_protect"])
}

fn check_crowded(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    run.against_tracefs()?;
    run.trust(kernel)
}

fn case(kernel: &'static Series, cpu: CpuVendor, kvm: &str) -> LabCase {
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
    LabCase {
        cpu,
        cpus: cpus_for(cpu, kvm),
        timeout: Duration::from_secs(150),
        kvm: kvm.to_owned(),
        files: observed::files(kernel),
        ..LabCase::new("every scenario, against tracefs", kernel, &command, check)
    }
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    for (scenario, _) in SCENARIOS {
        let reported = run.vms().iter().any(|vm| vm["name"] == scenario);
        ensure!(reported, "no VM named {scenario} in the report");
    }
    let created = run.phases.iter().filter(|phase| phase["phase"] == "create").count();
    same("VMs", run.vms().len(), created)?;
    run.against_tracefs()?;
    run.races()?;
    let eager = run.report["host"]["mmu"] == "tdp" && kernel.has(Feature::EagerSplit);
    for vm in run.vms() {
        causes(vm, eager, kernel).with_context(|| format!("VM {}", vm["name"]))?;
        fates(vm).with_context(|| format!("VM {}", vm["name"]))?;
    }
    run.trust(kernel)
}

/// Fails unless what was taken away, kept small, or given back counts as that.
fn fates(vm: &Value) -> Result<()> {
    /// Regions of 16 MiB.
    const REGIONS: u64 = 8;
    let (lost, taken, small) = match vm["name"].as_str().unwrap_or_default() {
        // Deleted once and moved twice.
        "memslot" => (0, 3 * REGIONS, 0),
        // Copy-on-write copies 4 KiB at a time, and nobody puts them together again.
        "fork-cow" => (REGIONS, 0, REGIONS),
        "dirty-rate" | "two-vms" => (REGIONS, 0, 0),
        _ => return Ok(()),
    };
    same("regions lost", count(vm, "/regions/lost"), Some(lost))?;
    same("regions taken away", count(vm, "/regions/taken_away"), Some(taken))?;
    same("small to the end", count(vm, "/regions/gone_refaulted_small"), Some(small))?;
    let rate = (lost > 0).then(|| (lost - small) as f64 / lost as f64);
    same("recovery rate", vm["recovery_rate"].as_f64(), rate)
}

/// Fails unless splits and zaps have exactly the causes that the scenario gave them. `eager` means that
/// huge pages are split when dirty logging goes on.
fn causes(vm: &Value, eager: bool, kernel: &Series) -> Result<()> {
    const COLLAPSED: &[&str] = &["collapse"];
    let logging: &[&str] = if eager { &["eager_split"] } else { &["guest_fault_logging"] };
    let (splits, zaps): (&[&str], &[&str]) = match vm["name"].as_str().unwrap_or_default() {
        "initially-set" if eager => (&["clear_dirty_log"], COLLAPSED),
        "dirty-rate" | "manual-protect" | "initially-set" | "two-vms" | "pause" | "churn" => {
            (logging, COLLAPSED)
        }
        "madvise" if !kernel.has(Feature::TaskRegisters) => (&[], &["notifier_clear"]),
        "madvise" => {
            (&[], &["notifier_discard", "notifier_discard_small", "notifier_thp_collapse"])
        }
        "khugepaged" if !kernel.has(Feature::TaskRegisters) => {
            (&[], &["notifier_clear", "notifier_thp_collapse"])
        }
        // It is named like the kernel's thread, which must not be mistaken for it.
        "khugepaged" => (&[], &["notifier_discard_small", "notifier_thp_collapse"]),
        "mprotect" | "fork-cow" => (&[], &["notifier_protect"]),
        "memslot" => (&[], &["slot_deleted"]),
        "steady" => (&[], &[]),
        "nx" if !kernel.has(Feature::NxRecoveryPeriod) => (&[], &[]),
        "nx" => (&["guest_fault"], &["nx_recovery"]),
        // Splits and zaps of guest faults depend on the winner of the race.
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
