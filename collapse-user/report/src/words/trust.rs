//! How far a report can be trusted: checks, loss, disagreement, what is not seen.

use std::collections::BTreeSet;

use collapse_common::abi::Loss;

use super::list;
use crate::{
    Report, SignalReport, VmReport,
    gate::{CheckKind, CheckState, checks},
};
use collapse_model::Grade;

/// Signals that are listed one by one although they share the reason for not being seen, at most.
const SAME_REASON: usize = 3;

/// Which checks there were, apart from the command's success; `None` if there were none.
pub fn checked(report: &Report) -> Option<String> {
    let mut checks = checks(report);
    checks.retain(|check| check.kind != CheckKind::Command);
    let count = |state| checks.iter().filter(|check| check.state == state).count() as u64;
    let parts = [
        (count(CheckState::Passed), "ok"),
        (count(CheckState::Skipped), "could not be compared"),
        (count(CheckState::Failed), "FAILED"),
    ];
    (!checks.is_empty()).then(|| list(parts, |n, what| format!("{n} {what}")))
}

/// Caveats about a report: loss, disagreement, what is not seen. A line each; the first is
/// about loss, and the last are about signals that are not seen.
pub fn trust(report: &Report) -> Vec<String> {
    let lost: Vec<_> = report.losses.iter().filter(|(_, n)| **n > 0).collect();
    let remedy = |way: &str| Loss::ALL.into_iter().find(|loss| loss.name() == way)?.remedy();
    let remedies: BTreeSet<_> = lost.iter().filter_map(|(way, _)| remedy(way)).collect();
    let remedies: Vec<_> = remedies.into_iter().collect();
    let remedy = match remedies.as_slice() {
        [] => String::new(),
        remedies => format!(" (try a larger {})", remedies.join(" and ")),
    };
    let lost: Vec<_> = lost.iter().map(|(way, n)| format!("{way} {n}")).collect();
    let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") };
    let mut lines = vec![format!("lost: {lost}{remedy}")];
    if let Some(overhead) = &report.overhead {
        let budget = overhead.budget_percent;
        let of = budget.map_or(String::new(), |most| format!(" (budget: {most} %)"));
        let cost = format!("cost of the probes: {:.2} % of a core{of}", overhead.percent);
        let caveat = overhead.caveat().map_or(String::new(), |caveat| format!("; {caveat}"));
        lines.push(cost + &caveat);
    }
    if report.unattributed_changes > 0 {
        lines.push(format!("changes of unknown VM: {}", report.unattributed_changes));
    }
    lines.push(agreement(report));
    if let Some(why) = report.nothing_seen() {
        lines.push(format!("coverage: nothing was seen at the end: {why}"));
        return lines;
    }
    let missing: Vec<&SignalReport> =
        report.coverage.iter().filter(|signal| !signal.seen).collect();
    if missing.is_empty() {
        lines.push("coverage: full".to_owned());
        return lines;
    }
    let (all, seen) = (report.coverage.len(), report.coverage.len() - missing.len());
    lines.push(format!("coverage: {seen} of {all} signals"));
    lines.extend(not_seen(&missing));
    lines
}

/// Signals that are not seen: a line each, or one for all that share a reason.
fn not_seen(missing: &[&SignalReport]) -> Vec<String> {
    let reason = |signal: &SignalReport| signal.reason.clone().unwrap_or("not attached".to_owned());
    let mut by_reason: Vec<(String, Vec<&SignalReport>)> = Vec::new();
    for signal in missing {
        let reason = reason(signal);
        match by_reason.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, signals)) => signals.push(signal),
            None => by_reason.push((reason, vec![signal])),
        }
    }
    let line = |reason: &str, signal: &SignalReport| {
        let loses = signal.loses.as_deref().unwrap_or_default();
        format!("  {}: {loses} ({reason})", signal.signal)
    };
    let lines = by_reason.iter().flat_map(|(reason, signals)| {
        if signals.len() > SAME_REASON {
            let names: Vec<_> = signals.iter().map(|signal| &*signal.signal).collect();
            return vec![format!("  {reason}: {} are not seen", names.join(", "))];
        }
        signals.iter().map(|signal| line(reason, signal)).collect()
    });
    lines.collect()
}

/// Whether counts and KVM's gauges agree, and over what time.
fn agreement(report: &Report) -> String {
    let graded = |grade| report.vms.iter().filter(move |vm| vm.reconciliation.grade == grade);
    let (off, moving) = (graded(Grade::Off).count(), graded(Grade::Moving).count());
    let known = off + moving + graded(Grade::Exact).count();
    let torn = report.vms.iter().filter(|vm| vm.in_teardown && vm.pages.compared_ns.is_some());
    let torn = match torn.count() {
        0 => String::new(),
        1 => " (1 VM was in teardown at the end, and was compared before)".to_owned(),
        n => format!(" ({n} VMs were in teardown at the end, and were compared before)"),
    };
    match (off, moving) {
        (0, 0) if report.vms.is_empty() => "there were no counts to check".to_owned(),
        (0, 0) if known == 0 => {
            "counts were not checked: KVM's gauges are unavailable on this host".to_owned()
        }
        (0, 0) => format!("counts add up with KVM's own gauges{torn}"),
        (0, n) => format!("counts were moving while they were checked: {n} VM(s) not judged{torn}"),
        (n, _) => {
            let sum = |of: fn(&VmReport) -> u64| graded(Grade::Off).map(of).sum::<u64>();
            let wrong = sum(|vm| vm.reconciliation.off);
            let all = sum(|vm| vm.reconciliation.intervals);
            let when = match wrong {
                0 => "at the end".to_owned(),
                _ => format!("in {wrong} of {all} checks"),
            };
            format!("counts do NOT add up with KVM's gauges for {n} VM(s), {when}{torn}")
        }
    }
}
