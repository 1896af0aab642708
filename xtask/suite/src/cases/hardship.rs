//! Bad input and bad luck: one clear line and a documented exit code each.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{
    ImageFile, LabOutcome, Series,
    kernels::{self, CpuVendor},
};

use crate::case::LabCase;

/// Run, exit code, and a part of its one line on stderr.
const EXPECTED: [(&str, i32, &str); 20] = [
    ("ok", 0, ""),
    ("doctor", 0, ""),
    ("usage", 2, "--no-such-option"),
    ("conflict", 2, "cannot be used with"),
    ("unwritable", 120, "cannot write /no/such/folder/report"),
    ("full", 120, "No space left on device"),
    ("not_found", 127, "cannot run /no/such/command"),
    ("not_executable", 126, "cannot run /etc"),
    ("status", 7, "from the command"),
    ("file", 0, ""),
    ("killed", 137, ""),
    ("interrupt", 0, ""),
    ("terminate", 0, ""),
    ("live", 0, ""),
    ("few_files", 0, ""),
    ("no_ftrace", 121, "sysctl -w kernel.ftrace_enabled=1"),
    ("no_kprobes", 121, "/sys/kernel/debug/kprobes/enabled must be 1"),
    ("no_btf", 121, "CONFIG_DEBUG_INFO_BTF"),
    ("no_kvm", 121, "modprobe "),
    ("no_kvm_doctor", 121, ""),
];

/// All in one boot.
pub fn cases() -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/hardship.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("hardship.sh").to_vec(),
    };
    let command = ["sh", "/bin/hardship.sh"];
    vec![LabCase {
        cpus: 1,
        files: vec![script],
        ..LabCase::new(
            "bad input ends with one clear line and its code",
            kernels::default(),
            &command,
            check,
        )
    }]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    let read = |name: &str| {
        fs::read(files.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .with_context(|| format!("reading {name}"))
    };
    let statuses = String::from_utf8_lossy(&outcome.stdout);
    let mut lines = statuses.lines();
    for (name, code, says) in EXPECTED {
        let stderr = read(name)?;
        let line = lines.next().unwrap_or("nothing");
        ensure!(line == format!("{name} {code}"), "{name}: {line}, expected {code}: {stderr}");
        ensure!(stderr.contains(says), "{name} says {stderr:?}, expected {says:?}");
        let usage = code == 2;
        let lines = stderr.lines().filter(|line| !line.starts_with("collapse: watching"));
        ensure!(usage || lines.count() <= 1, "{name} says more than a line: {stderr}");
        ensure!(!stderr.contains("panicked"), "{name} panicked: {stderr}");
    }
    let module = CpuVendor::Amd.kvm().module;
    ensure!(read("no_kvm")?.contains(module), "no word of {module}");
    let command = "from the command\n";
    ensure!(!read("status.stdout")?.contains(command), "the command's stdout is in the report");
    ensure!(read("file.stdout")? == command, "with a file, the command did not keep its stdout");
    ensure!(read("report.txt")?.starts_with("collapse report:"), "no report in the file");
    for name in ["interrupt.stdout", "terminate.stdout"] {
        let report: Value = serde_json::from_str(&read(name)?).with_context(|| name.to_owned())?;
        ensure!(report["schema"] == "collapse.report/1", "{name} is no report");
    }
    Ok(())
}
