//! The life of huge pages through a failed migration, on every kernel and MMU: the report against
//! the workload's own account and against an independent tracefs recording of the same run.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::oracle::Oracle;
use crate::{
    lab::{ImageFile, Outcome, TESTED},
    test::lab::Case,
};

/// Kernels and parameters beside the defaults.
const OTHER_MMUS: [(&str, &str); 7] = [
    ("5.10", "tdp_mmu=Y"),
    ("6.1", "tdp_mmu=N"),
    ("6.12", "tdp_mmu=N"),
    ("6.18", "tdp_mmu=N"),
    ("7.3", "tdp_mmu=N"),
    ("6.1", "npt=0"),
    ("6.12", "npt=0"),
];

/// The scenario on every kernel with its default MMU, and on the other MMUs.
pub fn cases() -> Vec<Case> {
    let defaults = TESTED.into_iter().map(|kernel| case(kernel, &[]));
    defaults.chain(OTHER_MMUS.into_iter().map(|(kernel, kvm)| case(kernel, &[kvm]))).collect()
}

fn case(kernel: &'static str, kvm: &[&str]) -> Case {
    let script = ImageFile {
        path: "/bin/observe.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("observe.sh").to_vec(),
    };
    Case {
        kvm: kvm.iter().map(ToString::to_string).collect(),
        files: vec![script],
        ..Case::new(
            "failed-migration, against workload and tracefs",
            kernel,
            &["sh", "/bin/observe.sh", "failed-migration"],
            check,
        )
    }
}

/// The files of a run.
struct Run {
    report: Value,
    header: Value,
    phases: Vec<Value>,
    oracle: Oracle,
}

impl Run {
    fn read(folder: &Path) -> Result<Self> {
        let report =
            fs::read_to_string(folder.join("report.json")).context("reading the report")?;
        let workload = fs::read_to_string(folder.join("workload.json"))?;
        let mut lines = Vec::new();
        for line in workload.lines() {
            lines.push(serde_json::from_str::<Value>(line).context("the workload's account")?);
        }
        let of_kind = |kind: &str| {
            lines.iter().filter(|line| line["kind"] == kind).cloned().collect::<Vec<_>>()
        };
        Ok(Self {
            report: serde_json::from_str(&report).context("the report is no JSON")?,
            header: of_kind("header").into_iter().next().context("the workload has no header")?,
            phases: of_kind("phase"),
            oracle: Oracle::read(folder)?,
        })
    }

    fn phase(&self, name: &str) -> Result<&Value> {
        self.phases
            .iter()
            .find(|phase| phase["phase"] == name)
            .with_context(|| format!("no {name}"))
    }
}

/// Fails unless two values are equal, naming what they are.
#[expect(clippy::needless_pass_by_value, reason = "reads like an assertion")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{what}: {got:?}, expected {expected:?}");
    Ok(())
}

/// A count in the report; `None` if it is unknown.
fn count(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path).and_then(Value::as_u64)
}

fn check(outcome: &Outcome) -> Result<()> {
    ensure!(
        outcome.ending.code() == 0,
        "ended with {:?}: {}",
        outcome.ending,
        String::from_utf8_lossy(&outcome.stderr)
    );
    let run = Run::read(outcome.files.as_deref().context("no files came back")?)?;
    let vms = run.report["vms"].as_array().context("no VMs in the report")?;
    same("VMs", vms.len(), 1)?;
    let vm = &vms[0];
    let old = run.report["host"]["kernel"].as_str().is_some_and(|name| name.starts_with("5.10."));
    let tdp = run.report["host"]["mmu"] == "tdp";
    identity(&run, vm)?;
    against_tracefs(&run, vm)?;
    against_workload(&run, vm, old, tdp)?;
    trust(&run, vm, old)
}

fn identity(run: &Run, vm: &Value) -> Result<()> {
    same("pid", &vm["pid"], &run.header["pid"])?;
    same("tid", &vm["tid"], &run.header["vms"][0]["tid"])?;
    same("fd", &vm["fd"], &run.header["vms"][0]["fd"])?;
    same("name", &vm["name"], &Value::from("workload"))?;
    same("created", &vm["created"], &Value::from(true))?;
    same("gone", &vm["gone"], &Value::from(true))
}

fn against_tracefs(run: &Run, vm: &Value) -> Result<()> {
    let oracle = &run.oracle;
    let by_level = |kind: &str| {
        ["4k", "2m"].map(|size| count(vm, &format!("/{kind}/by_level/{size}")).unwrap_or(0))
    };
    same("installs by level", by_level("installs"), oracle.installs)?;
    same("write-protects by level", by_level("write_protects"), oracle.write_protects)?;
    // What tracefs shows as a zap and a link is one split in two steps to us.
    let splits = count(vm, "/splits/total").context("no splits")?;
    let in_two_steps = splits.checked_sub(oracle.splits).context("fewer splits than in tracefs")?;
    let [small, huge] = by_level("zaps");
    same("zaps by level", [small, huge + in_two_steps], oracle.zaps)?;
    same("recoveries in place", count(vm, "/recoveries/in_place"), Some(oracle.recovers))?;
    same("faults", count(vm, "/faults/total"), Some(oracle.faults))?;
    same("fast faults", count(vm, "/faults/fast"), Some(oracle.fast_faults))?;
    same("calls of drop_spte", count(vm, "/drop_spte_calls"), Some(oracle.drop_spte))?;
    same("collapse runs", count(vm, "/collapse_runs"), Some(oracle.collapse_runs))
}

fn against_workload(run: &Run, vm: &Value, old: bool, tdp: bool) -> Result<()> {
    let slot = &run.header["vms"][0]["slots"][1];
    let pages = count(slot, "/pages").context("no slot in the header")?;
    let regions = pages / 512;
    same("regions", regions, 32)?;
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

fn trust(run: &Run, vm: &Value, old: bool) -> Result<()> {
    let losses = run.report["losses"].as_object().context("no losses in the report")?;
    for (way, n) in losses {
        same(&format!("lost by {way}"), n.as_u64(), Some(0))?;
    }
    let residual = &vm["pages"]["residual"];
    let expected = if old { Value::Null } else { serde_json::json!({"4k": 0, "2m": 0, "1g": 0}) };
    same("residual", residual, &expected)?;
    let coverage = run.report["coverage"].as_array().context("no coverage in the report")?;
    let missing: Vec<_> = coverage
        .iter()
        .filter(|s| s["seen"] == false)
        .filter_map(|s| s["signal"].as_str())
        .collect();
    let expected: &[&str] = if old { &["nx_recovery", "gauges"] } else { &[] };
    same("signals not seen", missing.as_slice(), expected)
}
