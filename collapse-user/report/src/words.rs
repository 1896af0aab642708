//! Sentences that every view for people has.

use std::{collections::BTreeSet, fmt::Write as _};

use collapse_common::{Cause, abi::Loss};

use super::{
    EpisodeReport, Faults, HistogramReport, Recoveries, Report, SignalReport, SpanReport, VmReport,
    gate::{CheckKind, CheckState, checks},
};
use collapse_model::{
    Grade,
    metric::LEVELS,
    wording::{self, SIZES, UNKNOWN, UNNAMED_VM, bytes, duration, known, leaves, percent},
};

/// The name of a VM.
pub fn name(vm: &VmReport) -> &str {
    vm.name.as_deref().unwrap_or(UNNAMED_VM)
}

/// Which process it is of, and whether it came and went.
pub fn identity(vm: &VmReport) -> String {
    let pid = format!("pid {}", known(vm.pid));
    let fd = vm.fd.map_or(String::new(), |fd| format!(", fd {fd}"));
    let life = match (vm.created, vm.gone) {
        (true, true) => ", created and ended in this window",
        (true, false) => ", created in this window",
        (false, true) => ", ended in this window",
        (false, false) => "",
    };
    format!("{pid}{fd}{life}")
}

/// The first line: did huge pages come back?
pub fn verdict(vm: &VmReport) -> String {
    let regions = &vm.regions.counts;
    let Some(rate) = vm.recovery_rate else {
        return "no region lost its huge page".to_owned();
    };
    // What nobody can want back is no failure.
    let rate =
        if regions.lost > regions.gone { format!(" ({})", percent(rate)) } else { String::new() };
    let mut text =
        format!("huge pages: {} lost, {} recovered{rate}", regions.lost, regions.recovered);
    // Writing to a string cannot fail.
    if let Some(touched) = vm.recovery_rate_touched
        && regions.refaulted_small > 0
    {
        let _ = write!(
            text,
            "; {} mapped small again: {} of those touched recovered",
            regions.refaulted_small,
            percent(touched)
        );
    }
    let rest = [
        (regions.still_split, "still split"),
        (regions.untouched - regions.still_split, "not touched since"),
        (regions.gone, "gone with the VM or its slot"),
    ];
    for (n, what) in rest.iter().filter(|(n, _)| *n > 0) {
        let _ = write!(text, "; {n} {what}");
    }
    text
}

/// The second line: how fast did they come back, and what did it cost? Nothing if there is nothing
/// to say.
pub fn price(vm: &VmReport) -> Option<String> {
    let times = &vm.time_to_recover;
    let back = times.p50_ns.zip(times.max_ns).map(|(median, max)| {
        format!("back after {} (median), {} at most", duration(median), duration(max))
    });
    let stall = vm.stall.as_ref().filter(|stall| stall.total_ns > 0).map(|stall| {
        let parts =
            [(Cause::LoggedFault, "under dirty logging"), (Cause::RacingFault, "during collapse")];
        let parts = parts.map(|(cause, when)| (stall.of(cause), when));
        let parts = list(parts, |ns, when| format!("{} {when}", duration(*ns)));
        let parts = if parts.is_empty() { parts } else { format!(" ({parts})") };
        format!("vCPU time lost to faults: {}{parts}", duration(stall.total_ns))
    });
    match (back, stall) {
        (Some(back), Some(stall)) => Some(format!("{back}; {stall}")),
        (back, stall) => back.or(stall),
    }
}

/// Lists the counts that are not zero.
fn list<const N: usize>(parts: [(u64, &str); N], say: impl Fn(&u64, &str) -> String) -> String {
    let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| say(n, what));
    parts.collect::<Vec<_>>().join(", ")
}

/// How regions recovered.
pub fn ways(recoveries: &Recoveries) -> String {
    let ways = [
        (recoveries.by_refault, "by refault"),
        (recoveries.in_place, "in place"),
        (recoveries.by_promotion, "of those at a fault"),
        (recoveries.read_only, "of those read-only"),
    ];
    list(ways, |n, way| format!("{way} {n}"))
}

/// Which faults there were.
pub fn kinds(faults: &Faults) -> String {
    let fast = known(faults.fast);
    let collapsing = match faults.while_collapsing {
        0 => String::new(),
        n => format!(", {n} while collapsing"),
    };
    let logging = known(faults.while_logging);
    format!("{fast} by the fast path, {logging} while dirty logging{collapsing}")
}

/// Quantiles of durations.
pub fn spread(histogram: &HistogramReport) -> String {
    let shown = |ns: Option<u64>| known(ns.map(duration));
    let (p50, p99) = (shown(histogram.p50_ns), shown(histogram.p99_ns));
    format!("p50 {p50}, p99 {p99}, at most {}", shown(histogram.max_ns))
}

/// Describes an episode in the order of events.
pub fn story(episode: &EpisodeReport) -> String {
    let slots = match episode.slots {
        1 => "1 slot".to_owned(),
        n => format!("{n} slots"),
    };
    let logging = match (episode.logging_duration_ns, episode.log_off_ns) {
        (Some(ns), _) => format!("logging for {} ({slots})", duration(ns)),
        (None, Some(_)) => format!("logging since before ({slots})"),
        (None, None) => format!("logging is on ({slots})"),
    };
    let regions = &episode.regions;
    let mut story = format!("{logging}, {} lost, {} recovered", regions.lost, regions.recovered);
    // Writing to a string cannot fail.
    if let Some(ns) = episode.recovery_duration_ns {
        let _ = write!(story, " within {} of log-off", duration(ns));
    }
    let _ = write!(story, ", {}", expense(episode));
    let _ = write!(story, ": {}", wording::outcome(episode.outcome));
    story
}

/// Describes the cost of an episode to the guest.
fn expense(episode: &EpisodeReport) -> String {
    let Some(cost) = &episode.cost else { return format!("{UNKNOWN} faults") };
    let faults = cost.logging.faults + cost.collapsing.faults;
    match cost.logging.stall_ns.zip(cost.collapsing.stall_ns) {
        None => format!("{faults} faults"),
        Some((logging, collapsing)) => {
            format!("{faults} faults in {} of vCPU time", duration(logging + collapsing))
        }
    }
}

/// How many of each size.
pub fn levels(counts: &super::Counts) -> String {
    let count = |level: &u32| counts.by_level.get(SIZES[*level as usize - 1].key);
    let levels = LEVELS.iter().rev().filter_map(|level| Some(leaves(count(level)?, *level)));
    levels.collect::<Vec<_>>().join(", ")
}

/// How many of each cause, the most first.
pub fn causes(counts: &super::Counts) -> String {
    let mut causes: Vec<_> = counts.by_cause.iter().collect();
    causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let causes = causes.iter().map(|(cause, n)| format!("{cause} {n}"));
    causes.collect::<Vec<_>>().join(", ")
}

/// Describes a run of the collapse routine.
pub fn span(span: &SpanReport) -> String {
    let SpanReport { slot, duration_ns, work, race, .. } = span;
    format!(
        "slot {} ({} at gfn {:#x}) took {}: zapped {}, recovered {}{}{}",
        slot.id,
        bytes(slot.npages.saturating_mul(4096)),
        slot.base_gfn,
        duration(*duration_ns),
        leaves(work.zapped_4k, 1),
        work.recovered,
        match work.recovered_read_only {
            0 => String::new(),
            n => format!(" ({n} read-only)"),
        },
        match race.map(|race| (race.installs_2m, race.installs_4k)) {
            None => format!("; faults meanwhile: {UNKNOWN}"),
            Some((0, 0)) => String::new(),
            Some((huge, small)) => {
                format!("; faults meanwhile: {}, {}", leaves(huge, 2), leaves(small, 1))
            }
        }
    )
}

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
/// about loss, and one line follows for each signal that is not seen.
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
    let graded = |grade| report.vms.iter().filter(|vm| vm.reconciliation.grade == grade).count();
    lines.push(match (graded(Grade::Off), graded(Grade::Moving), graded(Grade::Exact)) {
        (0, 0, 0) if report.vms.is_empty() => "there were no counts to check".to_owned(),
        (0, 0, 0) => {
            "counts were not checked: KVM's gauges are unavailable on this host".to_owned()
        }
        (0, 0, _) => "counts add up with KVM's own gauges".to_owned(),
        (0, n, _) => format!("counts were moving while they were checked: {n} VM(s) not judged"),
        (n, _, _) => format!("counts do NOT add up with KVM's gauges for {n} VM(s)"),
    });
    if let Some(why) = report.blind() {
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
    lines.extend(missing.iter().map(|signal| {
        let loses = signal.loses.as_deref().unwrap_or_default();
        let reason = signal.reason.as_deref().unwrap_or("not attached");
        format!("  {}: {loses} ({reason})", signal.signal)
    }));
    lines
}
