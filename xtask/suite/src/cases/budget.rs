//! Seeing less to cost less, and a ring that overflows: totals stay exact, and what is missing is
//! reported.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use lab::{LabOutcome, Series, kernels::SelectCase};

use super::{
    observed::{count, same},
    on,
};
use crate::case::LabCase;

/// Times that the guest's 16 MiB go through dirty logging, and its 2 MiB regions.
const CYCLES: u64 = 80;
const REGIONS: u64 = 8;

/// The programs take far more than this in the emulator while the first guest is busy, and less than half of it
/// while it rests. The second one finds all of them at work again.
const KEPT: &str = "
    collapse --budget-overhead 0.5% report --format json --output /out/report.json -- sh -c \"
        workload run 'touch; repeat 80 { log-on; touch; log-off; touch }; hold 25000' --size 16M &&
        workload run 'touch; log-on; touch; log-off; touch' --size 16M\"";

/// Fresh small pages in no order: each change is a run of its own, and three blocks of them fill the
/// ring between two readings.
const OVERLOAD: &str = "
    collapse --ring-size 4k report --format json --output /out/report.json --record /out/run.rec -- \\
        workload run 'touch random=100%; madvise dontneed; touch random=100%' --backing 4k &&
    collapse events --from /out/run.rec --output /out/events.ndjson";

/// Both.
pub fn cases(all: bool) -> Vec<LabCase> {
    let kept = |kernel| LabCase {
        cpus: 1,
        timeout: Duration::from_mins(4),
        ..LabCase::new("less is seen to keep to a budget", kernel, &["sh", "-c", KEPT], check_kept)
    };
    let overload = |kernel| LabCase {
        cpus: 1,
        ..LabCase::new(
            "what a full ring loses is reported",
            kernel,
            &["sh", "-c", OVERLOAD],
            check_overload,
        )
    };
    let kernels = || on(SelectCase::Budget, all);
    kernels().map(kept).chain(kernels().map(overload)).collect()
}

fn report(outcome: &LabOutcome) -> Result<Value> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let text = fs::read_to_string(files.join("report.json")).context("reading the report")?;
    serde_json::from_str(&text).context("the report is no JSON")
}

/// Fails unless all losses but the `expected` ones are zero.
fn no_other_losses(report: &Value, expected: &[&str]) -> Result<()> {
    let losses = report["losses"].as_object().context("no losses in the report")?;
    for (way, n) in losses.iter().filter(|(way, _)| !expected.contains(&way.as_str())) {
        same(&format!("lost by {way}"), n.as_u64(), Some(0))?;
    }
    Ok(())
}

fn exact(report: &Value) -> Result<&Value> {
    let vm = &report["vms"][0];
    same("residual", &vm["pages"]["residual"], &json!({"4k": 0, "2m": 0, "1g": 0}))?;
    Ok(vm)
}

fn check_kept(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let report = report(outcome)?;
    let vm = exact(&report)?;
    same("splits", count(vm, "/splits/total"), Some(CYCLES * REGIONS))?;
    no_other_losses(&report, &["left_out_for_budget", "program_skipped"])?;
    let later = &report["vms"][1];
    let faults = count(later, "/faults/while_logging").context("no faults of the second guest")?;
    let timed = count(later, "/latency/by_cause/guest_fault_logging/count").unwrap_or(0);
    // One in 128 is.
    ensure!(timed >= faults / 256 && timed > 0, "{timed} of {faults} faults were timed again");
    ensure!(count(&report, "/losses/left_out_for_budget") > Some(0), "nothing was left out");
    let overhead = &report["overhead"];
    same("step at the end", &overhead["step"], &Value::from("full"))?;
    let spent = |what: &str| count(overhead, &format!("/degraded/{what}_ns")).unwrap_or(0);
    let (latency, regions) = (spent("no_latency"), spent("sampled") + spent("counters_only"));
    ensure!(latency > regions && regions > 0, "not every step was taken: {overhead}");
    ensure!(spent("counters_only") > 0, "the last step was not taken: {overhead}");
    let programs = overhead["programs"].as_array().context("no programs")?;
    ensure!(!programs.is_empty(), "no program's cost is reported");
    Ok(())
}

fn check_overload(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let report = report(outcome)?;
    let vm = exact(&report)?;
    let lost = count(&report, "/losses/ring_full_changes").context("no losses")?;
    ensure!(lost > 0, "the ring never was full");
    no_other_losses(&report, &["ring_full_changes", "ring_full_marks"])?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let mut reported = BTreeMap::<String, u64>::new();
    for line in fs::read_to_string(files.join("events.ndjson"))?.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if let (Some(kind), Some(n)) = (event["kind"].as_str(), event["count"].as_u64()) {
            *reported.entry(kind.to_owned()).or_default() += n;
        }
    }
    let counted = ["installs", "zaps", "splits"].map(|kind| count(vm, &format!("/{kind}/total")));
    let counted = counted.iter().map(|n| n.unwrap_or(0)).sum::<u64>();
    let of = |kind: &str| reported.get(kind).copied().unwrap_or(0);
    same("changes reported and lost", of("install") + of("zap") + of("split") + lost, counted)
}
