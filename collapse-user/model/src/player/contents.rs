//! Contents of a recording, found by reading it once.

use std::{collections::BTreeSet, io::Read};

use collapse_common::abi::VmKey;

use collapse_feed::{
    Event, EventKind, SlotChange, Update,
    recording::{RecordingError, Replay},
};

/// Contents of a recording. All times are `CLOCK_MONOTONIC` ns.
#[derive(Debug, Default)]
pub struct Contents {
    /// When each reading was taken, in order.
    pub readings: Vec<u64>,
    /// From when to when dirty logging was on in any VM.
    pub logging: Vec<(u64, u64)>,
    /// Why it can be read no further, if it does not end as it should.
    pub early: Option<RecordingError>,
}

impl Contents {
    /// Reads a recording to its end, or as far as it can be read. What is cut short or damaged is no
    /// error; what cannot be read at all is.
    pub fn of<R: Read>(replay: &mut Replay<R>) -> Result<Self, RecordingError> {
        let mut contents = Self::default();
        let mut logging = BTreeSet::new();
        loop {
            match replay.next_update() {
                Ok(Some(update)) => contents.take(&update, &mut logging),
                Ok(None) => break,
                Err(error @ (RecordingError::Cut(_) | RecordingError::Damaged { .. })) => {
                    contents.early = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !logging.is_empty() {
            contents.logged_until(contents.end());
        }
        Ok(contents)
    }

    /// When the first reading was taken; 0 if there is none.
    pub fn start(&self) -> u64 {
        self.readings.first().copied().unwrap_or_default()
    }

    /// When the last reading was taken; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.readings.last().copied().unwrap_or_default()
    }

    /// Times of the first readings in which dirty logging went on or off, in order.
    pub fn switches(&self) -> impl DoubleEndedIterator<Item = u64> {
        let reading = |at: u64| {
            let place = self.readings.partition_point(|reading| *reading < at);
            self.readings.get(place).copied().unwrap_or(self.end())
        };
        self.logging.iter().flat_map(|(on, off)| [*on, *off]).map(reading)
    }

    fn take(&mut self, update: &Update, logging: &mut BTreeSet<VmKey>) {
        // Clocks that go back are a damaged recording's.
        self.readings.push(update.at().max(self.end()));
        if let Update::Batch(batch) = update {
            for event in &batch.events {
                self.event(event, logging);
            }
        }
    }

    fn event(&mut self, event: &Event, logging: &mut BTreeSet<VmKey>) {
        let was = !logging.is_empty();
        match event.kind {
            EventKind::SlotChanged { change: SlotChange::LogOn, logging: true, .. } => {
                logging.insert(event.vm);
            }
            EventKind::SlotChanged { logging: false, .. } | EventKind::VmDestroyed { .. } => {
                logging.remove(&event.vm);
            }
            _ => return,
        }
        match (was, !logging.is_empty()) {
            (false, true) => self.logging.push((event.ts, event.ts)),
            (true, false) => self.logged_until(event.ts),
            _ => {}
        }
    }

    fn logged_until(&mut self, at: u64) {
        if let Some((on, off)) = self.logging.last_mut() {
            *off = at.max(*on);
        }
    }
}
