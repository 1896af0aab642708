//! Kernels that are locked down, as by secure boot: what works with integrity, and what is said with confidentiality.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels};

use super::{observed::same, reload::failed_migration};
use crate::case::LabCase;

const INTEGRITY: &str = "
mount -t securityfs securityfs /sys/kernel/security
cat /sys/kernel/security/lockdown
collapse doctor --format json >/out/doctor.json || exit 1
collapse report --format json -o /out/report.json -- workload failed-migration --size 16M --quiet --name guest
";

const CONFIDENTIALITY: &str = "
mount -t securityfs securityfs /sys/kernel/security
collapse report -d 1s
echo $?
collapse doctor >/out/doctor
echo $?
";

/// On the default kernel, with `--all`.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let case = |name, cmdline, script, check| LabCase {
        cmdline,
        ..LabCase::new(name, kernels::default(), &["sh", "-c", script], check)
    };
    let integrity: &[&str] = &["lockdown=integrity"];
    let confidentiality: &[&str] = &["lockdown=confidentiality"];
    let cases = [
        case("locked down for integrity, as ever", integrity, INTEGRITY, works as _),
        case(
            "locked down for confidentiality, one clear line",
            confidentiality,
            CONFIDENTIALITY,
            says as _,
        ),
    ];
    cases.into_iter().filter(|_| rarely).collect()
}

fn works(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let mode = String::from_utf8_lossy(&outcome.stdout);
    ensure!(mode.contains("[integrity]"), "not locked down: {mode}");
    let files = outcome.files.as_deref().context("no files came back")?;
    let doctor = read(files, "doctor.json")?;
    let hooks = doctor["check"]["hooks"].as_array().context("no hooks were tried")?;
    ensure!(hooks.iter().all(|hook| hook["attached"] == true), "not all attached: {hooks:?}");
    let report = read(files, "report.json")?;
    let vms = report["vms"].as_array().context("no VMs in the report")?;
    same("VMs", vms.len(), 1)?;
    failed_migration(&report, &vms[0], kernel)
}

fn says(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    same("exit statuses", String::from_utf8_lossy(&outcome.stdout).as_ref(), "121\n121\n")?;
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    same("lines on stderr", stderr.lines().count(), 1)?;
    ensure!(stderr.contains("boot with lockdown=integrity"), "it says {stderr:?}");
    Ok(())
}

fn read(files: &Path, name: &str) -> Result<Value> {
    let text = fs::read(files.join(name)).with_context(|| format!("reading {name}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{name} is no JSON"))
}
