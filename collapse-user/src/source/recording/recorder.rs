//! Writing a recording.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use collapse_common::abi::VmKey;

use super::{
    Clocks, Command, End, Header, MAGIC, VERSION,
    block::Kind,
    encode::{Encoder, append},
    wire::CoverageRecord,
};
use crate::{
    plan::Coverage,
    source::{Batch, Event, EventKind, SlotChange},
};

/// Room for the last block: what ends a recording is written even if it is full.
const RESERVE: u64 = 1 << 10;

/// How much is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Greatest size of the file, bytes. Without `flight` recording ends there.
    pub max_size: Option<u64>,
    /// Keep only so much of the latest: at least that, at most twice that.
    pub flight: Option<Duration>,
}

/// A recording that is being written. Each batch reaches the file before the next is taken.
pub struct Recorder {
    path: PathBuf,
    limits: Limits,
    header: Header,
    coverage: CoverageRecord,
    segment: Segment,
    standing: Standing,
    full: bool,
}

/// The segment that is written to.
struct Segment {
    file: File,
    size: u64,
    /// Time of its first batch, ns.
    start: Option<u64>,
    encoder: Encoder,
}

/// Events that told what still holds: what a segment that is read without those before it needs.
#[derive(Default)]
struct Standing {
    created: BTreeMap<VmKey, Event>,
    slots: BTreeMap<(VmKey, u16, u16), Event>,
}

impl Recorder {
    /// Creates the file and writes how it begins.
    pub fn create(
        path: &Path,
        kernel: String,
        coverage: &Coverage,
        limits: Limits,
    ) -> io::Result<Self> {
        let header = Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            clocks: Clocks::now(),
            segment: 0,
        };
        let coverage = CoverageRecord::from(coverage);
        let segment = Segment::create(path, &header, &coverage)?;
        let (path, standing) = (path.to_owned(), Standing::default());
        // What an earlier flight left there is none of this recording.
        match fs::remove_file(older(&path)) {
            Err(error) if limits.flight.is_some() && error.kind() != io::ErrorKind::NotFound => {
                return Err(error);
            }
            _ => {}
        }
        Ok(Self { path, limits, header, coverage, segment, standing, full: false })
    }

    /// Whether it takes no more because it reached its greatest size.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Appends a batch, unless it is full.
    pub fn batch(&mut self, batch: &Batch, coverage: &Coverage) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let mut blocks = Vec::new();
        let coverage = CoverageRecord::from(coverage);
        if coverage != self.coverage {
            append(Kind::Coverage, &coverage, &mut blocks)?;
            self.coverage = coverage;
        }
        self.segment.encoder.batch(Kind::Batch, batch, &mut blocks)?;
        if let (Some(max), None) = (self.limits.max_size, self.limits.flight)
            && self.segment.size + blocks.len() as u64 + RESERVE > max
        {
            self.full = true;
            return Ok(());
        }
        self.segment.write(&blocks)?;
        let start = *self.segment.start.get_or_insert(batch.at);
        self.standing.apply(&batch.events);
        if let Some(flight) = self.limits.flight {
            let long = u128::from(batch.at.saturating_sub(start)) >= flight.as_nanos();
            let large = self.limits.max_size.is_some_and(|max| self.segment.size >= max / 2);
            if long || large {
                self.rotate(batch)?;
            }
        }
        Ok(())
    }

    /// Completes the file and makes it last.
    pub fn finish(&mut self, command: Option<Command>) -> io::Result<()> {
        let mut block = Vec::new();
        append(Kind::End, &End { command, full: self.full }, &mut block)?;
        self.segment.write(&block)?;
        let older = older(&self.path);
        if self.header.segment > 0 {
            let mut joined = OpenOptions::new().append(true).open(&older)?;
            io::copy(&mut File::open(&self.path)?, &mut joined)?;
            fs::rename(&older, &self.path)?;
            self.segment.file = joined;
        }
        match self.segment.file.sync_all() {
            // Devices and pipes cannot be synced.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            synced => synced,
        }
    }

    /// Begins a new segment, in which `last` is where everything stands.
    fn rotate(&mut self, last: &Batch) -> io::Result<()> {
        fs::rename(&self.path, older(&self.path))?;
        self.header.segment += 1;
        self.segment = Segment::create(&self.path, &self.header, &self.coverage)?;
        let baseline = Batch { events: self.standing.events(), ..last.clone() };
        let mut blocks = Vec::new();
        self.segment.encoder.batch(Kind::Baseline, &baseline, &mut blocks)?;
        self.segment.start = Some(last.at);
        self.segment.write(&blocks)
    }
}

/// Where the older segment of a flight is.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

impl Segment {
    fn create(path: &Path, header: &Header, coverage: &CoverageRecord) -> io::Result<Self> {
        let file = File::create(path)?;
        let mut segment = Self { file, size: 0, start: None, encoder: Encoder::default() };
        let mut beginning = MAGIC.to_vec();
        beginning.extend(VERSION.to_le_bytes());
        append(Kind::Header, header, &mut beginning)?;
        append(Kind::Coverage, coverage, &mut beginning)?;
        segment.write(&beginning)?;
        Ok(segment)
    }

    fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        self.file.write_all(blocks)?;
        self.size += blocks.len() as u64;
        Ok(())
    }
}

impl Standing {
    fn apply(&mut self, events: &[Event]) {
        for event in events {
            match &event.kind {
                EventKind::VmCreated { .. } => {
                    self.created.insert(event.vm, event.clone());
                }
                EventKind::VmDestroyed { .. } => {
                    self.created.remove(&event.vm);
                    self.slots.retain(|(vm, ..), _| *vm != event.vm);
                }
                EventKind::SlotChanged { slot, change, .. } => {
                    let place = (event.vm, slot.as_id, slot.id);
                    if *change == SlotChange::Deleted {
                        self.slots.remove(&place);
                    } else {
                        self.slots.insert(place, event.clone());
                    }
                }
                _ => {}
            }
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events: Vec<_> =
            self.created.values().chain(self.slots.values()).cloned().collect();
        events.sort_by_key(|event| event.ts);
        events
    }
}
