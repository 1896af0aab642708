//! The report for the summary page of a CI job.

use std::fmt::{self, Display, Write as _};

use super::{
    Counts, Report, VmReport,
    gate::{CheckState, DemandCheck, checks},
    words,
};
use collapse_common::abi::Pages;
use collapse_model::wording::{PageSize, SIZES, UNKNOWN, known, mapped_shares, percent};

/// Episodes and collapse runs listed per VM.
const LISTED: usize = 10;

/// Renders a report.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    let checks = checks(report);
    let failed = checks.iter().filter(|check| check.state == CheckState::Failed).count();
    let verdict = match (failed, checks.len()) {
        (0, 0) => String::new(),
        (0, _) => " ✅".to_owned(),
        (n, _) => format!(" ❌ {n} failed"),
    };
    writeln!(out, "## collapse report{verdict}\n")?;
    writeln!(out, "{}", escape(&report.title()))?;
    if let Some(command) = &report.command {
        writeln!(out, "<br>command: {} ({})", code(&command.argv.join(" ")), command.ending())?;
    }
    write_findings(out, report)?;
    write_checks(out, &checks)?;
    if report.vms.is_empty() {
        writeln!(out, "\nNo VM was seen.")?;
    }
    for vm in &report.vms {
        write_vm(out, vm)?;
    }
    if report.vms_forgotten > 0 {
        writeln!(out, "\nAnd {} VMs that ended before these.", report.vms_forgotten)?;
    }
    writeln!(out)?;
    for line in words::trust(report) {
        writeln!(out, "- {}", escape(line.trim_start()))?;
    }
    Ok(())
}

fn write_findings(out: &mut String, report: &Report) -> fmt::Result {
    let start = report.started_ns.unwrap_or_default();
    for (at, (vm, finding)) in words::findings(report).into_iter().enumerate() {
        if at == 0 {
            writeln!(out, "\n| | finding | VM | what to do |\n|---|---|---|---|")?;
        }
        let (name, title) = (code(&finding.name), escape(&finding.title));
        let (story, vm) = (escape(&finding.story(start)), escape(&words::label(vm)));
        let remedies: Vec<_> = finding.remedies().map(|remedy| escape(&remedy)).collect();
        let remedies = remedies.join("<br>");
        writeln!(out, "| ⚠️ | **{title}** {name}<br>{story} | {vm} | {remedies} |")?;
    }
    Ok(())
}

fn write_checks(out: &mut String, checks: &[DemandCheck]) -> fmt::Result {
    if checks.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| | check | VM | found |\n|---|---|---|---|")?;
    for check in checks {
        let mark = match check.state {
            CheckState::Passed => "✅",
            CheckState::Failed => "❌",
            CheckState::Skipped => "❔",
        };
        let name = code(&check.name);
        let vm = escape(check.vm.as_deref().unwrap_or_default());
        let kind = check.kind.name();
        writeln!(out, "| {mark} | {kind} {name} | {vm} | {} |", escape(&check.found))?;
    }
    Ok(())
}

fn write_vm(out: &mut String, vm: &VmReport) -> fmt::Result {
    writeln!(out, "\n### {} ({})\n", escape(words::name(vm)), words::identity(vm))?;
    writeln!(out, "**{}**", escape(&words::verdict(vm)))?;
    if let Some(price) = words::price(vm) {
        writeln!(out, "<br>{}", escape(&price))?;
    }
    let when = words::pages_at(vm);
    writeln!(out, "\n| mappings | start | {when} | share | residual |\n|---|--:|--:|--:|--:|")?;
    let (start, end) = (vm.pages.start.map(Pages::from), vm.pages.end.map(Pages::from));
    let residual = vm.pages.residual.map(<[i64; 3]>::from);
    let shares = end.and_then(mapped_shares);
    for (place, PageSize { name, .. }) in SIZES.iter().enumerate() {
        let start = known(start.map(|pages| pages[place]));
        let end = known(end.map(|pages| pages[place]));
        let share = known(shares.map(|shares| percent(shares[place])));
        let residual = known(residual.map(|residual| residual[place]));
        writeln!(out, "| {name} | {start} | {end} | {share} | {residual} |")?;
    }
    writeln!(out, "\n| changes | number | by size | by cause |\n|---|--:|---|---|")?;
    for (metric, counts) in vm.changes.iter() {
        write_counts(out, metric.label, counts)?;
    }
    row(out, "recoveries", vm.recoveries.total, &words::ways(&vm.recoveries))?;
    if vm.became_huge.total > 0 {
        row(out, "became huge", vm.became_huge.total, &words::gains(&vm.became_huge))?;
    }
    match &vm.faults {
        None => row(out, "guest faults", UNKNOWN, "")?,
        Some(faults) => row(out, "guest faults", faults.total, &words::kinds(faults))?,
    }
    if let Some(latency) = vm.latency.as_ref().filter(|latency| latency.total.count > 0) {
        row(out, "fault latency", latency.total.count, &words::spread(&latency.total))?;
    }
    if let Some((all, listed)) = words::longest(vm) {
        row(out, "long faults", all, &listed)?;
    }
    if let Some(exits) = vm.ring_full_exits.filter(|exits| *exits > 0) {
        row(out, words::RINGS_FULL, exits, words::RING_FULL)?;
    }
    if let Some((exits, time)) = words::pml_full_row(vm) {
        row(out, "PML-full exits", exits, &time)?;
    }
    row(out, "dirty logging", "", &words::dirty_logging(vm))?;
    if let Some(operations) = words::operations(&vm.operations) {
        let calls: u64 = vm.operations.values().map(|time| time.calls).sum();
        row(out, "operations", calls, &operations)?;
    }
    for (name, count, means) in words::waits(vm) {
        row(out, name, count, &means)?;
    }
    let episodes = vm.episodes.as_deref().unwrap_or_default();
    let stories = latest(episodes)
        .iter()
        .map(|episode| format!("{}. {}", episode.number, words::story(episode)));
    write_list(out, "Episodes of dirty logging", vm.episode_count, stories)?;
    let spans = vm.collapse_spans.as_deref().unwrap_or_default();
    let spans = words::spans(spans, LISTED);
    let spans = spans.iter().map(|line| format!("- {line}"));
    write_list(out, "Runs of the collapse routine", vm.collapse_runs, spans)
}

fn write_counts(out: &mut String, name: &str, counts: &Counts) -> fmt::Result {
    let (levels, causes) = (words::levels(counts), escape(&words::causes(counts)));
    writeln!(out, "| {name} | {} | {levels} | {causes} |", counts.total)
}

fn row(out: &mut String, name: &str, value: impl Display, more: &str) -> fmt::Result {
    writeln!(out, "| {name} | {value} | | {} |", escape(more))
}

/// A list under a title that opens it.
fn write_list(
    out: &mut String,
    title: &str,
    count: Option<u64>,
    lines: impl Iterator<Item = String>,
) -> fmt::Result {
    let count = known(count);
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return writeln!(out, "\n{title}: {count}");
    }
    writeln!(out, "\n<details><summary>{title}: {count}</summary>\n")?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\n</details>")
}

fn latest<T>(all: &[T]) -> &[T] {
    &all[all.len().saturating_sub(LISTED)..]
}

/// Text that is nothing but text, in a line of a table too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // A mention of somebody, a link, or an issue.
            '@' | '#' => _ = write!(escaped, "&#{};", c as u32),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Text set as code.
fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}
