//! `collapse selftest` with dead probes, and without KVM's device. The verdict where all is well is
//! judged with the failed migrations.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// Prints the status of each run. The probes die as soon as the first kprobe is attached.
const SCRIPT: &str = "
    cd /out
    kprobes=/sys/kernel/debug/kprobes
    collapse selftest >failed.txt 2>failed.err &
    until grep -q . $kprobes/list; do :; done
    echo 0 >$kprobes/enabled
    sysctl -q -w kernel.ftrace_enabled=0
    wait $!
    echo $?
    echo 1 >$kprobes/enabled
    sysctl -q -w kernel.ftrace_enabled=1
    collapse selftest --format json --bundle bundle.json >selftest.json
    echo $?
    mv /dev/kvm /dev/kvm-away
    collapse selftest 2>no_kvm.err
    echo $?";

/// All in one boot.
pub fn cases() -> Vec<LabCase> {
    vec![LabCase {
        cpus: 1,
        ..LabCase::new(
            "selftest finds what is wrong",
            kernels::default(),
            &["sh", "-c", SCRIPT],
            check,
        )
    }]
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    let statuses = String::from_utf8_lossy(&outcome.stdout);
    same("statuses", statuses.split_whitespace().collect(), vec!["119", "0", "121"])?;
    judge(files, kernel)?;

    let read = |name| fs::read_to_string(files.join(name)).with_context(|| format!("no {name}"));
    let text = read("failed.txt")?;
    for line in ["skip  log_on", "ftrace was switched off", "FAIL  write_protects"] {
        ensure!(text.contains(line), "no {line:?} in {text}");
    }
    let stderr = read("failed.err")?;
    let lines: Vec<_> = stderr.lines().collect();
    let [off, bundle] = lines[..] else { anyhow::bail!("stderr: {stderr:?}") };
    ensure!(off.starts_with("collapse: ftrace was switched off "), "stderr: {stderr:?}");
    same("stderr", bundle, "collapse: for a bug report: collapse-selftest.json")?;
    let wrong: Value = serde_json::from_str(&read("collapse-selftest.json")?)?;
    ensure!(wrong["selftest"]["failed"].as_u64() > Some(0), "no failure in the bundle");
    let files_of_host = &wrong["host_files"]["/sys/kernel/debug/kprobes/enabled"];
    same("kprobes in the bundle", files_of_host.as_str(), Some("0"))?;

    let right: Value = serde_json::from_str(&read("bundle.json")?)?;
    same("guest in the bundle", &right["guest"]["pid"], &right["report"]["vms"][0]["pid"])?;
    let symbols = right["inspected"]["symbols"]["Ok"].as_object().context("no symbols")?;
    let secret = symbols.values().all(|symbol| symbol["address"].as_u64() <= Some(1));
    ensure!(secret, "the bundle has addresses of the kernel");

    let stderr = read("no_kvm.err")?;
    let line = "collapse: the test guest cannot be run: there is no /dev/kvm: load kvm_amd or \
                kvm_intel\n";
    same("stderr", stderr.as_str(), line)
}

/// Fails unless every check passed, and none was skipped that the kernel allows.
pub fn judge(files: &Path, kernel: &Series) -> Result<()> {
    let text = fs::read_to_string(files.join("selftest.json")).context("no selftest.json")?;
    let verdict: Value = serde_json::from_str(&text).context("selftest.json is no JSON")?;
    let of_status = |status: &'static str| {
        let checks = verdict["checks"].as_array().into_iter().flatten();
        checks.filter(move |check| check["status"] == status)
    };
    if let Some(wrong) = of_status("fail").next() {
        anyhow::bail!("selftest: {wrong}");
    }
    ensure!(of_status("ok").count() > 30, "selftest checked too little: {text}");
    for skipped in of_status("skip") {
        let permitted = match skipped["name"].as_str() {
            Some("residual") => !kernel.has_gauges(),
            _ => false,
        };
        ensure!(permitted, "selftest skipped {skipped}");
    }
    Ok(())
}
