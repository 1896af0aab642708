//! A recording in lines, where standard output is no terminal.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use crate::{
    model::{Model, Observer},
    plan::Coverage,
    report::live_lines,
    source::Update,
};

/// A line per VM at every interval of the recording's time, and at its end.
pub struct Lines {
    /// Time between lines, ns.
    interval: u64,
    /// When lines are due next, `CLOCK_MONOTONIC` ns; `None` before the first.
    due: Option<u64>,
    /// The latest reading, if it is not written.
    latest: Option<String>,
}

impl Lines {
    /// Lines at every `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval: interval.as_nanos() as u64, due: None, latest: None }
    }

    fn write(&mut self) -> io::Result<()> {
        match self.latest.take() {
            Some(text) => io::stdout().lock().write_all(text.as_bytes()),
            None => Ok(()),
        }
    }
}

impl Observer for Lines {
    fn reading(&mut self, _: &Update, model: &Model, coverage: &Coverage) -> io::Result<()> {
        let text = live_lines(model, coverage);
        // When the last VM goes, the reading before is the last that shows it.
        if !text.is_empty() {
            self.latest = Some(text);
        }
        if self.due.is_some_and(|due| model.now < due) {
            return Ok(());
        }
        self.due = Some(model.now.saturating_add(self.interval));
        self.write()
    }

    fn finish(&mut self, _: &Model) -> io::Result<()> {
        self.write()?;
        io::stdout().flush()
    }
}
