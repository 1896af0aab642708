//! Demands on a run, read before anything is measured.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, anyhow};
use collapse_report::gate::{Baseline, Demands, parse_budgets};

use super::ReportArgs;
use crate::exit::{Exit, Failure, OrExit as _};

/// Reads the files that the options name.
pub fn read(args: &ReportArgs) -> Result<Demands, Failure> {
    let mut budgets = args.budget.clone();
    for file in &args.budget_file {
        budgets.extend(parse(file, parse_budgets)?);
    }
    let earlier = args.baseline.iter().map(|file| parse(file, Baseline::read));
    let earlier = earlier.collect::<Result<Vec<_>, _>>()?;
    let baseline = (!earlier.is_empty()).then(|| Baseline::new(earlier, args.baseline_limit));
    Ok(Demands { budgets, baseline, coverage: args.require.map(|choice| choice.0) })
}

fn parse<T, E: fmt::Display>(
    file: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Failure> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {}", file.display()))
        .or_exit(Exit::Usage)?;
    parse(&text).map_err(|error| anyhow!("{}: {error}", file.display())).or_exit(Exit::Usage)
}
