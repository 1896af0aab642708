//! Options of `collapse report`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    cli::{
        choices::{FormatChoice, RequiredChoice},
        ready::ReadyArgs,
    },
    report::{Format, VmSelect, gate::Budget},
    settings::{
        ThresholdFlags,
        values::{parse_duration, parse_percent},
    },
    watch::Moment,
};

const BUDGET_HELP: &str = "Comparison that must hold for every VM, such as 'recovery_rate >= 0.99' or \
    'time_to_recover.p99 < 2s', for one VM ('vm[NAME].splits.by_cause.nx_recovery == 0') or for all \
    together ('total.zaps < 1000'), of any number or word of the JSON report by its path. One that was \
    not measured does not hold. Can be repeated";

#[derive(Debug, Args)]
pub(in crate::cli) struct ReportArgs {
    /// Time to watch, such as 10s, 500ms or 2m
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    pub duration: Option<Duration>,
    /// Report only on these VMs: process id, name (with * and ?) or debugfs name (TID-FD). Can be
    /// repeated
    #[arg(long, value_name = "VM")]
    pub vm: Vec<VmSelect>,
    /// Output format [default: by the name of the file; text on stdout]. Can be repeated: the n-th is
    /// for the n-th --output, and one without goes to stdout
    #[arg(long, short, value_enum)]
    pub format: Vec<FormatChoice>,
    /// File to write ('-' for stdout). Can be repeated
    #[arg(long, short, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    #[arg(long, value_name = "COMPARISON", help = BUDGET_HELP)]
    pub budget: Vec<Budget>,
    /// Read budgets from a file, one per line; # starts a comment. Can be repeated
    #[arg(long, value_name = "FILE")]
    pub budget_file: Vec<PathBuf>,
    /// Compare with earlier JSON reports. Of several, with the median; a value that one of them already
    /// reached is not worse
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub baseline: Vec<PathBuf>,
    /// How much worse than the baseline a metric may be, in percent
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    pub baseline_limit: f64,
    /// Coverage that is required
    #[arg(long, value_enum)]
    pub require: Option<RequiredChoice>,
    /// Report on a recording instead ('-' for stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command", "record"])]
    pub from: Option<PathBuf>,
    /// With --from: report on what happened from then on: 12s into the recording, 10:02:11 UTC, or
    /// 2026-11-30T10:02:11Z
    #[arg(long, value_name = "TIME", requires = "from")]
    pub since: Option<Moment>,
    /// With --from: report on what happened until then
    #[arg(long, value_name = "TIME", requires = "from")]
    pub until: Option<Moment>,
    #[command(flatten)]
    pub thresholds: ThresholdFlags,
    #[command(flatten)]
    pub ready: ReadyArgs,
    /// Also record to this file
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Command to run and report on
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

impl ReportArgs {
    /// Formats, in the order given.
    pub fn formats(&self) -> Vec<Format> {
        self.format.iter().map(|choice| choice.0).collect()
    }
}
