//! One VM's part of the text: less than a screen.

use std::fmt::{self, Display, Write as _};

use super::Style;
use crate::{
    Counts, ReconciliationReport, VmReport,
    words::{self, kinds, price, spread, verdict, ways},
};
use collapse_common::abi::Pages;
use collapse_model::{
    Grade,
    wording::{self, PageSize, SIZES, UNKNOWN, known, percent},
};

/// Episodes listed per VM.
const EPISODES_SHOWN: usize = 3;

/// Collapse spans listed per VM.
const SPANS_SHOWN: usize = 4;

/// Writes a VM's part.
pub fn write(out: &mut String, vm: &VmReport, style: Style) -> fmt::Result {
    let identity = style.dim(&format!(" ({})", words::identity(vm)));
    writeln!(out, "{}{identity}", style.bold(words::name(vm)))?;
    writeln!(out, "  {}", verdict(vm))?;
    if let Some(price) = price(vm) {
        writeln!(out, "  {price}")?;
    }
    write_pages(out, vm, style)?;
    write_checks(out, &vm.reconciliation)?;
    for (metric, counts) in vm.changes.iter() {
        write_counts(out, metric.label, counts)?;
    }
    row(out, "recoveries", vm.recoveries.total, &ways(&vm.recoveries))?;
    if vm.became_huge.total > 0 {
        row(out, "became huge", vm.became_huge.total, &words::gains(&vm.became_huge))?;
    }
    match &vm.faults {
        None => row(out, "guest faults", UNKNOWN, "")?,
        Some(faults) => row(out, "guest faults", faults.total, &kinds(faults))?,
    }
    match &vm.latency {
        None => row(out, "fault latency", UNKNOWN, "")?,
        Some(latency) if latency.total.count == 0 => {}
        Some(latency) => row(out, "fault latency", latency.total.count, &spread(&latency.total))?,
    }
    if let Some((all, listed)) = words::longest(vm) {
        row(out, "long faults", all, &listed)?;
    }
    if let Some(operations) = words::operations(&vm.operations) {
        let calls: u64 = vm.operations.values().map(|time| time.calls).sum();
        row(out, "operations", calls, &operations)?;
    }
    for (name, count, means) in words::waits(vm) {
        row(out, name, count, &means)?;
    }
    if let Some(exits) = vm.ring_full_exits.filter(|exits| *exits > 0) {
        row(out, words::RINGS_FULL, exits, words::RING_FULL)?;
    }
    if let Some((exits, time)) = words::pml_full_row(vm) {
        row(out, "PML-full exits", exits, &time)?;
    }
    row(out, "dirty logging", "", &words::dirty_logging(vm))?;
    write_episodes(out, vm)?;
    write_spans(out, vm)
}

/// One line: a name, a number, and what there is to say about it.
fn row(out: &mut String, name: &str, value: impl Display, more: &str) -> fmt::Result {
    let line = format!("  {name:<15}{value:>10}   {more}");
    writeln!(out, "{}", line.trim_end())
}

fn write_pages(out: &mut String, vm: &VmReport, style: Style) -> fmt::Result {
    let pages = &vm.pages;
    let end = words::pages_at(vm);
    let title =
        format!("  {:<15}{:>10}{:>17}{:>9}{:>11}", "mappings", "start", end, "share", "residual");
    writeln!(out, "{}", style.dim(&title))?;
    let (start, end) = (pages.start.map(Pages::from), pages.end.map(Pages::from));
    let residual = pages.residual.map(<[i64; 3]>::from);
    let shares = end.and_then(wording::mapped_shares);
    for (place, PageSize { name, .. }) in SIZES.iter().enumerate() {
        writeln!(
            out,
            "    {name:<13}{:>10}{:>17}{:>9}{:>11}",
            known(start.map(|pages| pages[place])),
            known(end.map(|pages| pages[place])),
            known(shares.map(|shares| percent(shares[place]))),
            known(residual.map(|residual| residual[place])),
        )?;
    }
    Ok(())
}

fn write_checks(out: &mut String, checks: &ReconciliationReport) -> fmt::Result {
    let &ReconciliationReport { grade, intervals, exact, off } = checks;
    let words = wording::grade(grade);
    match grade {
        Grade::Unknown => row(out, "gauge checks", UNKNOWN, words),
        _ => row(out, "gauge checks", intervals, &format!("{words}: {exact} exact, {off} off")),
    }
}

fn write_counts(out: &mut String, name: &str, counts: &Counts) -> fmt::Result {
    if counts.total == 0 {
        return row(out, name, 0, "");
    }
    let (levels, causes) = (words::levels(counts), words::causes(counts));
    row(out, name, counts.total, &format!("{levels}: {causes}"))
}

fn write_episodes(out: &mut String, vm: &VmReport) -> fmt::Result {
    let (Some(count), Some(episodes)) = (vm.episode_count, &vm.episodes) else {
        return row(out, "episodes", UNKNOWN, "");
    };
    row(out, "episodes", count, "")?;
    let skipped = episodes.len().saturating_sub(EPISODES_SHOWN);
    for episode in &episodes[skipped..] {
        writeln!(out, "    {}: {}", episode.number, words::story(episode))?;
    }
    Ok(())
}

fn write_spans(out: &mut String, vm: &VmReport) -> fmt::Result {
    row(out, "collapse runs", known(vm.collapse_runs), "")?;
    let spans = vm.collapse_spans.as_deref().unwrap_or_default();
    for line in words::spans(spans, SPANS_SHOWN) {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}
