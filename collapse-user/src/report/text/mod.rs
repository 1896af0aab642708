//! The report for people.

mod vm;

use std::fmt::{self, Write as _};

use super::{Report, SignalReport};
use crate::model::Grade;

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
    if report.reloads > 0 {
        writeln!(out, "KVM was loaded again {} times meanwhile", report.reloads)?;
    }
    if report.vms.is_empty() {
        writeln!(out, "\nNo VM was seen.")?;
    }
    for vm in &report.vms {
        writeln!(out)?;
        vm::write(out, vm, style)?;
    }
    if report.vms_forgotten > 0 {
        writeln!(out, "\nand {} VMs that ended before these", report.vms_forgotten)?;
    }
    writeln!(out)?;
    write_trust(out, report, style)
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
    let graded = |grade| report.vms.iter().filter(|vm| vm.reconciliation.grade == grade).count();
    let check = match (graded(Grade::Off), graded(Grade::Moving), graded(Grade::Exact)) {
        (0, 0, 0) => "counts could not be checked: KVM's gauges are not to be had here".to_owned(),
        (0, 0, _) => "counts add up with KVM's own gauges".to_owned(),
        (0, n, _) => format!("counts were moving while they were checked: {n} VM(s) not judged"),
        (n, _, _) => format!("counts do NOT add up with KVM's gauges for {n} VM(s)"),
    };
    writeln!(out, "{check}")?;
    if let Some(why) = report.blind() {
        return writeln!(out, "coverage: nothing was seen at the end: {why}");
    }
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

/// A duration in the unit that suits it.
pub(crate) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}
