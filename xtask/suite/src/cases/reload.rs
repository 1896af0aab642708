//! Changes around `collapse`: the kernel accepts the programs, `collapse` starts in the middle of an
//! episode, and KVM is unloaded and loaded again.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use lab::{
    ImageFile, LabOutcome, Series,
    kernels::{self, CpuVendor, Feature},
};

use super::observed::{count, same};
use crate::case::LabCase;

/// Pages and regions of the workload's slot.
const PAGES: u64 = 4096;
const REGIONS: u64 = 8;

/// All of it in one boot per kernel; on Intel's CPUs for `--all`.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/reload.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("reload.sh").to_vec(),
    };
    let case = |cpu, kernel| LabCase {
        cpu,
        cpus: 1,
        timeout: Duration::from_mins(4),
        files: vec![script.clone()],
        ..LabCase::new(
            "programs accepted, started in mid-episode, KVM reloaded",
            kernel,
            &["sh", "/bin/reload.sh"],
            check,
        )
    };
    let of = |cpu| kernels::all().iter().map(move |kernel| case(cpu, kernel));
    let amd = of(CpuVendor::Amd);
    if rarely { amd.chain(of(CpuVendor::Intel)).collect() } else { amd.collect() }
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let status = String::from_utf8_lossy(&outcome.stdout);
    doctor(&read(files, "doctor.json")?, status.trim(), kernel).context("doctor")?;
    middle(files, kernel).context("started in the middle of an episode")?;
    reloads(files, kernel).context("KVM reloaded")?;
    waits(files).context("KVM unloaded")
}

fn read(files: &Path, name: &str) -> Result<Value> {
    let text = fs::read(files.join(name)).with_context(|| format!("reading {name}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{name} is no JSON"))
}

/// The workload's lines of one kind.
fn account(files: &Path, name: &str, kind: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(files.join(format!("{name}.jsonl")))?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line["kind"] == kind).collect())
}

/// Signals in a coverage list that are not seen.
fn missing(coverage: &Value) -> Vec<&str> {
    let signals = coverage.as_array().map_or(&[][..], Vec::as_slice);
    let missing = signals.iter().filter(|signal| signal["seen"] == false);
    missing.filter_map(|signal| signal["signal"].as_str()).collect()
}

fn doctor(doctor: &Value, status: &str, kernel: &Series) -> Result<()> {
    let unseen = kernel.unseen_signals;
    same("exit status", status, if unseen.is_empty() { "0" } else { "123" })?;
    same("signals not seen", missing(&doctor["coverage"]).as_slice(), unseen)?;
    let check = &doctor["check"];
    let hooks = check["hooks"].as_array().context("no hooks were tried")?;
    for hook in hooks {
        ensure!(hook["attached"] == true && hook["hits"].is_u64(), "not attached: {hook}");
    }
    let programs = check["programs"].as_array().context("no programs were loaded")?;
    ensure!(hooks.len() > 20 && programs.len() > 10, "hardly anything was tried: {check}");
    let name = |program: &Value| program["program"].as_str().unwrap_or_default().to_owned();
    let verified: BTreeMap<_, _> = programs
        .iter()
        .map(|program| (name(program), count(program, "/verified_instructions")))
        .collect();
    let counted = kernel.has(Feature::VerifierCounts);
    same("verified programs", verified.values().all(Option::is_some), counted)?;
    println!("{}", table(doctor["kernel"].as_str().unwrap_or_default(), &verified));
    Ok(())
}

/// Formats the instructions that the verifier went through, where known, with three programs on a line.
fn table(kernel: &str, verified: &BTreeMap<String, Option<u64>>) -> String {
    let total: Option<u64> = verified.values().copied().sum();
    let total = total.map_or("–".to_owned(), |n| n.to_string());
    let programs = verified.len();
    let mut lines =
        vec![format!("       {kernel}: {programs} programs, {total} instructions verified")];
    let known = verified.iter().filter_map(|(name, n)| Some((name, (*n)?)));
    let entries: Vec<_> = known.map(|(name, n)| format!("{name:<22}{n:>6}")).collect();
    lines.extend(entries.chunks(3).map(|few| format!("         {}", few.join("  "))));
    lines.join("\n")
}

/// The report has everything from the start of `collapse` on, and nothing from before.
fn middle(files: &Path, kernel: &Series) -> Result<()> {
    let report = read(files, "middle.json")?;
    let header = &account(files, "middle", "header")?[0];
    let phases = account(files, "middle", "phase")?;
    let vms = report["vms"].as_array().context("no VMs in the report")?;
    same("VMs", vms.len(), 1)?;
    let vm = &vms[0];
    same("name", &vm["name"], &json!("middle"))?;
    same("pid", &vm["pid"], &header["pid"])?;
    same("created", &vm["created"], &json!(false))?;
    same("splits", count(vm, "/splits/total"), Some(0))?;
    same("log on", count(vm, "/log_on"), Some(0))?;
    same("log off", count(vm, "/log_off"), Some(1))?;
    same("dirty logging, once it was seen to go off", &vm["dirty_logging"], &json!(false))?;
    // Its memslots were read at the start.
    let faults = count(vm, "/faults/while_logging");
    ensure!(faults.is_some(), "faults under it are not known");
    same("collapse runs", count(vm, "/collapse_runs"), Some(1))?;
    same("zapped in the span", count(vm, "/collapse_spans/0/zapped_4k"), Some(PAGES))?;
    same("zaps by the collapse routine", count(vm, "/zaps/by_cause/collapse"), Some(PAGES))?;
    same("regions lost", count(vm, "/regions/lost"), Some(0))?;
    trusted(&report, vm, kernel)?;
    if !kernel.has_gauges() {
        return Ok(());
    }
    let off = phases.iter().find(|phase| phase["phase"] == "log-off").context("no log-off")?;
    let span = &vm["collapse_spans"][0];
    same("gauges before the span", &span["pages_before"], &off["pages_before"])?;
    same("gauges after the span", &span["pages_after"], &off["pages_after"])?;
    let held = phases.iter().find(|phase| phase["phase"] == "hold").context("no hold")?;
    same("gauges at the start", &vm["pages"]["start"], &held["pages_after"])
}

/// Every VM is complete and exact, before and after each reload.
fn reloads(files: &Path, kernel: &Series) -> Result<()> {
    let report = read(files, "reloads.json")?;
    same("the report of the recording", &read(files, "replayed.json")?, &report)?;
    same("reloads", count(&report, "/reloads"), Some(2))?;
    same("MMU in the end", &report["host"]["mmu"], &json!(kernel.mmu.name()))?;
    let unseen = kernel.unseen_signals;
    same("signals not seen in the end", missing(&report["coverage"]).as_slice(), unseen)?;
    let vms = report["vms"].as_array().context("no VMs in the report")?;
    let names: Vec<_> = vms.iter().filter_map(|vm| vm["name"].as_str()).collect();
    same("VMs", names.as_slice(), &["before", "shadow", "after"])?;
    for vm in vms {
        failed_migration(&report, vm, kernel).with_context(|| format!("VM {}", vm["name"]))?;
    }
    for (name, vm) in names.iter().zip(vms).filter(|_| kernel.has(Feature::FaultCounter)) {
        let phases = account(files, name, "phase")?;
        let taken: u64 = phases.iter().filter_map(|phase| count(phase, "/faults/taken")).sum();
        same("faults by KVM's own counter", count(vm, "/faults/total"), Some(taken))?;
    }
    Ok(())
}

/// Fails unless a VM that went through one failed migration of 16 MiB under observation is complete and
/// exact.
pub fn failed_migration(report: &Value, vm: &Value, kernel: &Series) -> Result<()> {
    same("created", &vm["created"], &json!(true))?;
    same("gone", &vm["gone"], &json!(true))?;
    same("splits", count(vm, "/splits/total"), Some(REGIONS))?;
    same("zaps by the collapse routine", count(vm, "/zaps/by_cause/collapse"), Some(PAGES))?;
    same("regions lost", count(vm, "/regions/lost"), Some(REGIONS))?;
    same("regions recovered", count(vm, "/recoveries/total"), Some(REGIONS))?;
    same("collapse runs", count(vm, "/collapse_runs"), Some(1))?;
    trusted(report, vm, kernel)
}

/// Fails unless nothing is lost, and counts and gauges agree where there are gauges.
fn trusted(report: &Value, vm: &Value, kernel: &Series) -> Result<()> {
    for (way, n) in report["losses"].as_object().context("no losses in the report")? {
        same(&format!("lost by {way}"), n.as_u64(), Some(0))?;
    }
    let zero = json!({"4k": 0, "2m": 0, "1g": 0});
    let (residual, grade) =
        if kernel.has_gauges() { (&zero, "exact") } else { (&Value::Null, "unknown") };
    same("residual", &vm["pages"]["residual"], residual)?;
    same("grade", &vm["reconciliation"]["grade"], &json!(grade))
}

/// Without KVM, `collapse` waits and reports that it does.
fn waits(files: &Path) -> Result<()> {
    let report = read(files, "waits.json")?;
    let coverage = report["coverage"].as_array().context("no coverage in the report")?;
    for signal in coverage {
        let blind = signal["seen"] == false && signal["reason"] == "KVM is not loaded";
        ensure!(blind, "seen without KVM: {signal}");
    }
    ensure!(!coverage.is_empty() && report["reloads"] == 0, "no coverage, or reloads: {report}");
    let live = fs::read_to_string(files.join("live.txt"))?;
    let waiting = live.lines().any(|line| line.ends_with(" KVM is not loaded, waiting"));
    ensure!(waiting, "no word of waiting in the live view: {live:?}");
    Ok(())
}
