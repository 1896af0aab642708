//! The report for people.

mod vm;

use std::fmt::{self, Write as _};

use super::{
    Report,
    gate::{CheckKind, CheckState, checks},
    words,
};

/// Findings listed.
const FINDINGS_SHOWN: usize = 10;

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
    let head = format!("collapse report: {}", report.title());
    writeln!(out, "{}", style.bold(&head))?;
    if let Some(command) = &report.command {
        writeln!(out, "command: {} ({})", command.argv.join(" "), command.ending())?;
    }
    write_findings(out, report, style)?;
    if report.reloads > 0 {
        writeln!(out, "KVM was loaded again {} times meanwhile", report.reloads)?;
    }
    write_checks(out, report, style)?;
    for selection in report.selections.iter().filter(|selection| selection.vms == 0) {
        writeln!(out, "\nNo VM matched {}.", selection.select)?;
    }
    if report.vms.is_empty() && report.selections.is_empty() {
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

/// What was found about VMs, and what to do about it.
fn write_findings(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let findings = words::findings(report);
    for (vm, finding) in findings.iter().take(FINDINGS_SHOWN) {
        let title = style.bold(&format!("{}: {}", finding.name, finding.title));
        writeln!(out, "{title} – {}", words::label(vm))?;
        writeln!(out, "  {}", finding.story(report.started_ns.unwrap_or_default()))?;
        for remedy in finding.remedies() {
            writeln!(out, "  → {remedy}")?;
        }
    }
    if let Some(rest @ 1..) = findings.len().checked_sub(FINDINGS_SHOWN) {
        writeln!(out, "and {rest} more findings")?;
    }
    Ok(())
}

/// Demands on the run, apart from the command's success, which is its own line.
fn write_checks(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let Some(checked) = words::checked(report) else { return Ok(()) };
    writeln!(out, "{}", style.bold(&format!("checks: {checked}")))?;
    let unmet = checks(report).into_iter().filter(|check| check.state != CheckState::Passed);
    for check in unmet.filter(|check| check.kind != CheckKind::Command) {
        writeln!(out, "  {} {}", check.state.name(), check.line())?;
    }
    Ok(())
}

/// Caveats about all of the above.
fn write_trust(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let is_lossy = report.losses.values().any(|n| *n > 0);
    for (at, line) in words::trust(report).iter().enumerate() {
        if at == 0 && is_lossy {
            writeln!(out, "{}", style.bold(line))?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
