//! The report for people.

use std::fmt::{self, Write as _};

use super::{Counts, PagesBySize, Report, SignalReport, SpanReport, VmReport};

/// How to set off parts of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Plain,
    /// With ANSI bold and dim.
    Ansi,
}

impl Style {
    /// Bold.
    pub(super) fn bold(self, text: &str) -> String {
        self.set(text, "1")
    }

    /// Dim.
    pub(super) fn dim(self, text: &str) -> String {
        self.set(text, "2")
    }

    fn set(self, text: &str, code: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Collapse spans listed per VM.
const SPANS_SHOWN: usize = 8;

/// Renders a report. The text ends with a line break.
pub fn render(report: &Report, style: Style) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut out, report, style);
    out
}

fn write_report(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let vms = match report.vms.len() {
        1 => "1 VM".to_owned(),
        n => format!("{n} VMs"),
    };
    let head = format!(
        "collapse report: kernel {}, {}, {}, {vms}",
        report.host.kernel,
        report.host.mmu.label(),
        duration(report.window_ns),
    );
    writeln!(out, "{}", style.bold(&head))?;
    if let Some(command) = &report.command {
        let end = match (command.status, command.signal) {
            (Some(status), _) => format!("exited with {status}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "did not start".to_owned(),
        };
        writeln!(out, "command: {} ({end})", command.argv.join(" "))?;
    }
    if report.vms.is_empty() {
        writeln!(out, "\nNo VM was seen.")?;
    }
    for vm in &report.vms {
        writeln!(out)?;
        write_vm(out, vm, style)?;
    }
    writeln!(out)?;
    write_trust(out, report, style)
}

fn write_vm(out: &mut String, vm: &VmReport, style: Style) -> fmt::Result {
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
    write_pages(out, vm, style)?;
    write_counts(out, "splits", &vm.splits)?;
    write_counts(out, "zaps", &vm.zaps)?;
    write_counts(out, "installs", &vm.installs)?;
    write_counts(out, "write-protects", &vm.write_protects)?;
    let recoveries = &vm.recoveries;
    write!(out, "  {:<15}{:>10}", "recoveries", recoveries.total)?;
    let ways = [
        (recoveries.by_refault, "by refault"),
        (recoveries.in_place, "in place"),
        (recoveries.read_only, "of those read-only"),
    ];
    let ways: Vec<_> =
        ways.iter().filter(|(n, _)| *n > 0).map(|(n, way)| format!("{way} {n}")).collect();
    writeln!(out, "{}{}", if ways.is_empty() { "" } else { "   " }, ways.join(", "))?;
    match &vm.faults {
        None => writeln!(out, "  {:<15}{:>10}", "guest faults", "–")?,
        Some(faults) => {
            let fast = faults.fast.map_or("–".to_owned(), |n| n.to_string());
            let logging = faults.while_logging;
            writeln!(
                out,
                "  {:<15}{:>10}   {fast} by the fast path, {logging} while dirty logging",
                "guest faults", faults.total
            )?;
        }
    }
    let logging = match (vm.log_on, vm.log_off) {
        (Some(on), Some(off)) => format!("on {on} times, off {off} times (per slot)"),
        _ => "–".to_owned(),
    };
    writeln!(out, "  {:<15}{:>13}{logging}", "dirty logging", "")?;
    write_spans(out, vm)
}

/// The first line: did huge pages come back?
fn verdict(vm: &VmReport) -> String {
    let regions = &vm.regions;
    let Some(rate) = vm.recovery_rate else {
        return "no region lost its huge page".to_owned();
    };
    let mut text = format!(
        "huge pages: {} lost, {} recovered ({})",
        regions.lost,
        regions.recovered,
        percent(rate)
    );
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
    for (n, what) in [(regions.untouched, "not touched since"), (regions.gone, "gone with the VM")]
    {
        if n > 0 {
            let _ = write!(text, "; {n} {what}");
        }
    }
    text
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

/// The number, or a dash where it is unknown.
fn known(number: Option<impl ToString>) -> String {
    number.map_or("–".to_owned(), |number| number.to_string())
}

fn write_counts(out: &mut String, name: &str, counts: &Counts) -> fmt::Result {
    write!(out, "  {name:<15}{:>10}", counts.total)?;
    if counts.total > 0 {
        let levels: Vec<_> = counts
            .by_level
            .iter()
            .map(|(size, n)| format!("{n} x {}", size.to_uppercase()))
            .collect();
        let mut causes: Vec<_> = counts.by_cause.iter().collect();
        causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let causes: Vec<_> = causes.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
        write!(out, "   {}: {}", levels.join(", "), causes.join(", "))?;
    }
    writeln!(out)
}

fn write_spans(out: &mut String, vm: &VmReport) -> fmt::Result {
    let Some(runs) = vm.collapse_runs else {
        return writeln!(out, "  {:<15}{:>10}", "collapse runs", "–");
    };
    writeln!(out, "  {:<15}{runs:>10}", "collapse runs")?;
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

/// What may be wrong with all of the above.
fn write_trust(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let lost: Vec<_> = report.losses.iter().filter(|(_, n)| **n > 0).collect();
    if lost.is_empty() {
        writeln!(out, "lost: nothing")?;
    } else {
        let lost: Vec<_> = lost.iter().map(|(way, n)| format!("{way} {n}")).collect();
        writeln!(out, "{}", style.bold(&format!("lost: {}", lost.join(", "))))?;
    }
    if report.unattributed_changes > 0 {
        writeln!(out, "changes of unknown VM: {}", report.unattributed_changes)?;
    }
    let checks: Vec<_> = report.vms.iter().filter_map(VmReport::adds_up).collect();
    let check = match (checks.len(), checks.iter().filter(|ok| !**ok).count()) {
        (0, _) => "counts could not be checked: KVM's gauges are not to be had here".to_owned(),
        (_, 0) => "counts add up with KVM's own gauges".to_owned(),
        (_, n) if report.settled => format!("counts do NOT add up with KVM's gauges for {n} VM(s)"),
        (_, n) => format!("counts were moving while they were checked: {n} VM(s) off for now"),
    };
    writeln!(out, "{check}")?;
    let missing: Vec<&SignalReport> =
        report.coverage.iter().filter(|signal| !signal.seen).collect();
    if missing.is_empty() {
        return writeln!(out, "coverage: full");
    }
    writeln!(
        out,
        "coverage: {} of {} signals",
        report.coverage.len() - missing.len(),
        report.coverage.len()
    )?;
    for signal in missing {
        writeln!(
            out,
            "  {}: {} ({})",
            signal.signal,
            signal.loses.unwrap_or_default(),
            signal.reason.as_deref().unwrap_or("not attached")
        )?;
    }
    Ok(())
}

fn percent(ratio: f64) -> String {
    // Never rounds up to a whole that is not.
    format!("{:.1} %", (ratio * 1000.0).floor() / 10.0)
}

/// A duration in the unit that suits it.
pub(crate) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}
