//! The life of huge pages through a failed migration, on every kernel and MMU: the report against
//! the workload's own account and against an independent tracefs recording of the same run, and then
//! what `collapse selftest` says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    observed::{self, Run, count, same},
    selftest,
    timeline::timeline,
};
use crate::{
    lab::{Outcome, TESTED},
    test::lab::Case,
};

/// Kernels and parameters beside the defaults.
pub const OTHER_MMUS: [(&str, &str); 7] = [
    ("5.10", "tdp_mmu=Y"),
    ("6.1", "tdp_mmu=N"),
    ("6.12", "tdp_mmu=N"),
    ("6.18", "tdp_mmu=N"),
    ("7.3", "tdp_mmu=N"),
    ("6.1", "npt=0"),
    ("6.12", "npt=0"),
];

/// 2 MiB regions of the guest.
const REGIONS: u64 = 32;

/// What the selftest's exit status says is in its verdict, too.
const SCRIPT: &str = "
    sh /bin/observe.sh /out workload failed-migration || exit $?
    collapse selftest --format json >/out/selftest.json || true";

/// The scenario on every kernel with its default MMU, and on the other MMUs.
pub fn cases() -> Vec<Case> {
    let defaults = TESTED.into_iter().map(|kernel| case(kernel, &[]));
    defaults.chain(OTHER_MMUS.into_iter().map(|(kernel, kvm)| case(kernel, &[kvm]))).collect()
}

fn case(kernel: &'static str, kvm: &[&str]) -> Case {
    Case {
        // Two CPUs where the emulator is at its steadiest.
        cpus: if kvm.is_empty() { 2 } else { 1 },
        timeout: Duration::from_mins(3),
        kvm: kvm.iter().map(ToString::to_string).collect(),
        files: vec![observed::script()],
        ..Case::new(
            "failed-migration, against workload and tracefs",
            kernel,
            &["sh", "-c", SCRIPT],
            check,
        )
    }
}

fn check(outcome: &Outcome) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    outcome.success()?;
    selftest::judge(files)?;
    let run = Run::read(files)?;
    let vms = run.report["vms"].as_array().context("no VMs in the report")?;
    same("VMs", vms.len(), 1)?;
    let vm = &vms[0];
    let old = run.report["host"]["kernel"].as_str().is_some_and(|name| name.starts_with("5.10."));
    let tdp = run.report["host"]["mmu"] == "tdp";
    identity(&run, vm)?;
    run.against_tracefs()?;
    same("recoveries in place", count(vm, "/recoveries/in_place"), Some(run.oracle.recovers))?;
    against_workload(&run, vm, old, tdp)?;
    timeline(&run, vm, REGIONS)?;
    run.trust(old)
}

fn identity(run: &Run, vm: &Value) -> Result<()> {
    same("pid", &vm["pid"], &run.header["pid"])?;
    same("tid", &vm["tid"], &run.header["vms"][0]["tid"])?;
    same("fd", &vm["fd"], &run.header["vms"][0]["fd"])?;
    same("name", &vm["name"], &Value::from("workload"))?;
    same("created", &vm["created"], &Value::from(true))?;
    same("gone", &vm["gone"], &Value::from(true))
}

fn against_workload(run: &Run, vm: &Value, old: bool, tdp: bool) -> Result<()> {
    let slot = &run.header["vms"][0]["slots"][1];
    let pages = count(slot, "/pages").context("no slot in the header")?;
    let regions = pages / 512;
    same("regions", regions, REGIONS)?;
    let eager = tdp && !old;
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

    let off = run.phase("log-off")?;
    let span = &vm["collapse_spans"][0];
    for what in ["installs_4k", "installs_2m", "read_only_4k", "read_only_2m"] {
        same("races with a guest at rest", count(&span["race"], &format!("/{what}")), Some(0))?;
    }
    same("slot", &span["slot"]["id"], &slot["id"])?;
    same("slot's first frame", &span["slot"]["base_gfn"], &slot["base_gfn"])?;
    same("slot's size", count(span, "/slot/npages"), Some(pages))?;
    same("zapped in the span", count(span, "/zapped_4k"), Some(pages))?;
    let start = count(span, "/start_ns").context("no start")?;
    let end = start + count(span, "/duration_ns").context("no duration")?;
    let within = count(off, "/t_start_ns") <= Some(start) && Some(end) <= count(off, "/t_end_ns");
    ensure!(within, "the collapse span {start} to {end} is not inside the phase {off}");
    if old {
        return Ok(());
    }
    same("gauges before the span", &span["pages_before"], &off["pages_before"])?;
    same("gauges after the span", &span["pages_after"], &off["pages_after"])?;
    same("gauges before teardown", &vm["pages"]["end"], &run.phase("destroy")?["pages_before"])?;
    let taken: Option<u64> =
        run.phases.iter().map(|p| Some(count(p, "/faults/taken").unwrap_or(0))).sum();
    same("faults by KVM's own counter", count(vm, "/faults/total"), taken)
}
