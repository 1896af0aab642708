//! Metrics: served on a socket to Prometheus, written to a file, sent to a collector of `OpenTelemetry`.
//!
//! The thread that measures makes an exposition now and then and puts it on a shelf; a thread of its own
//! serves it, and another sends it, so that whoever asks, and how often, or does not answer, never holds measurement up.

mod address;
#[cfg_attr(not(feature = "otlp"), path = "no_push.rs")]
mod push;
mod server;
mod shelf;
mod textfile;

use std::{io, sync::Arc, time::Duration};

use collapse_feed::{Coverage, Update};
use collapse_metrics::{Exposition, Format, Options, Scene};
use collapse_model::{Model, Observer};

pub use address::{Address, Listener};
pub use push::{Collector, Push};
pub use server::Server;
pub use shelf::Shelf;
pub use textfile::Textfile;

/// Time between two expositions, ns: nobody looks more often.
const FRESH: u64 = 1_000_000_000;

/// Makes expositions of a model as it goes on.
pub struct Exporter {
    /// Kernel release.
    kernel: String,
    options: Options,
    shelf: Option<Arc<Shelf>>,
    textfile: Option<Textfile>,
    /// Time between two writings of the file, ns; `None` to export at the end only.
    interval: Option<u64>,
    /// When the shelf, and when the file is due, `CLOCK_MONOTONIC` ns.
    due: (u64, u64),
    /// The latest coverage, for the last exposition.
    coverage: Option<Coverage>,
}

impl Exporter {
    /// An exporter for a shelf, a file, or both. `interval` is the time between two writings of
    /// the file; `None` to export at the end only.
    pub fn new(
        kernel: String,
        options: Options,
        shelf: Option<Arc<Shelf>>,
        textfile: Option<Textfile>,
        interval: Option<Duration>,
    ) -> Self {
        let interval = interval.map(|time| time.as_nanos().try_into().unwrap_or(u64::MAX));
        Self { kernel, options, shelf, textfile, interval, due: (0, 0), coverage: None }
    }

    fn export(&mut self, model: &Model, coverage: &Coverage, last: bool) -> io::Result<()> {
        let shared = self.shelf.as_ref().filter(|_| last || model.now >= self.due.0);
        let textfile = self.textfile.as_mut().filter(|_| last || model.now >= self.due.1);
        if shared.is_none() && textfile.is_none() {
            return Ok(());
        }
        let (kernel, version) = (self.kernel.as_str(), env!("CARGO_PKG_VERSION"));
        let scene = Scene { model, coverage, kernel, version };
        let exposition = Arc::new(Exposition::new(&scene, self.options));
        if let Some(shelf) = shared {
            self.due.0 = model.now.saturating_add(FRESH);
            shelf.put(Arc::clone(&exposition));
        }
        if let Some(textfile) = textfile {
            self.due.1 = model.now.saturating_add(self.interval.unwrap_or(u64::MAX));
            let text = Format::Prometheus.write(&exposition).map_err(io::Error::other)?;
            textfile.write(&text, last)?;
        }
        Ok(())
    }
}

impl Observer for Exporter {
    fn reading(&mut self, _: &Update, model: &Model, coverage: &Coverage) -> io::Result<()> {
        if self.coverage.as_ref() != Some(coverage) {
            self.coverage = Some(coverage.clone());
        }
        match self.interval {
            Some(_) => self.export(model, coverage, false),
            None => Ok(()),
        }
    }

    fn finish(&mut self, model: &Model) -> io::Result<()> {
        match self.coverage.take() {
            Some(coverage) => self.export(model, &coverage, true),
            None => Ok(()),
        }
    }
}
