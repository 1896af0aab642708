//! Options of `collapse report`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    cli::choices::{FormatChoice, RequiredChoice},
    cli::parse_duration,
    report::{Format, VmSelect, gate::Budget},
};

const BUDGET_HELP: &str = "What every VM must keep to, such as 'recovery_rate >= 0.99' or \
    'time_to_recover.p99 < 2s', one VM ('vm[NAME].splits.by_cause.nx_recovery == 0') or all together \
    ('total.zaps < 1000'): any number or word of the JSON by its path. Not measured is not kept";

#[derive(Debug, Args)]
pub(in crate::cli) struct ReportArgs {
    /// Length of the window, such as 10s, 500ms or 2m.
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    pub duration: Option<Duration>,
    /// Report on these VMs only: process id, name (with * and ?) or debugfs name (TID-FD); repeated,
    /// on all that any of them selects.
    #[arg(long, value_name = "SELECT")]
    pub vm: Vec<VmSelect>,
    /// Format of the report; repeated, the n-th is that of the n-th --output, and one without goes to
    /// stdout. Without, the file's name decides.
    #[arg(long, short, value_enum)]
    pub format: Vec<FormatChoice>,
    /// Write the report to a file ('-' is stdout); repeated, to each.
    #[arg(long, short, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    #[arg(long, value_name = "COMPARISON", help = BUDGET_HELP)]
    pub budget: Vec<Budget>,
    /// Read budgets from a file, one per line; # begins a comment.
    #[arg(long, value_name = "FILE")]
    pub budget_file: Vec<PathBuf>,
    /// Compare with earlier reports (JSON); of several, with their median, and what one of them
    /// already was is no worse.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub baseline: Vec<PathBuf>,
    /// By how much a metric may be worse than the baseline, in percent.
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    pub baseline_limit: f64,
    /// How much must be seen.
    #[arg(long, value_enum)]
    pub require: Option<RequiredChoice>,
    /// Report on a recording instead ('-' is stdin).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command", "record"])]
    pub from: Option<PathBuf>,
    /// Keep a recording of the window too.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Command to run and report on.
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

impl ReportArgs {
    /// Formats, in the order given.
    pub fn formats(&self) -> Vec<Format> {
        self.format.iter().map(|choice| choice.0).collect()
    }
}

/// A share, given in percent.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent / 100.0),
        _ => Err("expected a percentage such as 10%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert_eq!(parse_percent("10%"), Ok(0.1));
        assert_eq!(parse_percent("5"), Ok(0.05));
        for bad in ["", "ten", "-1%", "inf", "nan"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
