//! Options of the commands whose beginning others wait for.

use std::{os::fd::RawFd, path::PathBuf};

use clap::Args;

use crate::{exit::Failure, watch::Readiness};

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Readiness")]
pub(super) struct ReadyArgs {
    /// Write a line to this open descriptor and close it, as soon as everything from then on is seen. The
    /// line is that time: `CLOCK_MONOTONIC`, ns
    #[arg(long, value_name = "N")]
    ready_fd: Option<RawFd>,
    /// Create this file as soon as everything from then on is seen, with the same line. One of an earlier
    /// run is removed first
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl ReadyArgs {
    /// Takes over what the options name; `silent` spares stderr.
    pub(super) fn readiness(&self, silent: bool) -> Result<Readiness, Failure> {
        Ok(Readiness::new(self.ready_fd, self.ready_file.clone())?.silent(silent))
    }
}
