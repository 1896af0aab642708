//! What is demanded of a run, read before anything is measured.

use std::{fs, path::Path};

use anyhow::{Context as _, anyhow};

use super::ReportArgs;
use crate::{
    baseline::Baseline,
    budget::Budget,
    exit::{Exit, Failure, OrExit as _},
    report::{Report, Required},
};

/// Budgets, baseline and coverage.
pub struct Demands {
    budgets: Vec<Budget>,
    baseline: Option<Baseline>,
    required: Option<Required>,
}

impl Demands {
    /// Reads the files that the options name.
    pub fn read(args: &ReportArgs) -> Result<Self, Failure> {
        let mut budgets = args.budget.clone();
        for file in &args.budget_file {
            budgets.extend(parse(file, |text| Budget::parse_file(&text))?);
        }
        let earlier = args.baseline.iter().map(|file| parse(file, |text| Baseline::read(&text)));
        let earlier = earlier.collect::<Result<Vec<_>, _>>()?;
        let baseline = (!earlier.is_empty()).then(|| Baseline::new(earlier, args.baseline_limit));
        Ok(Self { budgets, baseline, required: args.require.map(|choice| choice.0) })
    }

    /// Adds to a report whether it meets them.
    pub fn check(&self, report: &mut Report) -> Result<(), Failure> {
        report.check(&self.budgets, self.baseline.as_ref(), self.required).or_exit(Exit::Output)
    }
}

fn parse<T>(file: &Path, parse: impl FnOnce(String) -> Result<T, String>) -> Result<T, Failure> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {}", file.display()))
        .or_exit(Exit::Usage)?;
    parse(text).map_err(|error| anyhow!("{}: {error}", file.display())).or_exit(Exit::Usage)
}
