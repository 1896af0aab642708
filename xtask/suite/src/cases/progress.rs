//! A vCPU that takes faults while an invalidation of its memory is open, and gets nowhere until that is over.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels};

use super::observed::{count, same};
use crate::case::LabCase;

/// Two guests whose VMM gives all their memory back in one call, small pages: one writes to it meanwhile, the
/// other does not.
const GIVEN_BACK: &str = "
    collapse report --threshold-stuck 10ms -f json -o /out/report.json --record /out/run.rec -- sh -c \"
        workload run 'touch; touch background; hold 200; madvise dontneed; hold 50; stop' \
            --backing 4k --size 512M --name stuck &&
        workload run 'touch; hold 200; madvise dontneed; hold 50; touch' \
            --backing 4k --size 64M --name calm\" &&
    collapse events --from /out/run.rec --kind no_progress -o /out/events.ndjson";

/// On two kernels, for `--all`.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let chosen = kernels::all().iter().filter(|series| ["6.1", "7.3"].contains(&series.name));
    let case = |kernel| LabCase {
        // For the call to take the same time on a busy machine.
        icount: true,
        cpus: 1,
        ..LabCase::new("a vCPU that gets nowhere", kernel, &["sh", "-c", GIVEN_BACK], check)
    };
    if rarely { chosen.map(case).collect() } else { Vec::new() }
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report = fs::read(files.join("report.json")).context("reading the report")?;
    let report: Value = serde_json::from_slice(&report).context("the report is no JSON")?;
    let vms = report["vms"].as_array().context("no VMs")?;
    let named = |name: &str| {
        let vm = vms.iter().find(|vm| vm["name"] == name);
        vm.with_context(|| format!("no VM named {name}"))
    };
    let found = |vm: &Value| {
        // Their memory is small on purpose; how many of the faults come to nothing depends on how fast they are taken.
        const BESIDES: [&str; 2] = ["never_huge", "faults_retried"];
        let findings = vm["findings"].as_array().into_iter().flatten();
        let kinds = findings.filter_map(|found| found["name"].as_str());
        kinds.filter(|kind| !BESIDES.contains(kind)).map(str::to_owned).collect::<Vec<_>>()
    };
    same("findings", found(named("stuck")?), vec!["vcpu_without_progress".to_owned()])?;
    same("findings without writes", found(named("calm")?), Vec::new())?;
    let retried = |name| named(name).map(|vm| count(vm, "/retried_faults"));
    same("faults retried without writes", retried("calm")?, Some(0))?;
    let retried = retried("stuck")?.context("retried faults are unknown")?;
    for vm in vms {
        for size in ["4k", "2m", "1g"] {
            let residual = vm["pages"]["residual"][size].as_i64();
            same(&format!("residual of {} in {size}", vm["name"]), residual, Some(0))?;
        }
    }
    let events = fs::read_to_string(files.join("events.ndjson")).context("reading the events")?;
    let told = events.lines().filter(|line| line.contains(r#""kind":"no_progress""#));
    let told: Vec<Value> = told.map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(!told.is_empty(), "no event");
    for event in &told {
        same("the VM of an event", event["vm"]["name"].as_str(), Some("stuck"))?;
        let faults = count(event, "/faults").unwrap_or(0);
        // A vCPU that gets nowhere takes the same fault again, but for the first that is timed.
        ensure!((1..=retried + 1).contains(&faults), "{retried} retried faults, and {event}");
        ensure!(count(event, "/invalidations_open") > Some(0), "nothing is open: {event}");
    }
    Ok(())
}
