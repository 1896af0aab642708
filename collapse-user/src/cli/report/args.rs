//! Options of `collapse report`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    cli::parse_duration,
    report::{Format, VmSelect},
};

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
    pub format: Vec<Format>,
    /// Write the report to a file ('-' is stdout); repeated, to each.
    #[arg(long, short, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Command to run and report on.
    #[arg(last = true)]
    pub command: Vec<OsString>,
}
