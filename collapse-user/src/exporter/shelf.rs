//! The latest exposition, between the thread that measures and those that serve and send.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use collapse_metrics::{Exposition, Format};
use hyper::body::Bytes;

/// Age at which the latest exposition shows that measuring hangs.
const STALE: Duration = Duration::from_secs(30);

/// Holds the latest exposition.
#[derive(Debug, Default)]
pub struct Shelf {
    latest: Mutex<Option<Arc<Page>>>,
    /// Whether it is the last, and does not age.
    complete: OnceLock<()>,
}

impl Shelf {
    /// Takes a newer exposition.
    pub fn put(&self, exposition: Arc<Exposition>) {
        let page = Arc::new(Page { exposition, made: Instant::now(), texts: Default::default() });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
    }

    /// Says that the exposition stays as it is.
    pub fn complete(&self) {
        // Once is enough.
        let _ = self.complete.set(());
    }

    /// The latest exposition; `None` before the first.
    pub(super) fn latest(&self) -> Option<Arc<Page>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether numbers are as new as they should be.
    pub(super) fn is_fresh(&self) -> bool {
        let complete = self.complete.get().is_some();
        self.latest().is_some_and(|page| complete || page.made.elapsed() < STALE)
    }
}

/// An exposition, and its texts as far as they were asked for.
#[derive(Debug)]
pub(super) struct Page {
    exposition: Arc<Exposition>,
    made: Instant,
    texts: [OnceLock<Result<Bytes, fmt::Error>>; Format::ALL.len()],
}

impl Page {
    /// The message for a collector.
    #[cfg(feature = "otlp")]
    pub fn otlp(&self, origin: &collapse_metrics::Origin) -> Vec<u8> {
        self.exposition.otlp(origin)
    }

    /// The text in a format: written once, however often it is asked for.
    pub fn text(&self, format: Format) -> Result<Bytes, fmt::Error> {
        let write = || format.write(&self.exposition).map(Bytes::from);
        self.texts[format as usize].get_or_init(write).clone()
    }
}
