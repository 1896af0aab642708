//! Sentences that every view for people has.

mod times;
mod trust;

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _};

use collapse_common::Cause;

pub use times::{operations, waits};
pub use trust::{checked, trust};

use super::{
    EpisodeReport, Faults, FindingReport, GainsReport, HistogramReport, LongFaultReport, Name,
    PmlFullReport, Recoveries, Report, SpanReport, StallReport, VmReport,
};
use collapse_model::{
    GiantCounts, LoggedBy, MetricId, Outcome, RegionCounts, Standing, Work,
    metric::LEVELS,
    wording::{self, SIZES, UNKNOWN, UNNAMED_VM, bytes, duration, known, leaves, percent},
};

/// The name of a VM.
pub fn name(vm: &VmReport) -> &str {
    vm.name.as_deref().unwrap_or(UNNAMED_VM)
}

/// The name of a VM and its process id, as far as they are known.
pub fn label(vm: &VmReport) -> String {
    wording::vm_label(vm.name.as_deref(), vm.pid)
}

/// The findings about all VMs, the gravest first.
pub fn findings(report: &Report) -> Vec<(&VmReport, &FindingReport)> {
    let mut findings: Vec<_> = report
        .vms
        .iter()
        .flat_map(|vm| vm.findings.iter().map(move |finding| (vm, finding)))
        .collect();
    findings.sort_by_key(|(_, finding)| finding.rank());
    findings
}

/// Which process it is of, and whether it came and went.
pub fn identity(vm: &VmReport) -> String {
    let pid = format!("pid {}", known(vm.pid));
    let fd = vm.fd.map_or(String::new(), |fd| format!(", fd {fd}"));
    let life = match (vm.created, vm.in_teardown, vm.gone) {
        (true, true, _) => ", created in this window, being torn down at its end",
        (false, true, _) => ", being torn down at the end of this window",
        (true, _, true) => ", created and ended in this window",
        (true, _, false) => ", created in this window",
        (false, _, true) => ", ended in this window",
        (false, _, false) => "",
    };
    format!("{pid}{fd}{life}")
}

/// How a VM's regions fared.
pub fn standing(vm: &VmReport) -> Standing {
    vm.regions.counts.standing(is_logging(vm))
}

/// Whether dirty logging keeps regions small.
fn is_logging(vm: &VmReport) -> bool {
    vm.dirty_logging == Some(true) && !vm.gone
}

/// The first line: did huge pages come back?
pub fn verdict(vm: &VmReport) -> String {
    format!("{}{}", of_regions(vm), of_giants(&vm.regions_1g.counts))
}

/// What became of 1 GiB pages; nothing if none was lost.
fn of_giants(giants: &GiantCounts) -> String {
    let GiantCounts { lost, recovered, gone, mapped_smaller, .. } = *giants;
    if lost == 0 {
        return String::new();
    }
    let rest =
        [(mapped_smaller, "mapped by smaller ones"), (gone, "taken away before they came back")];
    let rest = rest.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}"));
    format!("; 1 GiB pages: {lost} lost, {recovered} recovered{}", rest.collect::<String>())
}

fn of_regions(vm: &VmReport) -> String {
    let regions = &vm.regions.counts;
    let taken = match regions.taken_away {
        0 => String::new(),
        n => format!("; {n} taken away by the VMM or with their slot, which is no loss"),
    };
    if regions.lost == 0 {
        if let Some(because) = small_by_logging(vm) {
            return format!("{because}{taken}");
        }
        // Splits and zaps may be among the changes of an unknown VM.
        let seen = if vm.log_on.is_some() { "lost" } else { "was seen to lose" };
        return format!("no region {seen} its huge page{}{taken}", small_all_along(vm));
    }
    let rate = match (vm.recovery_rate, vm.recovery_rate_touched) {
        (_, Some(_)) if standing(vm) == Standing::Good && regions.recovered < regions.lost => {
            let which =
                if regions.unmapped() > 0 { "were touched since" } else { "could come back" };
            format!(", all that {which}")
        }
        (Some(rate), Some(touched)) if rate < touched && standing(vm) == Standing::Bad => {
            format!(" ({}, {} of those touched since)", percent(rate), percent(touched))
        }
        (Some(rate), _) => format!(" ({})", percent(rate)),
        (None, _) => String::new(),
    };
    let failed = not_recovered(vm);
    let small = regions.small_now();
    let waiting = if is_logging(vm) { small } else { 0 };
    let rest = [
        (waiting, "mapped small while dirty logging is on"),
        (regions.unmapped(), "not touched since"),
        (regions.gone, "taken away before they could come back"),
    ];
    let rest = rest.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("; {n} {what}"));
    let (lost, recovered) = (regions.lost, regions.recovered);
    let rest: String = rest.collect();
    format!("huge pages: {lost} lost, {recovered} recovered{rate}{failed}{rest}{taken}")
}

/// That nothing was lost is not to read as all being well where memory is small all along.
fn small_all_along(vm: &VmReport) -> String {
    const SMALL: [&str; 3] = ["never_huge", "slot_misaligned", "hugetlb_mapped_small"];
    let is_small = vm.findings.iter().any(|found| SMALL.contains(&&*found.name));
    vm.pages.end.filter(|_| is_small).map_or(String::new(), |pages| {
        let small = pages.small.saturating_mul(4096);
        format!("; {} of {} are mapped small", bytes(small), bytes(pages.bytes()))
    })
}

/// That nothing was lost because dirty logging kept it small from its first touch on.
fn small_by_logging(vm: &VmReport) -> Option<String> {
    let latest = vm.episodes.as_ref()?.last().filter(|_| is_logging(vm))?;
    let pages = vm.pages.end.filter(|pages| pages.small > 0)?;
    let since = if latest.began_before {
        "since before the start"
    } else {
        "since before memory was touched"
    };
    let what = match pages.huge + pages.giant {
        0 => "everything is".to_owned(),
        _ => format!("{} are", bytes(pages.small.saturating_mul(4096))),
    };
    Some(format!("dirty logging on {since}; {what} small because of it"))
}

/// Regions that KVM could have mapped huge, and did not; nothing if there are none.
fn not_recovered(vm: &VmReport) -> String {
    let regions = &vm.regions.counts;
    let now = |n: u64| if is_logging(vm) { 0 } else { n };
    let parts = [
        (now(regions.refaulted_small), "mapped small again"),
        (now(regions.still_split), "still split"),
        (regions.small_to_the_end, "mapped small until taken away"),
    ];
    let all: u64 = parts.iter().map(|(n, _)| n).sum();
    match all {
        0 => String::new(),
        _ => format!(
            "; {all} NOT recovered: {}",
            list(parts, |n, what| if *n == all { what.to_owned() } else { format!("{n} {what}") })
        ),
    }
}

/// The second line: how fast did they come back, and what did it cost? Nothing if there is nothing
/// to say.
pub fn price(vm: &VmReport) -> Option<String> {
    let stall = vm.stall.as_ref().filter(|stall| stall.total_ns > 0).map(|stall| {
        let parts =
            [(Cause::LoggedFault, "under dirty logging"), (Cause::RacingFault, "during collapse")];
        let all = parts.iter().find(|(cause, _)| stall.of(*cause) == stall.total_ns);
        let parts = if let Some((_, when)) = all {
            format!("all {when}")
        } else {
            let some = parts.iter().filter(|(cause, _)| stall.of(*cause) > 0);
            let some = some.map(|(cause, when)| format!("{} {when}", stall.estimate_of(*cause)));
            some.collect::<Vec<_>>().join(", ")
        };
        let parts = if parts.is_empty() { parts } else { format!(" ({parts})") };
        format!("vCPU time lost to faults: {}{parts}", lost(stall))
    });
    match (back(vm), stall) {
        (Some(back), Some(stall)) => Some(format!("{back}; {stall}")),
        (back, stall) => back.or(stall),
    }
}

/// vCPU time that was lost, with its error, and what a few long faults took of it.
pub fn lost(stall: &StallReport) -> String {
    let long = match stall.long_faults {
        0 => String::new(),
        n => format!(", {} of it in {n} long faults", duration(stall.long_ns)),
    };
    wording::estimate(stall.total_ns, stall.error_ns) + &long
}

/// How many faults were long, and the longest, each with its vCPU and address; `None` if none was.
pub fn longest(vm: &VmReport) -> Option<(u64, String)> {
    /// Those that are listed.
    const LISTED: usize = 3;
    let faults = vm.longest_faults.as_deref().filter(|faults| !faults.is_empty())?;
    let all = vm.stall.as_ref()?.long_faults;
    let listed = faults.iter().take(LISTED).map(|fault| {
        let LongFaultReport { duration_ns, vcpu, address, cause, .. } = fault;
        let (took, vcpu) = (duration(*duration_ns), wording::vcpu(*vcpu));
        format!("{took} of {vcpu} at {address:#x} ({cause})")
    });
    let listed = listed.collect::<Vec<_>>().join(", ");
    Some((all, if all > LISTED as u64 { format!("the longest: {listed}") } else { listed }))
}

/// How long regions took to come back, from when they could.
fn back(vm: &VmReport) -> Option<String> {
    let (median, max) = vm.time_to_recover.p50_ns.zip(vm.time_to_recover.max_ns)?;
    let from_loss = vm.time_to_recover_from_loss.p50_ns.filter(|loss| *loss > median);
    let from_loss = from_loss.map_or(String::new(), |ns| {
        format!(", from when they could come back ({} from the loss)", duration(ns))
    });
    let (median, max) = (duration(median), duration(max));
    Some(format!("back after {median} (median), {max} at most{from_loss}"))
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

/// Which regions became huge that had been small from the start.
pub fn gains(gains: &GainsReport) -> String {
    format!("regions small from the start: {}", most_first(&gains.by_cause))
}

/// When the mappings at the end were read.
pub fn pages_at(vm: &VmReport) -> &'static str {
    if vm.gone || vm.in_teardown { "before teardown" } else { "end" }
}

/// Name of the count of [`RING_FULL`].
pub const RINGS_FULL: &str = "rings full";

/// What ends when a dirty ring is full.
pub const RING_FULL: &str = "exits of vCPUs whose dirty ring the VMM had to empty first";

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
    let most = if histogram.exact { "the longest" } else { "none above" };
    format!("p50 {p50}, p99 {p99}, {most} {}", shown(histogram.max_ns))
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
        (None, None) if episode.began_before => format!("logging is on since before ({slots})"),
        (None, None) => format!("logging is on ({slots})"),
    };
    let regions = &episode.regions;
    let mut story = format!("{logging}, {} lost, {}", regions.lost, returned(episode));
    // Writing to a string cannot fail.
    if let Some((off, last)) = episode.log_off_ns.zip(episode.last_recovery_ns) {
        let after = last.checked_sub(off).filter(|ns| *ns > 0).map(duration);
        let _ = match after {
            // Slots go off one after the other, and regions of the first ones come back meanwhile.
            None => {
                let took = episode.recovery_duration_ns.map(duration);
                let took = took.map_or(String::new(), |took| format!(", each within {took}"));
                write!(story, " while logging went off{took}")
            }
            Some(after) if regions.recovered == regions.lost => {
                write!(story, " within {after} of log-off")
            }
            Some(after) => write!(story, " (the last {after} after log-off)"),
        };
    }
    let rest = [
        (regions.unmapped(), "not touched since"),
        (regions.small_to_the_end, "small to the end"),
        (regions.gone, "taken away before"),
    ];
    for (n, what) in rest.iter().filter(|(n, _)| *n > 0) {
        let _ = write!(story, ", {n} {what}");
    }
    let _ = write!(story, ", {}", expense(episode));
    let _ = write!(story, ": {}", wording::outcome(episode.outcome));
    story
}

/// How many of an episode's regions came back, of those that were touched.
fn returned(episode: &EpisodeReport) -> String {
    let RegionCounts { lost, recovered, .. } = episode.regions;
    let touched = match episode.outcome {
        Outcome::RecoveredTouched => recovered,
        _ => episode.regions.touched(),
    };
    if recovered == lost || touched == 0 {
        return format!("{recovered} recovered");
    }
    format!("{recovered} of {touched} touched recovered")
}

/// How many exits for a full log of dirty pages there were, and what they took: nothing where the CPU does not
/// log, a dash where it does and they were not seen.
pub fn pml_full_row(vm: &VmReport) -> Option<(String, String)> {
    // A guest fault may clear a dirty bit on any CPU.
    let by_logging = |cause: &Name| !Cause::from_name(cause).is_some_and(Cause::is_guest_fault);
    let clears = || vm.changes.get(MetricId::DirtyClears);
    let logs = || clears().is_some_and(|clears| clears.by_cause.keys().any(by_logging));
    match vm.pml_full_exits {
        Some(PmlFullReport { total: 0, .. }) => Some(("0".to_owned(), String::new())),
        Some(PmlFullReport { total, time_ns }) => {
            Some((total.to_string(), beside_emptying(time_ns)))
        }
        None => logs().then(|| (UNKNOWN.to_owned(), String::new())),
    }
}

/// How often dirty logging was switched, how it was done, and how often its log was read.
pub fn dirty_logging(vm: &VmReport) -> String {
    let Some((on, off)) = vm.log_on.zip(vm.log_off) else { return UNKNOWN.to_owned() };
    let Some(log) = &vm.dirty_log else {
        return format!("on {on} times, off {off} times (per slot)");
    };
    let by = log.logged_by.map_or(String::new(), |by| format!(", by {}", by.label()));
    let count = |n: Option<u64>| n.unwrap_or_default();
    let asked = [
        (count(log.reads), "read"),
        (count(log.clears), "cleared"),
        (count(log.ring_resets), "ring reset"),
    ];
    let asked = list(asked, |n, what| format!("{what} {n} times"));
    let asked = if asked.is_empty() { asked } else { format!("; log {asked}") };
    format!("on {on} times, off {off} times (per slot){by}{asked}")
}

/// What exits for a full log took after KVM had emptied it.
fn beside_emptying(ns: u64) -> String {
    format!("{} of vCPU time beside emptying the log", duration(ns))
}

/// Exits for a full log of dirty pages, and what they took.
fn pml_full(PmlFullReport { total, time_ns }: PmlFullReport) -> String {
    match total {
        0 => "no PML-full exits".to_owned(),
        1 => format!("1 PML-full exit in {}", beside_emptying(time_ns)),
        n => format!("{n} PML-full exits in {}", beside_emptying(time_ns)),
    }
}

/// Describes the cost of an episode to the guest.
fn expense(episode: &EpisodeReport) -> String {
    let Some(cost) = &episode.cost else { return format!("{UNKNOWN} faults") };
    let by = match episode.logged_by {
        None | Some(LoggedBy::WriteFaults) => String::new(),
        Some(by) => format!("logged by {}: ", by.label()),
    };
    let exits = cost.pml_full.map(|exits| format!("{}, ", pml_full(exits))).unwrap_or_default();
    let faults = cost.logging.faults + cost.collapsing.faults;
    let faults = match cost.logging.stall_ns.zip(cost.collapsing.stall_ns) {
        // Where the CPU logs, the guest pays with exits of another kind: this is not to read as free.
        _ if faults == 0 => "no faults".to_owned(),
        None => format!("{faults} faults"),
        Some((logging, collapsing)) => {
            let errors = cost.logging.stall_error_ns.zip(cost.collapsing.stall_error_ns);
            // They are independent.
            let error = errors.map(|(a, b)| (a as f64).hypot(b as f64).round() as u64);
            let stall = wording::estimate(logging.saturating_add(collapsing), error);
            format!("{faults} faults in {stall} of vCPU time")
        }
    };
    by + &exits + &faults
}

/// How many of each size.
pub fn levels(counts: &super::Counts) -> String {
    let count = |level: &u32| counts.by_level.get(SIZES[*level as usize - 1].key);
    let levels = LEVELS.iter().rev().filter_map(|level| Some(leaves(count(level)?, *level)));
    levels.collect::<Vec<_>>().join(", ")
}

/// How many of each cause, the most first.
pub fn causes(counts: &super::Counts) -> String {
    most_first(&counts.by_cause)
}

fn most_first(by_cause: &BTreeMap<Name, u64>) -> String {
    let mut causes: Vec<_> = by_cause.iter().collect();
    causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let causes = causes.iter().map(|(cause, n)| format!("{cause} {n}"));
    causes.collect::<Vec<_>>().join(", ")
}

/// Describes a run of the collapse routine.
fn span(span: &SpanReport) -> String {
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

/// Runs of the collapse routine: those that did most first, `most` of them at most, and one line for those
/// that found nothing to do.
pub fn spans(spans: &[SpanReport], most: usize) -> Vec<String> {
    let done = |span: &SpanReport| {
        let Work { zapped_4k, zapped_2m, recovered, .. } = span.work;
        // A region that is rebuilt spares the zap of 512 leaves.
        zapped_4k.saturating_add(zapped_2m).saturating_add(recovered.saturating_mul(512))
    };
    let (idle, mut busy): (Vec<_>, Vec<_>) = spans.iter().partition(|span| done(span) == 0);
    busy.sort_by_key(|span| Reverse((done(span), span.duration_ns)));
    let mut lines: Vec<_> = busy.iter().take(most).map(|span| self::span(span)).collect();
    let sum = |spans: &[&SpanReport]| {
        duration(spans.iter().fold(0, |sum, span| span.duration_ns.saturating_add(sum)))
    };
    if let Some(rest) = busy.get(most..).filter(|rest| !rest.is_empty()) {
        lines.push(format!("{} that did less, in {}", rest.len(), sum(rest)));
    }
    if !idle.is_empty() {
        lines.push(format!("{} that found nothing to do, in {}", idle.len(), sum(&idle)));
    }
    lines
}
