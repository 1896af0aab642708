//! The runtime that sessions and the dashboard run in.

use tokio::runtime::{Builder, Runtime};

use crate::exit::{Exit, Failure, OrExit as _};

/// Builds a runtime with timers and signals, on this thread only.
pub fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().or_exit(Exit::CannotMeasure)
}
