//! Rights that `collapse` keeps while it watches: those of attaching, and not those of a command that it starts.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`, `CAP_SYS_RESOURCE`, `CAP_SYSLOG`, `CAP_PERFMON` and
/// `CAP_BPF`.
const ATTACHING: u64 = 1 << 2 | 1 << 19 | 1 << 21 | 1 << 24 | 1 << 34 | 1 << 38 | 1 << 39;

/// `CAP_DAC_OVERRIDE` and `CAP_FOWNER`.
const FILES: u64 = 1 << 1 | 1 << 3;

/// `CAP_KILL`.
const SIGNALS: u64 = 1 << 5;

/// What is watched, and the capabilities of each of its threads, the first one first.
const EXPECTED: [(&str, &[u64]); 4] = [
    ("metrics", &[ATTACHING, 0]),
    ("textfile", &[ATTACHING | FILES]),
    ("live", &[ATTACHING]),
    ("watcher", &[ATTACHING | SIGNALS]),
];

/// On the default kernel.
pub fn cases() -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/rights.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("rights.sh").to_vec(),
    };
    let command = ["sh", "/bin/rights.sh"];
    let case = LabCase::new("rights that are kept", kernels::default(), &command, check);
    vec![LabCase { cpus: 1, files: vec![script], ..case }]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    for (name, expected) in EXPECTED {
        let status = read(files, name)?;
        for set in ["CapEff", "CapPrm"] {
            let kept = capabilities(&status, set)?;
            ensure!(kept == expected, "{name}, {set}: {kept:x?}, expected {expected:x?}");
        }
        let new = status.lines().filter(|line| line.starts_with("NoNewPrivs"));
        ensure!(new.clone().all(|line| line.ends_with('1')), "{name} may get new rights: {status}");
        same("threads that say so", new.count(), expected.len())?;
        same("threads with a filter of calls", filtered(&status), expected.len())?;
    }
    let (own, command) = (read(files, "own")?, read(files, "command")?);
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh"] {
        same(set, capabilities(&command, set)?, capabilities(&own, set)?)?;
    }
    ensure!(command.contains("NoNewPrivs:\t0"), "the command may get no rights: {command}");
    same("filters of the command", filtered(&command), 0)?;
    for (name, status) in
        [("metrics", "0"), ("textfile", "0"), ("live", "0"), ("command", "0"), ("stranger", "143")]
    {
        same(name, read(files, &format!("{name}.status"))?.trim(), status)?;
    }
    Ok(())
}

/// How many threads have a filter of system calls.
fn filtered(status: &str) -> usize {
    status.lines().filter(|line| *line == "Seccomp:\t2").count()
}

/// The capabilities in a set, by thread.
fn capabilities(status: &str, set: &str) -> Result<Vec<u64>> {
    let masks = status.lines().filter_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"));
    masks.map(|mask| u64::from_str_radix(mask, 16).context("a set of capabilities")).collect()
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
