//! Recordings of real runs: replayed they tell the same, and whatever ends them leaves what was before.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::observed::same;
use crate::{
    lab::{ImageFile, Outcome},
    test::lab::Case,
};

/// Run and its exit code.
const EXPECTED: [(&str, i32); 9] = [
    ("live", 0),
    ("replayed", 0),
    ("recorded", 0),
    ("migration", 0),
    ("events", 0),
    ("pipe", 0),
    ("killed", 0),
    ("full", 120),
    ("rest", 0),
];

/// All in one boot.
pub fn cases() -> Vec<Case> {
    let script = ImageFile {
        path: "/bin/recordings.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("recordings.sh").to_vec(),
    };
    let command = ["sh", "/bin/recordings.sh"];
    vec![Case {
        files: vec![script],
        ..Case::new("a recording tells the same again", "6.12", &command, check)
    }]
}

fn check(outcome: &Outcome) -> Result<()> {
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
    for name in ["killed.stdout", "rest.stdout"] {
        same(name, &json(name)?["schema"], &"collapse.report/1".into())?;
    }
    Ok(())
}
