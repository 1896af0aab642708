//! Without root: the capabilities that are documented suffice, and where one is missing everybody is told which.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// The capabilities that are needed where `CAP_PERFMON` is enough for kprobes, and what `doctor` says where one is missing.
const NEEDED: [(&str, &str); 4] = [
    ("CAP_BPF", "not permitted"),
    ("CAP_PERFMON", "not permitted"),
    ("CAP_DAC_READ_SEARCH", "tracefs is not available"),
    ("CAP_SYSLOG", "kernel addresses are hidden"),
];

/// Before 5.11 maps count as locked memory, whose limit has to be raised.
const LOCKED: (&str, &str) = ("CAP_SYS_RESOURCE", "not permitted to load");

/// Where `kernel.perf_event_paranoid` is above 2, as on Debian.
const KPROBES: (&str, &str) = ("CAP_SYS_ADMIN", "kprobes are refused");

/// On the newest kernel; with `rarely`, on the oldest, too.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let (oldest, newest) = (kernels::all().first().filter(|_| rarely), kernels::all().last());
    let case = |kernel: &'static Series| {
        let script = ImageFile {
            path: "/bin/privileges.sh".to_owned(),
            permissions: 0o755,
            content: include_bytes!("privileges.sh").to_vec(),
        };
        let names: Vec<_> = needed(kernel).map(|(name, _)| name).collect();
        let command = ["sh", "/bin/privileges.sh", &names.join(",")];
        let case = LabCase::new("capabilities in place of root", kernel, &command, check);
        LabCase { files: vec![script], ..case }
    };
    oldest.into_iter().chain(newest).map(case).collect()
}

/// The capabilities that are needed on a kernel where `CAP_PERFMON` is enough for kprobes.
fn needed(kernel: &Series) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let counts_maps = kernel.name == kernels::all()[0].name;
    NEEDED.into_iter().chain(counts_maps.then_some(LOCKED))
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let root = report(files, "root")?;
    for name in ["usual", "debian"] {
        let own = report(files, name)?;
        same("coverage", &own["coverage"], &root["coverage"])?;
        let vm = &own["vms"][0];
        same("the VM's name", vm["name"].as_str(), Some("guest"))?;
        ensure!(vm["splits"]["total"].as_u64() > Some(0), "no splits: {}", vm["splits"]);
    }
    for (missing, says) in needed(kernel).chain([KPROBES]) {
        let doctor = read(files, &format!("{missing}.doctor"))?;
        ensure!(doctor.contains(missing) && doctor.contains(says), "{missing}: {doctor}");
        let complaint = read(files, &format!("{missing}.err"))?;
        ensure!(complaint.contains(missing), "{missing} is not named: {complaint}");
        let status = read(files, &format!("{missing}.status"))?;
        if status.trim() == "0" {
            let coverage = &report(files, missing)?["coverage"];
            ensure!(*coverage != root["coverage"], "{missing} makes no difference");
        } else {
            same("exit status", status.trim(), "121")?;
        }
    }
    Ok(())
}

fn report(files: &Path, name: &str) -> Result<Value> {
    let complaint = || read(files, &format!("{name}.err")).unwrap_or_default();
    serde_json::from_str(&read(files, &format!("{name}.json"))?).with_context(complaint)
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
