//! One VM's part of the text: less than a screen.

use std::fmt::{self, Display, Write as _};

use collapse_common::Cause;

use super::{Style, duration};
use crate::{
    model::{Grade, Outcome},
    report::{
        Counts, EpisodeReport, Faults, HistogramReport, PagesBySize, ReconciliationReport,
        Recoveries, SpanReport, VmReport,
    },
};

/// Episodes listed per VM.
const EPISODES_SHOWN: usize = 3;

/// Collapse spans listed per VM.
const SPANS_SHOWN: usize = 4;

/// Writes a VM's part.
pub fn write(out: &mut String, vm: &VmReport, style: Style) -> fmt::Result {
    let name = vm.name.as_deref().unwrap_or("VM of unknown process");
    let pid = vm.pid.map_or("pid –".to_owned(), |pid| format!("pid {pid}"));
    let fd = vm.fd.map_or(String::new(), |fd| format!(", fd {fd}"));
    let life = match (vm.created, vm.gone) {
        (true, true) => ", created and ended in this window",
        (true, false) => ", created in this window",
        (false, true) => ", ended in this window",
        (false, false) => "",
    };
    writeln!(out, "{}{}", style.bold(name), style.dim(&format!(" ({pid}{fd}{life})")))?;
    writeln!(out, "  {}", verdict(vm))?;
    if let Some(price) = price(vm) {
        writeln!(out, "  {price}")?;
    }
    write_pages(out, vm, style)?;
    write_checks(out, &vm.reconciliation)?;
    write_counts(out, "splits", &vm.splits)?;
    write_counts(out, "zaps", &vm.zaps)?;
    write_counts(out, "installs", &vm.installs)?;
    write_counts(out, "write-protects", &vm.write_protects)?;
    row(out, "recoveries", vm.recoveries.total, &ways(&vm.recoveries))?;
    match &vm.faults {
        None => row(out, "guest faults", "–", "")?,
        Some(faults) => row(out, "guest faults", faults.total, &kinds(faults))?,
    }
    match &vm.latency {
        None => row(out, "fault latency", "–", "")?,
        Some(latency) if latency.total.count == 0 => {}
        Some(latency) => row(out, "fault latency", latency.total.count, &spread(&latency.total))?,
    }
    let logging = match (vm.log_on, vm.log_off) {
        (Some(on), Some(off)) => format!("on {on} times, off {off} times (per slot)"),
        _ => "–".to_owned(),
    };
    row(out, "dirty logging", "", &logging)?;
    write_episodes(out, vm)?;
    write_spans(out, vm)
}

/// One line: a name, a number, and what there is to say about it.
fn row(out: &mut String, name: &str, value: impl Display, more: &str) -> fmt::Result {
    let line = format!("  {name:<15}{value:>10}   {more}");
    writeln!(out, "{}", line.trim_end())
}

/// The first line: did huge pages come back?
fn verdict(vm: &VmReport) -> String {
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
/// to tell.
fn price(vm: &VmReport) -> Option<String> {
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

/// What there is any of, said one after the other.
fn list<const N: usize>(parts: [(u64, &str); N], say: impl Fn(&u64, &str) -> String) -> String {
    let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| say(n, what));
    parts.collect::<Vec<_>>().join(", ")
}

fn ways(recoveries: &Recoveries) -> String {
    let ways = [
        (recoveries.by_refault, "by refault"),
        (recoveries.in_place, "in place"),
        (recoveries.by_promotion, "of those at a fault"),
        (recoveries.read_only, "of those read-only"),
    ];
    list(ways, |n, way| format!("{way} {n}"))
}

fn kinds(faults: &Faults) -> String {
    let fast = known(faults.fast);
    let collapsing = match faults.while_collapsing {
        0 => String::new(),
        n => format!(", {n} while collapsing"),
    };
    let logging = known(faults.while_logging);
    format!("{fast} by the fast path, {logging} while dirty logging{collapsing}")
}

fn spread(histogram: &HistogramReport) -> String {
    let shown = |ns: Option<u64>| ns.map_or("–".to_owned(), duration);
    let (p50, p99) = (shown(histogram.p50_ns), shown(histogram.p99_ns));
    format!("p50 {p50}, p99 {p99}, at most {}", shown(histogram.max_ns))
}

fn write_pages(out: &mut String, vm: &VmReport, style: Style) -> fmt::Result {
    let pages = &vm.pages;
    let end = if vm.gone { "before teardown" } else { "end" };
    let title = format!("  {:<15}{:>10}{:>17}{:>11}", "mappings", "start", end, "residual");
    writeln!(out, "{}", style.dim(&title))?;
    let by_size = |pages: &PagesBySize| [pages.small, pages.huge, pages.giant];
    let (start, end) = (pages.start.as_ref().map(by_size), pages.end.as_ref().map(by_size));
    let residual = pages.residual.map(|r| [r.small, r.huge, r.giant]);
    for (place, size) in ["4 KiB", "2 MiB", "1 GiB"].into_iter().enumerate() {
        writeln!(
            out,
            "    {size:<13}{:>10}{:>17}{:>11}",
            known(start.map(|pages| pages[place])),
            known(end.map(|pages| pages[place])),
            known(residual.map(|residual| residual[place])),
        )?;
    }
    Ok(())
}

fn write_checks(out: &mut String, checks: &ReconciliationReport) -> fmt::Result {
    let grade = match checks.grade {
        Grade::Unknown => return row(out, "gauge checks", "–", ""),
        Grade::Exact => "exact",
        Grade::Moving => "moving, not judged",
        Grade::Off => "OFF",
    };
    let &ReconciliationReport { intervals, exact, off, .. } = checks;
    row(out, "gauge checks", intervals, &format!("{grade}: {exact} exact, {off} off"))
}

/// The number, or a dash where it is unknown.
fn known(number: Option<impl ToString>) -> String {
    number.map_or("–".to_owned(), |number| number.to_string())
}

fn write_counts(out: &mut String, name: &str, counts: &Counts) -> fmt::Result {
    if counts.total == 0 {
        return row(out, name, 0, "");
    }
    let levels = counts.by_level.iter().map(|(size, n)| format!("{n} x {}", size.to_uppercase()));
    let levels: Vec<_> = levels.collect();
    let mut causes: Vec<_> = counts.by_cause.iter().collect();
    causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let causes: Vec<_> = causes.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
    row(out, name, counts.total, &format!("{}: {}", levels.join(", "), causes.join(", ")))
}

fn write_episodes(out: &mut String, vm: &VmReport) -> fmt::Result {
    let (Some(count), Some(episodes)) = (vm.episode_count, &vm.episodes) else {
        return row(out, "episodes", "–", "");
    };
    row(out, "episodes", count, "")?;
    let skipped = episodes.len().saturating_sub(EPISODES_SHOWN);
    for episode in &episodes[skipped..] {
        writeln!(out, "    {}: {}", episode.number, story(episode))?;
    }
    Ok(())
}

/// What happened in an episode, in the order in which it did.
fn story(episode: &EpisodeReport) -> String {
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
    let _ = write!(story, ": {}", outcome(episode.outcome));
    story
}

/// What an episode cost the guest.
fn expense(episode: &EpisodeReport) -> String {
    let Some(cost) = &episode.cost else { return "– faults".to_owned() };
    let faults = cost.logging.faults + cost.collapsing.faults;
    match cost.logging.stall_ns.zip(cost.collapsing.stall_ns) {
        None => format!("{faults} faults"),
        Some((logging, collapsing)) => {
            format!("{faults} faults in {} of vCPU time", duration(logging + collapsing))
        }
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "still running",
        Outcome::NothingLost => "nothing lost",
        Outcome::Recovered => "recovered",
        Outcome::Partly => "partly recovered",
        Outcome::NotRecovered => "NOT recovered",
        Outcome::Untouched => "rest not touched since",
        Outcome::Gone => "gone",
    }
}

fn write_spans(out: &mut String, vm: &VmReport) -> fmt::Result {
    row(out, "collapse runs", known(vm.collapse_runs), "")?;
    let skipped = vm.collapse_spans.len().saturating_sub(SPANS_SHOWN);
    for span in &vm.collapse_spans[skipped..] {
        let SpanReport { slot, duration_ns, work, race, .. } = span;
        writeln!(
            out,
            "    slot {} ({} MiB at gfn {:#x}) took {}: zapped {} x 4K, recovered {}{}{}",
            slot.id,
            slot.npages / 256,
            slot.base_gfn,
            duration(*duration_ns),
            work.zapped_4k,
            work.recovered,
            match work.recovered_read_only {
                0 => String::new(),
                n => format!(" ({n} read-only)"),
            },
            match race.map(|race| (race.installs_2m, race.installs_4k)) {
                None => "; faults meanwhile: –".to_owned(),
                Some((0, 0)) => String::new(),
                Some((huge, small)) => format!("; faults meanwhile: {huge} x 2M, {small} x 4K"),
            }
        )?;
    }
    Ok(())
}

fn percent(ratio: f64) -> String {
    // Never rounds up to a whole that is not.
    format!("{:.1} %", (ratio * 1000.0).floor() / 10.0)
}
