//! The gate: demands on a run, and the verdicts on its report.
//!
//! A [`Budget`] compares one number of the report with a limit, a [`Baseline`] compares what matters with
//! earlier reports, and [`Required`] is about coverage. [`Demands::judge`] holds a report against all of
//! them; [`checks`] is the one place that decides what passed and what failed, and [`decisive`] which
//! failure decides how the program ends.

mod baseline;
mod budget;
mod checks;
mod parse;
mod path;
mod read;
#[cfg(test)]
mod tests;

pub use baseline::{Baseline, BaselineError};
pub use budget::Budget;
pub use checks::{CheckKind, CheckState, DemandCheck, checks, decisive};
pub use parse::{BudgetError, parse_budgets};
pub use path::PathError;

use crate::{Report, Required, RequiredCoverage, Verdicts, VmReport};
use collapse_model::wording;

/// Demands on a run.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Budgets, all of which must be kept.
    pub budgets: Vec<Budget>,
    /// Earlier reports that nothing must be worse than; `None` for none.
    pub baseline: Option<Baseline>,
    /// The coverage that is required; `None` if any will do.
    pub coverage: Option<Required>,
}

impl Demands {
    /// Judges a report.
    pub fn judge(&self, report: &Report) -> Verdicts {
        Verdicts {
            budgets: self.budgets.iter().map(|budget| budget.check(report)).collect(),
            baseline: self.baseline.as_ref().map_or_else(Vec::new, |base| base.compare(report)),
            required_coverage: self.coverage.map(|required| match required {
                Required::Full => {
                    let ok = report.coverage.iter().all(|signal| signal.seen);
                    RequiredCoverage { required, ok }
                }
            }),
        }
    }
}

/// The name and process id of a VM, for people.
fn label(vm: &VmReport) -> String {
    wording::vm_label(vm.name.as_deref(), vm.pid)
}
