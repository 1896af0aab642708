//! Checks: every demand on a run, the command's success included, and whether it was met. Passing and
//! failing are decided here, and nowhere else.

use crate::{
    BaselineReport, BaselineVerdict, BudgetReport, CommandReport, Report, RequiredCoverage,
    SignalReport,
};

/// One demand on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandCheck {
    /// The kind of demand.
    pub kind: CheckKind,
    /// The demand, in words.
    pub name: String,
    /// The VM, where the demand is about one.
    pub vm: Option<String>,
    /// Whether the demand was met.
    pub state: CheckState,
    /// Finding in words; empty if there is nothing to add.
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

/// Whether a demand was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// The demand was met.
    Passed,
    /// The demand was not met.
    Failed,
    /// There was nothing to decide it by: unknown.
    Skipped,
}

impl CheckKind {
    /// The kind in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Coverage => "coverage",
            Self::Budget => "budget",
            Self::Baseline => "baseline",
        }
    }
}

impl CheckState {
    /// The state in a word.
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

impl DemandCheck {
    /// The check in one line.
    pub fn line(&self) -> String {
        let vm = self.vm.as_ref().map_or(String::new(), |vm| format!(" {vm}"));
        let found = if self.found.is_empty() { String::new() } else { format!(": {}", self.found) };
        format!("{}{vm} {}{found}", self.kind.name(), self.name)
    }
}

/// Every demand on a run, by its report.
pub fn checks(report: &Report) -> Vec<DemandCheck> {
    let verdicts = &report.verdicts;
    let is_any_compared =
        verdicts.baseline.iter().any(|row| row.verdict != BaselineVerdict::NoCounterpart);
    let command = report.command.as_ref().map(of_command);
    let coverage =
        verdicts.required_coverage.map(|required| of_coverage(required, &report.coverage));
    command
        .into_iter()
        .chain(coverage)
        .chain(verdicts.budgets.iter().map(of_budget))
        .chain(verdicts.baseline.iter().map(|row| of_baseline(row, is_any_compared)))
        .collect()
}

/// The kind of failure that decides how the program ends; `None` if no check failed. A command's failure
/// comes first, as if it had been run alone.
pub fn decisive(checks: &[DemandCheck]) -> Option<CheckKind> {
    let failed = |kind: &CheckKind| {
        checks.iter().any(|check| check.kind == *kind && check.state == CheckState::Failed)
    };
    [CheckKind::Command, CheckKind::Budget, CheckKind::Baseline, CheckKind::Coverage]
        .into_iter()
        .find(failed)
}

fn of_command(command: &CommandReport) -> DemandCheck {
    DemandCheck {
        kind: CheckKind::Command,
        name: "exits with 0".to_owned(),
        vm: None,
        state: CheckState::of(command.status == Some(0)),
        found: command.ending(),
    }
}

fn of_coverage(required: RequiredCoverage, coverage: &[SignalReport]) -> DemandCheck {
    let missing = coverage.iter().filter(|signal| !signal.seen);
    let missing: Vec<_> = missing.map(|signal| signal.signal.as_ref()).collect();
    let found = match missing.len() {
        0 => String::new(),
        _ => format!("not seen: {}", missing.join(", ")),
    };
    DemandCheck {
        kind: CheckKind::Coverage,
        name: "is full".to_owned(),
        vm: None,
        state: CheckState::of(required.ok),
        found,
    }
}

fn of_budget(budget: &BudgetReport) -> DemandCheck {
    let failed = budget.checks.iter().filter(|check| !check.ok).map(|check| {
        let vm = check.vm.as_ref().map_or(String::new(), |vm| format!("{vm}: "));
        format!("{vm}{}", check.reason.as_deref().unwrap_or_default())
    });
    DemandCheck {
        kind: CheckKind::Budget,
        name: budget.budget.clone(),
        vm: None,
        state: CheckState::of(budget.ok),
        found: failed.collect::<Vec<_>>().join("; "),
    }
}

/// A VM that is new is no failure, unless nothing could be compared at all.
fn of_baseline(row: &BaselineReport, is_any_compared: bool) -> DemandCheck {
    let state = match row.verdict {
        BaselineVerdict::Worse => CheckState::Failed,
        BaselineVerdict::Better | BaselineVerdict::Same => CheckState::Passed,
        BaselineVerdict::NoCounterpart if !is_any_compared => CheckState::Failed,
        BaselineVerdict::Unknown | BaselineVerdict::NoCounterpart => CheckState::Skipped,
    };
    DemandCheck {
        kind: CheckKind::Baseline,
        name: row.metric.clone().unwrap_or_else(|| "VM".to_owned()),
        vm: row.vm.clone(),
        state,
        found: comparison(row),
    }
}

/// A comparison with earlier reports, in words.
fn comparison(row: &BaselineReport) -> String {
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
