//! Stacks of splits and zaps: each leads through the routine that its cause names, and the flame graph's
//! weights are SPTEs.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels::SelectCase};

use super::{observed::same, on};
use crate::case::LabCase;

const COMMAND: &str = "
set -e
collapse record --budget-overhead off --stacks -o /out/recording -- workload failed-migration --size 16M --quiet
collapse events --from /out/recording -o /out/events
collapse export --from /out/recording --format folded -o /out/folded
collapse events --budget-overhead off --stacks=zap -o /out/zaps -- workload failed-migration --size 4M --quiet
";

/// Routines that changes by a cause happen in, of any kernel.
const ROUTINES: [(&str, &[&str]); 4] = [
    ("collapse", &["kvm_mmu_zap_collapsible_sptes", "kvm_mmu_recover_huge_pages"]),
    ("eager_split", &["kvm_mmu_slot_try_split_huge_pages"]),
    ("guest_fault_logging", &["kvm_mmu_page_fault"]),
    ("teardown", &["kvm_destroy_vm", "kvm_mmu_zap_all"]),
];

/// Kernels on which changes are seen by raw tracepoints, by those that can be preempted, and by kprobes.
pub fn cases(all: bool) -> Vec<LabCase> {
    let case =
        |kernel| LabCase::new("stacks of splits and zaps", kernel, &["sh", "-c", COMMAND], check);
    on(SelectCase::Stacks, all).map(case).collect()
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    let lines = |name: &str| -> Result<Vec<Value>> {
        let text = fs::read_to_string(files.join(name))?;
        text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
    };
    let events = lines("events")?;
    let mut seen = BTreeMap::<&str, u64>::new();
    let (mut stacked, mut missing, mut relinked) = (0, 0, 0);
    for event in &events {
        let (kind, cause) = (text(event, "kind"), text(event, "cause"));
        if !["split", "split_relink", "zap"].contains(&kind) {
            same("stack of another kind", event.get("stack"), None)?;
            continue;
        }
        if kind == "split_relink" {
            relinked += event["count"].as_u64().context("no count")?;
        }
        if event.get("stack") == Some(&Value::Null) {
            missing += event["count"].as_u64().context("no count")?;
            continue;
        }
        let stack = event["stack"].as_array().with_context(|| format!("no stack: {event}"))?;
        stacked += event["count"].as_u64().context("no count")?;
        let named =
            |name: &&str| stack.iter().filter_map(Value::as_str).any(|f| f.starts_with(name));
        if let Some((_, routines)) = ROUTINES.iter().find(|(of, _)| *of == cause) {
            ensure!(routines.iter().any(named), "not in {routines:?}: {event}");
        }
        *seen.entry(if kind == "zap" { cause } else { "split" }).or_default() += 1;
    }
    // With a single table, two of these stacks met in one place now and then.
    same("stacks lost", missing, 0)?;
    let lost = events.iter().any(|event| event["way"] == "stacks_not_taken");
    same("whether stacks are lost", lost, false)?;
    let of = |what: &str| seen.get(what).copied().unwrap_or(0);
    ensure!(of("split") >= 8 && of("collapse") >= 4096, "hardly anything has a stack: {seen:?}");

    let folded = fs::read_to_string(files.join("folded"))?;
    let (mut weights, mut unknown) = (0, 0);
    for line in folded.lines() {
        let (frames, weight) = line.rsplit_once(' ').context("no weight")?;
        let weight = weight.parse::<u64>()?;
        if frames.ends_with(";[unknown]") && frames.split(';').count() == 4 {
            unknown += weight;
            continue;
        }
        ensure!(frames.split(';').count() > 5, "hardly a stack: {line}");
        ensure!(!frames.contains("bpf_"), "frames of tracing: {line}");
        weights += weight;
    }
    // A zap and a link are one split in two steps in the flame graph.
    same("SPTEs in the flame graph", weights + unknown, stacked + missing - relinked)?;
    ensure!(unknown <= missing, "{unknown} without a stack, expected {missing} at most");

    let zaps = lines("zaps")?;
    for event in zaps.iter().filter(|event| event["cause"].is_string()) {
        same("stack of a zap only", event["stack"].is_array(), text(event, "kind") == "zap")?;
    }
    Ok(())
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_default()
}
