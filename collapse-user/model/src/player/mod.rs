//! A recording played in time: paused, sought, faster or slower. Pure: its caller says how time passes.

mod contents;
mod track;

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
    time::Duration,
};

pub use contents::Contents;
pub use track::{Motion, Order, Speed, Track};

use crate::Model;
use collapse_feed::{
    Coverage, Machine, Update,
    recording::{RecordingError, RecordingHeader, Replay},
};

/// Plays a recording. Whatever is done to it, its model is what reading from the beginning to the
/// position gives.
pub struct Player<R = BufReader<File>> {
    /// `None` after it could not be read.
    replay: Option<Replay<R>>,
    /// The first update after the position, or what is to be caught up on.
    next: Option<Update>,
    header: RecordingHeader,
    machine: Machine,
    contents: Contents,
    model: Model,
    coverage: Coverage,
    /// The time shown, `CLOCK_MONOTONIC` ns.
    position: u64,
    /// The time of the last update that the model has taken.
    reached: u64,
    speed: Speed,
    playing: bool,
}

impl Player {
    /// Opens a file, which must be one that can be read again from the beginning.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read + Seek> Player<R> {
    /// Reads all of it once, and stands at its beginning, playing.
    pub fn new(from: R) -> Result<Self, RecordingError> {
        let mut replay = Replay::new(from)?;
        let (header, machine) = (replay.header().clone(), replay.machine().clone());
        let contents = Contents::of(&mut replay)?;
        let mut player = Self {
            next: None,
            coverage: replay.coverage().clone(),
            replay: Some(replay),
            header,
            machine,
            model: Model::default(),
            position: contents.start(),
            reached: 0,
            contents,
            speed: Speed::default(),
            playing: true,
        };
        player.rewind()?;
        Ok(player)
    }

    /// Keeps history for so long only; `None` for as long as there is room.
    pub fn keep(&mut self, history: Option<Duration>) {
        self.model.keep = history;
    }

    /// How the recording began.
    pub fn header(&self) -> &RecordingHeader {
        &self.header
    }

    /// Where it was recorded.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Contents of the recording.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Returns the position, `CLOCK_MONOTONIC` ns.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the model of the readings up to the position, once it has caught up.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the coverage at the position.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Where it stands.
    pub fn track(&self) -> Track<'_> {
        let start = self.contents.start();
        let motion = match () {
            () if self.is_behind() => Motion::Seeking,
            () if self.is_at_end() => Motion::Ended,
            () if self.playing => Motion::Playing,
            () => Motion::Paused,
        };
        Track {
            motion,
            speed: self.speed,
            start,
            position: self.position - start,
            length: self.contents.end() - start,
            logging: &self.contents.logging,
            recorded: self.header.clocks.wall_at(start),
            early: self.contents.early.as_ref().map(|error| match error {
                RecordingError::Cut(_) => "cut short",
                _ => "damaged",
            }),
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, elapsed: Duration) {
        if self.playing && !self.is_behind() {
            let passed = elapsed.as_nanos() as f64 * self.speed.factor();
            self.position = self.position.saturating_add(passed as u64).min(self.contents.end());
        }
    }

    /// Does what it is asked to.
    pub fn perform(&mut self, order: Order) -> Result<(), RecordingError> {
        let position = self.position;
        match order {
            Order::Toggle if self.is_at_end() => {
                self.playing = true;
                return self.seek(self.contents.start());
            }
            Order::Toggle => self.playing = !self.playing,
            Order::Faster => self.speed = self.speed.changed(true),
            Order::Slower => self.speed = self.speed.changed(false),
            Order::By(ns) => return self.seek(position.saturating_add_signed(ns)),
            Order::To(ns) => return self.seek(self.contents.start().saturating_add(ns)),
            Order::NextReading | Order::PreviousReading => {
                self.playing = false;
                let readings = &self.contents.readings;
                let at = if order == Order::NextReading {
                    readings.get(readings.partition_point(|at| *at <= position))
                } else {
                    let before = readings.partition_point(|at| *at < position);
                    before.checked_sub(1).and_then(|before| readings.get(before))
                };
                return at.copied().map_or(Ok(()), |at| self.seek(at));
            }
            Order::NextSwitch => {
                let next = self.contents.switches().find(|at| *at > position);
                return self.seek(next.unwrap_or(self.contents.end()));
            }
            Order::PreviousSwitch => {
                // While it plays, the one just passed is not the one meant.
                let slack = if self.playing { self.second() } else { 0 };
                let before = position.saturating_sub(slack);
                let last = self.contents.switches().rev().find(|at| *at < before);
                return self.seek(last.unwrap_or(self.contents.start()));
            }
        }
        Ok(())
    }

    /// Whether updates up to the position are still to be read.
    pub fn is_behind(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.at() <= self.position)
    }

    /// Whether time goes on.
    pub fn is_playing(&self) -> bool {
        self.playing && !self.is_at_end()
    }

    /// Reads on towards the position, but no more than about `events` events at a time.
    pub fn catch_up(&mut self, events: usize) -> Result<(), RecordingError> {
        let mut left = events;
        while left > 0 && self.is_behind() {
            let Some(update) = self.next.take() else { break };
            if let Update::Batch(batch) = &update {
                left = left.saturating_sub(batch.events.len());
            }
            left = left.saturating_sub(1);
            self.reached = self.reached.max(update.at());
            let coverage = self.replay.as_ref().map_or(&self.coverage, Replay::coverage);
            self.model.update(&update, coverage);
            self.read()?;
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        self.position >= self.contents.end()
    }

    /// Time in the recording that passes in a second, ns.
    fn second(&self) -> u64 {
        (1e9 * self.speed.factor()) as u64
    }

    fn seek(&mut self, position: u64) -> Result<(), RecordingError> {
        self.position = position.clamp(self.contents.start(), self.contents.end());
        if self.position < self.reached { self.rewind() } else { Ok(()) }
    }

    fn rewind(&mut self) -> Result<(), RecordingError> {
        let keep = self.model.keep;
        self.model = Model::default();
        self.model.keep = keep;
        self.reached = 0;
        self.replay = self.replay.take().map(Replay::rewound).transpose()?;
        self.read()
    }

    /// Reads the next update, and keeps the coverage of the one before with it.
    fn read(&mut self) -> Result<(), RecordingError> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let coverage = replay.coverage().clone();
        match replay.next_update() {
            Ok(next) => self.next = next,
            // The contents have it.
            Err(RecordingError::Cut(_) | RecordingError::Damaged { .. }) => {
                self.model.losses.insert("recording_ends_early", 1);
                self.next = None;
            }
            Err(error) => return Err(error),
        }
        self.coverage = coverage;
        Ok(())
    }
}
