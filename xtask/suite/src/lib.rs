//! `cargo xtask test`: the host's tests and the lab's, one line each, and one line of summary.

mod case;
mod cases;
mod host;
mod matrix;
mod readme;
mod report;
mod selection;

use anyhow::{Result, bail};

use report::TestReport;
use selection::Selection;
pub use selection::TestOptions;

/// Runs the tests and returns the exit code.
pub fn run(options: TestOptions) -> Result<i32> {
    let selection = Selection::new(options);
    let mut report = TestReport::default();
    if selection.host {
        host::run(&selection, &mut report);
    }
    if selection.lab && selection.kernel.is_none() {
        readme::run(&selection, &mut report);
    }
    if selection.lab {
        matrix::run(&selection, &mut report);
    }
    if report.is_empty() {
        bail!("no test of that name");
    }
    Ok(report.finish())
}
