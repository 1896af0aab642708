//! Why what is null in a VM's report is not known.

use std::collections::BTreeMap;

use super::{VmReport, keys::Name};
use collapse_feed::{Coverage, Signal};
use collapse_model::metric::METRICS;

/// Signals, and what is null without them beside metrics.
const SIGNALS: [(Signal, &[&str]); 9] = [
    (Signal::Gauges, &["pages"]),
    (Signal::Faults, &["racing"]),
    (Signal::FastFaults, &["faults.fast_huge", "racing.fast"]),
    (Signal::FaultLatency, &["latency", "racing.unresolved", "longest_faults"]),
    (Signal::DropSpte, &["drop_spte_calls"]),
    (Signal::DirtyLogHarvest, &["dirty_log.reads", "dirty_log.clears", "dirty_log.ring_resets"]),
    (
        Signal::DirtyLogging,
        &["dirty_logging", "dirty_log", "log_on", "log_off", "episode_count", "episodes"],
    ),
    (Signal::Collapse, &["collapse_runs", "collapse_spans"]),
    (Signal::LockYields, &["collapse_spans.yields"]),
];

/// Paths of what is null without a signal.
fn paths_of(signal: Signal) -> impl Iterator<Item = &'static str> {
    let metrics = METRICS.iter().filter(move |metric| metric.needs.own() == Some(signal));
    let others = SIGNALS.iter().filter(move |(other, _)| *other == signal);
    metrics.map(|metric| metric.path).chain(others.flat_map(|(_, paths)| *paths).copied())
}

/// Paths and reasons. A path stands for all below it.
pub(super) fn of(vm: &VmReport, coverage: &Coverage) -> BTreeMap<Name, String> {
    let mut unknown = BTreeMap::new();
    let unseen = coverage.missing().flat_map(|status| {
        let name = status.signal.name();
        let reason = status.reason.as_deref().unwrap_or("not attached");
        paths_of(status.signal).map(move |path| (path, format!("{name} is not seen: {reason}")))
    });
    unknown.extend(unseen.map(|(path, reason)| (path.into(), reason)));
    let mut note = |path: &'static str, is_unknown: bool, reason: &str| {
        if is_unknown {
            unknown.entry(path.into()).or_insert_with(|| reason.to_owned());
        }
    };
    let process = "the process behind it is not known";
    for (path, is_unknown) in
        [("pid", vm.pid.is_none()), ("tid", vm.tid.is_none()), ("name", vm.name.is_none())]
    {
        note(path, is_unknown, process);
    }
    note("pages", vm.pages.residual.is_none(), "KVM's gauges were not read at both ends");
    for path in ["huge_share", "huge_share_2m", "huge_share_1g"] {
        note(path, vm.huge_share.is_none(), "nothing is mapped, or KVM's gauges are not known");
    }
    let lost = vm.regions.counts.lost;
    let reason = match lost {
        0 => "no region lost its huge leaf",
        _ => "every region that lost its huge leaf was taken away before it could come back",
    };
    note("recovery_rate", vm.recovery_rate.is_none(), reason);
    let nothing = vm.recovery_rate_of_all_lost.is_none();
    note("recovery_rate_of_all_lost", nothing, "no huge leaf went while the VM lived");
    let touched = "no region that lost its huge leaf was touched since";
    note("recovery_rate_touched", vm.recovery_rate_touched.is_none(), touched);
    let refaulted = "nothing was mapped again where it had been zapped";
    note("time_to_refault", vm.time_to_refault.count == 0, refaulted);
    for path in ["time_to_recover", "time_to_recover_from_loss"] {
        note(path, vm.time_to_recover.count == 0, "no region got its huge leaf back");
    }
    let no_level = vm.faults.as_ref().is_some_and(|faults| faults.fast_huge.is_none());
    note(
        "faults.fast_huge",
        no_level,
        "KVM counts fast faults itself, and does not report their level",
    );
    let reason = match coverage.paging.pml {
        None => "whether the CPU logs dirty pages (PML) is not known",
        Some(_) => "the VM was not under dirty logging",
    };
    note("dirty_log.logged_by", vm.dirty_log.is_some_and(|log| log.logged_by.is_none()), reason);
    let reason = match coverage.paging.pml {
        Some(false) => "the CPU does not log dirty pages (PML)",
        _ => "they were not looked for",
    };
    note("pml_full_exits", vm.pml_full_exits.is_none(), reason);
    let faults = vm.latency.as_ref().is_some_and(|latency| latency.total.count == 0);
    note("latency.total", faults, "no guest fault was timed");
    unknown
}
