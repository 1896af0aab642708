//! A function that cannot be probed: the rest is measured as usual, and its counts are unknown.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use lab::{LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// Kernel symbols without the routine's name: `collapse` then tries the name that it has in later kernels,
/// at an address where nothing is. With addresses hidden, the kernel looks up no symbols, and the list is read.
const COMMAND: &str = "
set -e
sed 's,^.* kvm_mmu_zap_collapsible_sptes,ffffffffffffffff t kvm_mmu_recover_huge_pages,' /proc/kallsyms >/tmp/symbols
mount --bind /tmp/symbols /proc/kallsyms
sysctl -q -w kernel.kptr_restrict=2
collapse record -o /out/recording -- workload failed-migration --size 16M --quiet
collapse report --from /out/recording --format json -o /out/report.json
collapse report --from /out/recording -o /out/report.txt
";

/// On one kernel: how a missing hook is treated does not depend on it.
pub fn cases() -> Vec<LabCase> {
    vec![LabCase::new(
        "a routine that cannot be probed",
        kernels::default(),
        &["sh", "-c", COMMAND],
        check,
    )]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report = fs::read_to_string(files.join("report.json")).context("reading the report")?;
    let report: Value = serde_json::from_str(&report).context("the report is no JSON")?;
    let vm = &report["vms"][0];
    for path in ["collapse_runs", "collapse_spans"] {
        same(path, vm.get(path), Some(&Value::Null))?;
        let reason = vm["unknown"][path].as_str().unwrap_or_default();
        ensure!(reason.contains("kvm_mmu_recover_huge_pages cannot be probed"), "{path}: {reason}");
    }
    same("collapse of an episode", &vm["episodes"][0]["collapse"], &Value::Null)?;
    same("residual", &vm["pages"]["residual"], &json!({"4k": 0, "2m": 0, "1g": 0}))?;
    same("splits", &vm["splits"]["total"], &json!(8))?;
    let zaps = &vm["zaps"]["by_cause"];
    same("zaps by the caller of the routine", &zaps["slot_change"], &json!(8 * 512))?;

    let text = fs::read_to_string(files.join("report.txt")).context("reading the text")?;
    for words in [&["collapse", "runs", "–"][..], &["coverage:", "25", "of", "26", "signals"]] {
        let found = text.lines().any(|line| line.split_whitespace().eq(words.iter().copied()));
        ensure!(found, "the text has no line {words:?}:\n{text}");
    }
    Ok(())
}
