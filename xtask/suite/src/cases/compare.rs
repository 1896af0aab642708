//! Other tools beside `collapse` on one run: what all of them count must be the same.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::{count, same, trust};
use crate::case::LabCase;

/// The events by which what other tools count is compared with a number of the report.
const COUNTED: [(&str, &str); 5] = [
    ("kvm_page_fault", "/faults/total"),
    ("fast_page_fault", "/faults/fast"),
    ("kvm_mmu_set_spte", "/installs/total"),
    ("kvm_mmu_split_huge_page", "/splits/total"),
    ("kvm_tdp_mmu_spte_changed", "/changes/counted"),
];

/// A function in the stack of a change, and the number of the report that has all such changes of small leaves.
const CAUSES: [(&str, &str); 3] = [
    ("zap_collapsible_spte_range", "/zaps/by_cause/collapse"),
    ("kvm_get_dirty_log_protect", "/write_protects/by_cause/get_dirty_log"),
    ("kvm_mmu_slot_remove_write_access", "/write_protects/by_cause/log_protect"),
];

/// On the kernel of `docs/compare.md`.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/compare.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("compare.sh").to_vec(),
    };
    let command = ["sh", "/bin/compare.sh", "/out"];
    let case = LabCase::new("beside other tools", kernels::default(), &command, check);
    let case = LabCase { tools: true, files: vec![script], ..case };
    rarely.then_some(case).into_iter().collect()
}

fn check(outcome: &LabOutcome, kernel: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report: Value = serde_json::from_str(&read(files, "report.json")?)?;
    trust(&report, kernel)?;
    let of_report = |path: &str| {
        let whole = path.starts_with("/changes/");
        count(if whole { &report } else { &report["vms"][0] }, path)
    };
    let (perf, traced) = (read(files, "perf-stat.txt")?, read(files, "trace.txt")?);
    let (perf, traced) = (perf_stat(&perf), trace(&traced));
    let complete = read(files, "options.txt")?.lines().filter(|line| lost(line)).count() == 0;
    ensure!(complete, "trace-cmd lost events");
    for (event, path) in COUNTED {
        let expected = of_report(path);
        ensure!(expected > Some(0), "no {path}");
        same(&format!("{event} of perf stat"), perf.get(event).copied(), expected)?;
        same(&format!("{event} of trace-cmd"), traced.get(event).copied(), expected)?;
    }
    let exits = perf_kvm(&read(files, "perf-kvm.txt")?, "npf");
    same("nested page faults of perf kvm stat", exits, of_report("/faults/total"))?;

    let stacks = bpftrace(&read(files, "bpftrace.txt")?);
    let all = stacks.iter().map(|stack| stack.count).sum();
    same("changes of bpftrace", Some(all), of_report("/changes/counted"))?;
    for (function, path) in CAUSES {
        let below = |stack: &&Stack| stack.level == 1 && stack.functions.contains(function);
        let n = stacks.iter().filter(below).map(|stack| stack.count).sum();
        same(&format!("changes below {function}"), Some(n), of_report(path))?;
    }
    Ok(())
}

/// `COUNT GROUP:EVENT`, with the digits of the count in groups of three.
fn perf_stat(text: &str) -> BTreeMap<&str, u64> {
    let count = |line: &'_ str| -> Option<u64> { line.replace(',', "").parse().ok() };
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (n, event) = (count(words.next()?)?, words.next()?);
        Some((event.split_once(':')?.1, n))
    });
    lines.collect()
}

/// Lines by event: `TASK [CPU] FLAGS TIME: EVENT: …`.
fn trace(text: &str) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let event = line.split_once("] ").and_then(|(_, rest)| rest.split(": ").nth(1));
        *counts.entry(event.unwrap_or_default().trim()).or_default() += 1;
    }
    counts
}

/// Whether a line of the statistics of ftrace's buffers says that events were lost.
fn lost(line: &str) -> bool {
    let n = |name| line.strip_prefix(name).is_some_and(|n: &str| n.trim() != "0");
    n("overrun:") || n("dropped events:")
}

/// Exits of a reason: `REASON COUNT …`.
fn perf_kvm(text: &str, reason: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace);
    words
        .find_map(|mut words| (words.next() == Some(reason)).then(|| words.next()?.parse().ok())?)
}

/// The changes at one level with one stack.
struct Stack {
    level: u64,
    functions: String,
    count: u64,
}

/// `@changes[LEVEL, ` and a line per function, then `]: COUNT`.
fn bpftrace(text: &str) -> Vec<Stack> {
    let stacks = text.split("@changes[").skip(1).filter_map(|entry| {
        let (stack, count) = entry.split_once("]: ")?;
        let (level, functions) = stack.split_once(',')?;
        Some(Stack {
            level: level.trim().parse().ok()?,
            functions: functions.to_owned(),
            count: count.trim().parse().ok()?,
        })
    });
    stacks.collect()
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_s_own_words() {
        let perf = perf_stat(
            "# started\n\n         49,330      kvmmmu:fast_page_fault   \n  9.1 seconds\n",
        );
        assert_eq!(perf, BTreeMap::from([("fast_page_fault", 49330)]));
        let line = " CPU 0/KVM-226 [000] .N.1. 12.3: kvm_mmu_set_spte: gfn 1 spte 1c8 level 1: x\n";
        assert_eq!(trace(&line.repeat(2)), BTreeMap::from([("kvm_mmu_set_spte", 2)]));
        assert!(lost("overrun: 3") && lost("dropped events: 1"));
        assert!(!lost("overrun: 0") && !lost("commit overrun: 7"));
        assert_eq!(perf_kvm("\n  npf   32837   99.6%\n", "npf"), Some(32837));
        let stacks =
            bpftrace("ready\n@changes[4, \n  a+1\n  b+2\n]: 1\n@changes[1, \n  c+3\n]: 16\n");
        let stacks: Vec<_> = stacks.iter().map(|stack| (stack.level, stack.count)).collect();
        assert_eq!(stacks, [(4, 1), (1, 16)]);
    }
}
