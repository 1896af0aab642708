//! What starts when `collapse` says that it watches is seen from its first SPTE on.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::{count, same};
use crate::case::LabCase;

/// 2 MiB regions of each guest.
const REGIONS: u64 = 8;

/// The only line on stderr.
const LINE: &str = "collapse: watching: what happens from now on is seen\n";

/// On the default kernel.
pub fn cases() -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/ready.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("ready.sh").to_vec(),
    };
    let command = ["sh", "/bin/ready.sh"];
    let kernel = kernels::default();
    let case = LabCase::new("readiness, in every way", kernel, &command, check);
    vec![LabCase { cpus: 1, files: vec![script], ..case }]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    ensure!(outcome.stdout.is_empty(), "{}", String::from_utf8_lossy(&outcome.stdout));
    let files = outcome.files.as_deref().context("no files came back")?;
    let text = |name: &str| read(files, name);
    for name in ["report", "record"] {
        let report: Value = serde_json::from_str(&text(&format!("{name}.json"))?)?;
        let vm = &report["vms"][0];
        same("created", &vm["created"], &true.into())?;
        same("installs", count(vm, "/installs/by_level/2m"), Some(REGIONS))?;
    }
    let report: Value = serde_json::from_str(&text("report.json")?)?;
    let begun = text("report.ready")?;
    same("beginning", begun.trim().parse().ok(), count(&report, "/started_ns"))?;
    ensure!(text("events.ready")?.trim().parse::<u64>().is_ok(), "no time of events");
    let events = text("events")?;
    ensure!(events.contains("\"kind\":\"vm_created\""), "no creation: {events}");
    ensure!(text("live")?.contains("name=seen"), "the guest is not among the lines");
    for name in ["report.err", "events.err", "live.err"] {
        same(name, text(name)?.as_str(), LINE)?;
    }
    Ok(())
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
