//! What a run had to keep to, and whether it did: what decides on the exit status.

use super::{
    baseline::{self, BaselineReport, Verdict},
    budget::BudgetReport,
};
use crate::{Report, SignalReport, shown_duration};
use collapse_feed::printable;

/// One demand on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What kind.
    pub kind: CheckKind,
    /// What was demanded.
    pub name: String,
    /// The VM, where it is about one.
    pub vm: Option<String>,
    /// What came of it.
    pub state: State,
    /// What was found, in words; empty if there is nothing to add.
    pub found: String,
}

/// Kinds of demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The command succeeds.
    Command,
    /// Enough is seen.
    Coverage,
    /// A budget is kept.
    Budget,
    /// A metric is no worse than in earlier reports.
    Baseline,
}

/// What came of a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was met.
    Passed,
    /// It was not.
    Failed,
    /// That could not be told.
    Skipped,
}

impl CheckKind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Coverage => "coverage",
            Self::Budget => "budget",
            Self::Baseline => "baseline",
        }
    }
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "unknown",
        }
    }

    fn of(met: bool) -> Self {
        if met { Self::Passed } else { Self::Failed }
    }
}

impl Check {
    fn new(kind: CheckKind, name: impl Into<String>, met: bool, found: String) -> Self {
        Self { kind, name: name.into(), vm: None, state: State::of(met), found }
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let vm = self.vm.as_ref().map_or(String::new(), |vm| format!(" {vm}"));
        let found = if self.found.is_empty() { String::new() } else { format!(": {}", self.found) };
        format!("{}{vm} {}{found}", self.kind.name(), self.name)
    }
}

/// All demands on a run.
pub fn checks(report: &Report) -> Vec<Check> {
    let command = report.command.as_ref().map(|command| {
        let found = command.ending();
        Check::new(CheckKind::Command, "exits with 0", command.status == Some(0), found)
    });
    let coverage = report.required_coverage.map(|required| {
        let missing = report.coverage.iter().filter(|signal| !signal.seen);
        let missing: Vec<_> = missing.map(|SignalReport { signal, .. }| signal.as_ref()).collect();
        let found = match missing.len() {
            0 => String::new(),
            _ => format!("not seen: {}", missing.join(", ")),
        };
        Check::new(CheckKind::Coverage, "is full", required.ok, found)
    });
    let compared = baseline::any_compared(&report.baseline);
    command
        .into_iter()
        .chain(coverage)
        .chain(report.budgets.iter().map(of_budget))
        .chain(report.baseline.iter().map(|row| of_baseline(row, compared)))
        .collect()
}

fn of_budget(budget: &BudgetReport) -> Check {
    let failed = budget.checks.iter().filter(|check| !check.ok).map(|check| {
        let vm = check.vm.as_ref().map_or(String::new(), |vm| format!("{vm}: "));
        format!("{vm}{}", check.reason.as_deref().unwrap_or_default())
    });
    let failed = failed.collect::<Vec<_>>().join("; ");
    Check::new(CheckKind::Budget, budget.budget.clone(), budget.ok, failed)
}

/// `compared`: whether anything could be compared.
fn of_baseline(row: &BaselineReport, compared: bool) -> Check {
    let state = match row.verdict {
        Verdict::Worse => State::Failed,
        Verdict::Better | Verdict::Same => State::Passed,
        Verdict::NoCounterpart if !compared => State::Failed,
        Verdict::Unknown | Verdict::NoCounterpart => State::Skipped,
    };
    let name = row.metric.clone().unwrap_or_else(|| "VM".to_owned());
    Check {
        kind: CheckKind::Baseline,
        name,
        vm: row.vm.clone(),
        state,
        found: baseline_in_words(row),
    }
}

fn baseline_in_words(row: &BaselineReport) -> String {
    let earlier = row.median.zip(row.spread).map(|(median, (least, most))| match row.runs {
        1 => format!("was {}", row.shown(median)),
        runs => {
            let (least, most) = (row.shown(least), row.shown(most));
            format!("was {} ({least} to {most} in {runs} runs)", row.shown(median))
        }
    });
    let change = row.change.map(|change| format!(", {:+.1} %", change * 100.0));
    match (row.value, earlier) {
        (Some(value), Some(earlier)) => {
            format!("{}, {earlier}{}", row.shown(value), change.unwrap_or_default())
        }
        (None, Some(earlier)) => {
            format!("{}, {earlier}", row.reason.as_deref().unwrap_or("not known"))
        }
        _ => row.reason.clone().unwrap_or_default(),
    }
}

impl Report {
    /// What it is about, in a line.
    pub fn title(&self) -> String {
        let vms = match self.vms.len() {
            1 => "1 VM".to_owned(),
            n => format!("{n} VMs"),
        };
        let (kernel, mmu) = (&self.host.kernel, self.host.mmu.label());
        let name = self.host.name.as_deref();
        let host = name.map_or(String::new(), |name| format!("{}, ", printable(name.as_bytes())));
        format!("{host}kernel {kernel}, {mmu}, {}, {vms}", shown_duration(self.window_ns))
    }
}
