//! What stands in for sending where the program is built without it: no collector can be named.

use std::{io, sync::Arc, time::Duration};

use collapse_feed::{Machine, recording::Clocks};

use super::shelf::Shelf;

/// No collector.
#[derive(Clone, Debug)]
pub enum Collector {}

/// No thread.
#[derive(Debug)]
pub enum Push {}

impl Push {
    /// Cannot be called.
    pub fn start(
        to: Collector,
        _: Option<Duration>,
        _: Machine,
        _: Clocks,
        _: Arc<Shelf>,
    ) -> io::Result<Self> {
        match to {}
    }

    /// Cannot be called.
    pub fn finish(self) -> io::Result<()> {
        match self {}
    }
}
