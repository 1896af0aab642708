//! The life of huge pages through a failed migration, on every kernel and MMU: the report against
//! the workload's own account and against an independent tracefs recording of the same run, and then the
//! verdict of `collapse selftest`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{
    LabOutcome, Series,
    kernels::{CollapseRoutine, CpuVendor, Feature},
};

use super::{
    cpus_for, matrix,
    observed::{self, ObservedRun, count, same},
    selftest,
    timeline::timeline,
};
use crate::case::LabCase;

/// The least number of 2 MiB regions of the guest.
const REGIONS: u64 = 8;

/// The scenario on every kernel with its default MMU, and on the other MMUs, of every vendor.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let of = |cpu| matrix(cpu, rarely).map(move |(kernel, kvm)| case(kernel, cpu, kvm));
    CpuVendor::ALL.into_iter().flat_map(of).collect()
}

fn case(kernel: &'static Series, cpu: CpuVendor, kvm: &str) -> LabCase {
    // Bochs takes several times as long as QEMU.
    let size = if cpu == CpuVendor::Intel { "16M" } else { "64M" };
    // The selftest's exit status is in its verdict, too.
    let script = format!(
        "sh /bin/observe.sh /out workload failed-migration --size {size} || exit $?\n\
         collapse selftest --format json >/out/selftest.json || true"
    );
    LabCase {
        cpu,
        cpus: cpus_for(cpu, kvm),
        timeout: Duration::from_mins(3),
        kvm: kvm.to_owned(),
        files: observed::files(kernel),
        ..LabCase::new(
            "failed-migration, against workload and tracefs",
            kernel,
            &["sh", "-c", &script],
            check,
        )
    }
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    outcome.success()?;
    selftest::judge(files, kernel)?;
    let run = ObservedRun::read(files)?;
    let vms = run.report["vms"].as_array().context("no VMs in the report")?;
    same("VMs", vms.len(), 1)?;
    let vm = &vms[0];
    let tdp = run.report["host"]["mmu"] == "tdp";
    let pages = count(&run.header["vms"][0]["slots"][1], "/pages").context("no slot")?;
    let regions = pages / 512;
    ensure!(regions >= REGIONS, "a guest of {regions} regions is too small");
    identity(&run, vm)?;
    run.against_tracefs()?;
    // Where the routine zaps, 5.10's TDP MMU leaves empty page tables behind, which the next faults
    // replace in place.
    same("recoveries in place", count(vm, "/recoveries/in_place"), Some(run.oracle.recovers))?;
    if tdp && kernel.collapse == CollapseRoutine::Rebuilds {
        same("recoveries in place in tracefs", run.oracle.recovers, regions)?;
    }
    against_workload(&run, vm, kernel, tdp)?;
    exits_for_a_full_log(&run, vm, pages)?;
    timeline(&run, vm, regions)?;
    run.trust(kernel)
}

fn identity(run: &ObservedRun, vm: &Value) -> Result<()> {
    same("pid", &vm["pid"], &run.header["pid"])?;
    same("tid", &vm["tid"], &run.header["vms"][0]["tid"])?;
    same("fd", &vm["fd"], &run.header["vms"][0]["fd"])?;
    same("name", &vm["name"], &Value::from("workload"))?;
    same("created", &vm["created"], &Value::from(true))?;
    same("gone", &vm["gone"], &Value::from(true))
}

fn against_workload(run: &ObservedRun, vm: &Value, kernel: &Series, tdp: bool) -> Result<()> {
    let slot = &run.header["vms"][0]["slots"][1];
    let pages = count(slot, "/pages").context("no slot in the header")?;
    let regions = pages / 512;
    let eager = tdp && kernel.has(Feature::EagerSplit);
    let cause = if eager { "eager_split" } else { "guest_fault_logging" };
    same("splits", count(vm, "/splits/total"), Some(regions))?;
    same("splits by cause", count(vm, &format!("/splits/by_cause/{cause}")), Some(regions))?;
    same("zaps by the collapse routine", count(vm, "/zaps/by_cause/collapse"), Some(pages))?;
    same("regions lost", count(vm, "/regions/lost"), Some(regions))?;
    same("regions recovered", count(vm, "/recoveries/total"), Some(regions))?;
    same("recovery rate", vm["recovery_rate"].as_f64(), Some(1.0))?;
    same("log on", count(vm, "/log_on"), Some(1))?;
    same("log off", count(vm, "/log_off"), Some(1))?;
    same("collapse runs", count(vm, "/collapse_runs"), Some(1))?;

    against_span(run, vm, slot)?;
    if kernel.has_gauges() {
        let (off, span) = (run.phase("log-off")?, &vm["collapse_spans"][0]);
        same("gauges before the span", &span["pages_before"], &off["pages_before"])?;
        same("gauges after the span", &span["pages_after"], &off["pages_after"])?;
        let destroy = run.phase("destroy")?;
        same("gauges before teardown", &vm["pages"]["end"], &destroy["pages_before"])?;
    }
    if kernel.has(Feature::FaultCounter) {
        let taken: Option<u64> =
            run.phases.iter().map(|p| Some(count(p, "/faults/taken").unwrap_or(0))).sum();
        same("faults by KVM's own counter", count(vm, "/faults/total"), taken)?;
    }
    Ok(())
}

/// Where the CPU logs, each of the guest's rounds fills its log of 512 pages again and again, and all of that belongs
/// to the one episode.
fn exits_for_a_full_log(run: &ObservedRun, vm: &Value, pages: u64) -> Result<()> {
    if run.report["host"]["pml"] != true {
        return Ok(());
    }
    let exits = count(vm, "/pml_full_exits/total").context("no PML-full exits")?;
    let least = pages / 512 / 2;
    ensure!(exits >= least, "{exits} PML-full exits, at least {least} expected");
    let of_episode = &vm["episodes"][0]["cost"]["pml_full"];
    same("PML-full exits of the episode", of_episode, &vm["pml_full_exits"])
}

/// The one run of the collapse routine is that of the workload's slot.
fn against_span(run: &ObservedRun, vm: &Value, slot: &Value) -> Result<()> {
    let pages = count(slot, "/pages");
    let off = run.phase("log-off")?;
    let span = &vm["collapse_spans"][0];
    for installs in ["installs_4k", "installs_2m", "read_only_4k", "read_only_2m"] {
        let raced = count(&span["race"], &format!("/{installs}"));
        same("races with a guest at rest", raced, Some(0))?;
    }
    same("slot", &span["slot"]["id"], &slot["id"])?;
    same("slot's first frame", &span["slot"]["base_gfn"], &slot["base_gfn"])?;
    same("slot's size", count(span, "/slot/npages"), pages)?;
    same("zapped in the span", count(span, "/zapped_4k"), pages)?;
    let start = count(span, "/start_ns").context("no start")?;
    let end = start + count(span, "/duration_ns").context("no duration")?;
    let within = count(off, "/t_start_ns") <= Some(start) && Some(end) <= count(off, "/t_end_ns");
    ensure!(within, "the collapse span {start} to {end} is not inside the phase {off}");
    Ok(())
}
