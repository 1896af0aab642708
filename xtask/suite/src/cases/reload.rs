//! What happens around `collapse`: the kernel takes its programs, it starts in the middle of an
//! episode, and KVM goes and comes back.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::observed::{count, same};
use crate::{
    lab::{ImageFile, Outcome, TESTED},
    test::lab::Case,
};

/// Pages and regions of the workload's slot.
const PAGES: u64 = 4096;
const REGIONS: u64 = 8;

/// Events that the kernel may skip in a run where tracepoint programs can be preempted.
const FEW_SKIPPED: u64 = 50;

/// All of it in one boot per kernel.
pub fn cases() -> Vec<Case> {
    let script = ImageFile {
        path: "/bin/reload.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("reload.sh").to_vec(),
    };
    let case = |kernel| Case {
        cpus: 1,
        timeout: Duration::from_mins(4),
        files: vec![script.clone()],
        ..Case::new(
            "programs accepted, started in mid-episode, KVM reloaded",
            kernel,
            &["sh", "/bin/reload.sh"],
            check,
        )
    };
    TESTED.into_iter().map(case).collect()
}

fn check(outcome: &Outcome) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let status = String::from_utf8_lossy(&outcome.stdout);
    doctor(&read(files, "doctor.json")?, status.trim()).context("doctor")?;
    middle(files).context("started in the middle of an episode")?;
    reloads(files).context("KVM reloaded")?;
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

/// Whether the kernel is 5.10, which has no gauges.
fn is_old(kernel: &Value) -> bool {
    kernel.as_str().is_some_and(|kernel| kernel.starts_with("5.10."))
}

/// Signals in a coverage list that are not seen.
fn missing(coverage: &Value) -> Vec<&str> {
    let signals = coverage.as_array().map_or(&[][..], Vec::as_slice);
    let missing = signals.iter().filter(|signal| signal["seen"] == false);
    missing.filter_map(|signal| signal["signal"].as_str()).collect()
}

fn doctor(doctor: &Value, status: &str) -> Result<()> {
    let old = is_old(&doctor["kernel"]);
    let blind: &[&str] = if old { &["lock_yields", "gauges"] } else { &[] };
    same("signals not seen", missing(&doctor["coverage"]).as_slice(), blind)?;
    same("exit status", status, if old { "123" } else { "0" })?;
    let check = &doctor["check"];
    let hooks = check["hooks"].as_array().context("no hooks were tried")?;
    for hook in hooks {
        ensure!(hook["attached"] == true && hook["hits"].is_u64(), "not attached: {hook}");
    }
    let programs = check["programs"].as_array().context("no programs were loaded")?;
    ensure!(hooks.len() > 20 && programs.len() > 20, "hardly anything was tried: {check}");
    let name = |program: &Value| program["program"].as_str().unwrap_or_default().to_owned();
    let verified: BTreeMap<_, _> = programs
        .iter()
        .map(|program| (name(program), count(program, "/verified_instructions")))
        .collect();
    // 5.10 does not tell.
    same("verified programs", verified.values().all(Option::is_some), !old)?;
    println!("{}", table(doctor["kernel"].as_str().unwrap_or_default(), &verified));
    Ok(())
}

/// Instructions that the verifier went through, a line for every few programs that it is known of.
fn table(kernel: &str, verified: &BTreeMap<String, Option<u64>>) -> String {
    // 5.10 does not tell of any.
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

/// Only what happened after it started is in the report, and all of that.
fn middle(files: &Path) -> Result<()> {
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
    same("faults under it", &vm["faults"]["while_logging"], &Value::Null)?;
    same("collapse runs", count(vm, "/collapse_runs"), Some(1))?;
    same("zapped in the span", count(vm, "/collapse_spans/0/zapped_4k"), Some(PAGES))?;
    same("zaps by the collapse routine", count(vm, "/zaps/by_cause/collapse"), Some(PAGES))?;
    same("regions lost", count(vm, "/regions/lost"), Some(0))?;
    trusted(&report, vm)?;
    if is_old(&report["host"]["kernel"]) {
        return Ok(());
    }
    let off = phases.iter().find(|phase| phase["phase"] == "log-off").context("no log-off")?;
    let span = &vm["collapse_spans"][0];
    same("gauges before the span", &span["pages_before"], &off["pages_before"])?;
    same("gauges after the span", &span["pages_after"], &off["pages_after"])?;
    let held = phases.iter().find(|phase| phase["phase"] == "hold").context("no hold")?;
    same("gauges at the start", &vm["pages"]["start"], &held["pages_after"])
}

/// Every VM is complete and exact, whichever KVM it was of.
fn reloads(files: &Path) -> Result<()> {
    let report = read(files, "reloads.json")?;
    same("the report of the recording", &read(files, "replayed.json")?, &report)?;
    same("reloads", count(&report, "/reloads"), Some(2))?;
    let old = is_old(&report["host"]["kernel"]);
    let mmu = if old { "rmap" } else { "tdp" };
    same("MMU in the end", &report["host"]["mmu"], &json!(mmu))?;
    let blind: &[&str] = if old { &["lock_yields", "gauges"] } else { &[] };
    same("signals not seen in the end", missing(&report["coverage"]).as_slice(), blind)?;
    let vms = report["vms"].as_array().context("no VMs in the report")?;
    let names: Vec<_> = vms.iter().filter_map(|vm| vm["name"].as_str()).collect();
    same("VMs", names.as_slice(), &["before", "shadow", "after"])?;
    for vm in vms {
        failed_migration(&report, vm).with_context(|| format!("VM {}", vm["name"]))?;
    }
    for (name, vm) in names.iter().zip(vms).filter(|_| !old) {
        let phases = account(files, name, "phase")?;
        let taken: u64 = phases.iter().filter_map(|phase| count(phase, "/faults/taken")).sum();
        same("faults by KVM's own counter", count(vm, "/faults/total"), Some(taken))?;
    }
    Ok(())
}

/// A VM that went through one failed migration of 16 MiB while it was watched is complete and exact.
pub fn failed_migration(report: &Value, vm: &Value) -> Result<()> {
    same("created", &vm["created"], &json!(true))?;
    same("gone", &vm["gone"], &json!(true))?;
    same("splits", count(vm, "/splits/total"), Some(REGIONS))?;
    same("zaps by the collapse routine", count(vm, "/zaps/by_cause/collapse"), Some(PAGES))?;
    same("regions lost", count(vm, "/regions/lost"), Some(REGIONS))?;
    same("regions recovered", count(vm, "/recoveries/total"), Some(REGIONS))?;
    same("collapse runs", count(vm, "/collapse_runs"), Some(1))?;
    trusted(report, vm)
}

/// Nothing is lost, and counts and gauges agree where there are gauges.
fn trusted(report: &Value, vm: &Value) -> Result<()> {
    // From 7.x on a few events may be skipped, the host's own ageing of guest memory most of all.
    let kernel = report["host"]["kernel"].as_str().unwrap_or_default();
    let few = if kernel.starts_with("7.") { FEW_SKIPPED } else { 0 };
    for (way, n) in report["losses"].as_object().context("no losses in the report")? {
        let lost = n.as_u64().with_context(|| format!("lost by {way}: {n}"))?;
        let allowed = if way == "program_skipped" { few } else { 0 };
        ensure!(lost <= allowed, "{lost} lost by {way}");
    }
    let old = is_old(&report["host"]["kernel"]);
    let zero = json!({"4k": 0, "2m": 0, "1g": 0});
    same("residual", &vm["pages"]["residual"], if old { &Value::Null } else { &zero })?;
    let grade = if old { "unknown" } else { "exact" };
    same("grade", &vm["reconciliation"]["grade"], &json!(grade))
}

/// Without KVM it waits, and says so.
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
    ensure!(waiting, "the live view does not say that it waits: {live:?}");
    Ok(())
}
