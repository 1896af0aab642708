//! Text on stdout.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

use crate::signal;

/// Prints text. A reader that went away ends the run, without complaint.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            signal::reader_left();
            Ok(())
        }
        outcome => outcome.context("cannot write to stdout"),
    }
}
