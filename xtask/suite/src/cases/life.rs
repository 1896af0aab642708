//! Lives and deaths: of hundreds of VMs, and of `collapse` itself.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels};

use super::{observed::same, reload::failed_migration};
use crate::case::LabCase;

/// VMs that come and go: more than the kernel-side tables have room for at a time.
const VMS: usize = 300;

/// Six VMs at a time, where the tables are made for one.
const CROWDED: &str = "
    collapse --max-vms 1 report -f json -o /out/report.json -f text -o /out/report.txt -- \
        workload failed-migration --vms 6 --size 4M --quiet";

/// All cases.
pub fn cases() -> Vec<LabCase> {
    let churn = format!(
        "collapse report -f json -o /out/report.json -- \
         workload churn --size 2M --iterations {VMS} --quiet"
    );
    let case = |name, script: &str, check| LabCase {
        cpus: 1,
        ..LabCase::new(name, kernels::default(), &["sh", "-c", script], check)
    };
    vec![
        case("hundreds of VMs come and go", &churn, churned),
        case("more VMs than the tables have room for", CROWDED, crowded),
        case("killed, it leaves nothing behind", KILLED, killed),
    ]
}

fn churned(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report: Value = serde_json::from_slice(&fs::read(files.join("report.json"))?)?;
    let vms = report["vms"].as_array().context("no VMs in the report")?;
    same("VMs", vms.len(), VMS)?;
    let zero = serde_json::json!({"4k": 0, "2m": 0, "1g": 0});
    for vm in vms {
        let whole = vm["created"] == true && vm["gone"] == true && vm["pages"]["residual"] == zero;
        ensure!(whole, "not complete or not adding up: {vm}");
        ensure!(vm["installs"]["total"].as_u64() > Some(0), "nothing was counted: {vm}");
    }
    for (way, n) in report["losses"].as_object().context("no losses in the report")? {
        same(&format!("lost by {way}"), n.as_u64(), Some(0))?;
    }
    Ok(())
}

/// Changes that no row was left for are counted, as lost and as changes of an unknown VM.
fn crowded(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report: Value = serde_json::from_slice(&fs::read(files.join("report.json"))?)?;
    let lost = report["losses"]["row_table_full"].as_u64();
    ensure!(lost > Some(0), "nothing found the table full: {}", report["losses"]);
    let unattributed = report["unattributed_changes"].as_u64();
    ensure!(unattributed > Some(0), "all changes have a VM: {}", report["losses"]);
    let text = fs::read_to_string(files.join("report.txt"))?;
    ensure!(text.contains("try a larger --max-vms"), "no remedy is named:\n{text}");
    Ok(())
}

/// Prints the number of probed functions while `collapse` runs and after it was killed; then another one reports on
/// the VM that existed all the time, and on one that comes and goes.
const KILLED: &str = "
    functions=/sys/kernel/tracing/enabled_functions
    workload failed-migration --loop --quiet &
    old=$!
    collapse live >/dev/null &
    killed=$!
    sleep 8
    wc -l <$functions
    kill -9 $killed
    # Detaching takes the kernel a while.
    for second in $(seq 30); do [ $(wc -l <$functions) = 0 ] || sleep 1; done
    wc -l <$functions
    collapse report -f json -d 2s -o /out/report.json
    kill $old
    wait $old
    collapse report -f json -o /out/again.json -- workload failed-migration --size 16M --quiet";

fn killed(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    let probed: Vec<usize> = stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
    ensure!(probed.first().is_some_and(|n| *n > 20), "it was not attached yet: {probed:?}");
    same("functions that are still probed", probed.get(1), Some(&0))?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report: Value = serde_json::from_slice(&fs::read(files.join("report.json"))?)?;
    same("VMs that were there before", report["vms"].as_array().map(Vec::len), Some(1))?;
    let vm = &report["vms"][0];
    ensure!(vm["created"] == false && vm["pid"].is_u64(), "not known as an older VM: {vm}");
    ensure!(vm["faults"]["total"].as_u64() > Some(0), "its faults were not counted: {vm}");
    let again: Value = serde_json::from_slice(&fs::read(files.join("again.json"))?)?;
    failed_migration(&again, &again["vms"][0], kernel).context("a VM that came later")
}
