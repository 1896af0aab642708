//! Recordings of real runs: replayed, they give the same report, and any end leaves what was recorded
//! before.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{
    ImageFile, LabOutcome, Series,
    kernels::{self, CpuVendor, SelectCase},
};

use super::{observed::same, on};
use crate::case::LabCase;

/// Run and exit code.
const EXPECTED: [(&str, i32); 18] = [
    ("live", 0),
    ("replayed", 0),
    ("recorded", 0),
    ("migration", 0),
    ("events", 0),
    ("pipe", 0),
    ("killed", 0),
    ("full", 120),
    ("rest", 0),
    ("missing", 116),
    ("foreign", 116),
    ("newer", 116),
    ("damaged", 116),
    ("unwritable", 120),
    ("latest", 0),
    ("latest_report", 0),
    ("triggered", 0),
    ("triggered_report", 0),
];

/// All in one boot, in which hooks are attached and detached some ten times; on Intel's CPUs for `--all`. On one
/// CPU: with two, that often makes the emulator run a stale breakpoint.
pub fn cases(all: bool) -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/recordings.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("recordings.sh").to_vec(),
    };
    let command = ["sh", "/bin/recordings.sh"];
    let case = |cpu, kernel| LabCase {
        cpu,
        cpus: 1,
        files: vec![script.clone()],
        ..LabCase::new("a recording gives the same report", kernel, &command, check)
    };
    let amd = on(SelectCase::Recordings, all).map(|kernel| case(CpuVendor::Amd, kernel));
    let intel = all.then(|| case(CpuVendor::Intel, kernels::default()));
    amd.chain(intel).collect()
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    let read = |name: &str| {
        fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
    };
    let json = |name: &str| -> Result<Value> {
        serde_json::from_str(&read(name)?).with_context(|| format!("{name} is no JSON"))
    };
    let statuses = String::from_utf8_lossy(&outcome.stdout);
    for (name, code) in EXPECTED {
        let line = format!("{name} {code}");
        ensure!(statuses.lines().any(|status| status == line), "no {line}: {}", read(name)?);
    }
    same("the report of the recording", json("replayed.json")?, json("live.json")?)?;
    same("host", &json("replayed.json")?["host"]["name"], &"web7".into())?;

    let migration = json("migration.stdout")?;
    let count = |key: &str| migration.pointer(&format!("/vms/0/{key}/total"))?.as_u64();
    let changes = ["installs", "splits", "zaps", "recoveries"].map(count);
    let changes = changes.iter().map(|n| n.unwrap_or(0)).sum::<u64>();
    let size = fs::metadata(files.join("migration.rec"))?.len();
    ensure!(changes > 16_000 && size <= changes, "{size} bytes for {changes} changes");

    let events = read("events.stdout")?;
    let mut zapped = 0;
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if event["kind"] == "zap" && event["cause"] == "collapse" {
            zapped += event["count"].as_u64().context("a zap without a count")?;
        }
    }
    let report = migration.pointer("/vms/0/zaps/by_cause/collapse").and_then(Value::as_u64);
    same("SPTEs zapped by the collapse routine", Some(zapped), report)?;

    ensure!(read("killed")?.contains("is cut short at byte"), "killed: {}", read("killed")?);
    ensure!(read("full")?.contains("No space left on device"), "full: {}", read("full")?);
    ensure!(read("rest")?.contains("is cut short at byte"), "rest: {}", read("rest")?);
    let complaints = [
        ("missing", "No such file"),
        ("foreign", "no recording of collapse"),
        ("newer", "has version 65535"),
        ("damaged", "is damaged at byte"),
        ("unwritable", "cannot write /out/no/r.rec"),
    ];
    for (name, complaint) in complaints {
        ensure!(read(name)?.contains(complaint), "{name}: {}", read(name)?);
    }
    ensure!(!statuses.contains("latest.rec.old"), "the older half was left");
    let kept = json("latest_report.stdout")?["window_ns"].as_u64().context("no window")?;
    ensure!((1_000_000_000..4_000_000_000).contains(&kept), "kept {kept} ns");
    triggered(&read("triggered")?, &json("triggered_report.stdout")?)?;
    for name in ["killed.stdout", "rest.stdout", "damaged.stdout", "latest_report.stdout"] {
        same(name, &json(name)?["schema"], &"collapse.report/1".into())?;
    }
    Ok(())
}

/// The recording ended by itself, soon after its trigger, and has the changes that led to that.
fn triggered(stderr: &str, report: &Value) -> Result<()> {
    let fired = "eager_split_off of culprit: the recording ends soon";
    ensure!(stderr.contains(fired), "no reason for its end: {stderr}");
    let splits = "/vms/0/splits/by_cause/guest_fault_logging";
    let splits = report.pointer(splits).and_then(Value::as_u64).unwrap_or(0);
    ensure!(splits >= 8, "{splits} splits by guest faults led to it");
    let window = report["window_ns"].as_u64().context("no window")?;
    ensure!(window >= 1_000_000_000, "only {window} ns were recorded");
    same("lost", report.pointer("/losses/recording_ends_early"), None)
}
