//! Writing of recordings.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Clocks, MAGIC, RecordedCommand, RecordingEnd, RecordingHeader, VERSION,
    block::BlockKind,
    coverage::CoverageRecord,
    encode::{Encoder, append},
    snapshot::Snapshot,
};
use crate::{Batch, Coverage, Machine, Update};

/// Room kept for the end block, bytes, which is written even if the recording is full.
const RESERVE: u64 = 1 << 10;

/// Limits on the size of a recording.
#[derive(Clone, Copy, Debug, Default)]
pub struct SizeLimits {
    /// Maximum size of the recording, bytes. Without `keep_last`, recording ends when it is reached.
    pub max_size: Option<u64>,
    /// Time to keep, up to the present: at least this much and at most twice as much is kept, unless
    /// `max_size` is reached first.
    pub keep_last: Option<Duration>,
}

/// A recording that is being written. Each update is in the file before the next is accepted.
pub struct Recorder {
    path: PathBuf,
    limits: SizeLimits,
    header: RecordingHeader,
    /// The machine's name.
    host: Option<String>,
    coverage: CoverageRecord,
    segment: Segment,
    /// Size of the previous segment, bytes.
    older: u64,
    snapshot: Snapshot,
    /// The last batch of the attached programs, without its events; only kept with `keep_last`.
    last: Batch,
    full: bool,
}

/// The segment that is being written.
struct Segment {
    file: File,
    size: u64,
    /// Time of its first batch, ns; `None` before that.
    start: Option<u64>,
    encoder: Encoder,
}

/// Creates the file of a recording, which its owner alone may read: it has addresses of the host.
pub fn create(path: &Path) -> io::Result<File> {
    // An older segment of an earlier recording does not belong to this one.
    match fs::remove_file(older(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => segment_file(path),
    }
}

fn segment_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Recorder {
    /// Writes the beginning of a recording to `file`, which was [created](create) at `path`.
    pub fn new(
        file: File,
        path: &Path,
        machine: Machine,
        coverage: &Coverage,
        limits: SizeLimits,
    ) -> io::Result<Self> {
        let header = RecordingHeader {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: machine.kernel,
            clocks: Clocks::now(),
            segment: 0,
        };
        let coverage = CoverageRecord::from(coverage);
        let segment = Segment::new(file, &header, machine.name.as_deref(), &coverage)?;
        Ok(Self {
            path: path.to_owned(),
            limits,
            header,
            host: machine.name,
            coverage,
            segment,
            older: 0,
            snapshot: Snapshot::default(),
            last: Batch::default(),
            full: false,
        })
    }

    /// Returns whether the recording has reached its maximum size and ignores further updates.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Returns whether older updates are deleted.
    pub fn forgets(&self) -> bool {
        self.limits.keep_last.is_some()
    }

    /// Keeps everything from here on, including what is kept so far.
    pub fn keep_all(&mut self) {
        self.limits.keep_last = None;
    }

    /// Appends an update, unless the recording is full.
    pub fn update(&mut self, update: &Update, coverage: &Coverage) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let coverage = CoverageRecord::from(coverage);
        let mut blocks = Vec::new();
        if coverage != self.coverage {
            append(BlockKind::Coverage, &coverage, &mut blocks)?;
            self.coverage = coverage;
        }
        self.segment.encode(update, &mut blocks)?;
        if self.is_segment_over(update, blocks.len() as u64) {
            self.rotate()?;
            blocks.clear();
            self.segment.encode(update, &mut blocks)?;
        }
        let size = self.older + self.segment.size + blocks.len() as u64 + RESERVE;
        if self.limits.max_size.is_some_and(|max| size > max) {
            self.full = true;
            return Ok(());
        }
        self.segment.write(&blocks)?;
        self.note(update);
        Ok(())
    }

    /// Updates the state that a next segment would begin with.
    fn note(&mut self, update: &Update) {
        match update {
            Update::Batch(batch) => {
                self.segment.start.get_or_insert(batch.at);
                self.snapshot.apply(batch);
                if self.forgets() {
                    self.last = Batch { events: Vec::new(), ..batch.clone() };
                }
            }
            // No VM outlives the KVM that it was created with.
            Update::Detached { .. } => {
                (self.snapshot, self.last) = (Snapshot::default(), Batch::default());
            }
            Update::Unwatched { .. } | Update::Attached { .. } => {}
        }
    }

    /// Returns whether `next` belongs to a new segment, because this one lasted long enough or has
    /// half of the maximum size.
    fn is_segment_over(&self, next: &Update, len: u64) -> bool {
        let (Some(keep), Update::Batch(batch)) = (self.limits.keep_last, next) else {
            return false;
        };
        let Some(start) = self.segment.start else { return false };
        let long = u128::from(batch.at.saturating_sub(start)) > keep.as_nanos();
        let large = |max| self.segment.size + len > (max - RESERVE.min(max)) / 2;
        self.last.at > start && (long || self.limits.max_size.is_some_and(large))
    }

    /// Begins a segment with the state after the last batch.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, older(&self.path))?;
        self.older = self.segment.size;
        self.header.segment += 1;
        let file = segment_file(&self.path)?;
        self.segment = Segment::new(file, &self.header, self.host.as_deref(), &self.coverage)?;
        let mut blocks = Vec::new();
        let baseline = Batch {
            events: self.snapshot.events(),
            hugetlb: self.snapshot.hugetlb(),
            uuids: self.snapshot.uuids(),
            slots: self.snapshot.slots(),
            overhead: self.snapshot.overhead(),
            stacks: self.snapshot.stacks(),
            ..mem::take(&mut self.last)
        };
        self.segment.encoder.batch(BlockKind::Baseline, &baseline, &mut blocks)?;
        self.segment.start = Some(baseline.at);
        self.last = Batch { events: Vec::new(), ..baseline };
        self.segment.write(&blocks)
    }

    /// Writes the end of the recording, joins its segments, and syncs the file.
    pub fn finish(&mut self, command: Option<&RecordedCommand>) -> io::Result<()> {
        let mut block = Vec::new();
        append(
            BlockKind::End,
            &RecordingEnd { command: command.cloned(), full: self.full },
            &mut block,
        )?;
        self.segment.write(&block)?;
        if self.header.segment > 0 {
            let older = older(&self.path);
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
}

/// Returns the path of the older segment.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

impl Segment {
    fn new(
        file: File,
        header: &RecordingHeader,
        host: Option<&str>,
        coverage: &CoverageRecord,
    ) -> io::Result<Self> {
        let mut segment = Self { file, size: 0, start: None, encoder: Encoder::default() };
        let mut beginning = MAGIC.to_vec();
        beginning.extend(VERSION.to_le_bytes());
        append(BlockKind::Header, header, &mut beginning)?;
        if let Some(host) = host {
            append(BlockKind::Host, &host, &mut beginning)?;
        }
        append(BlockKind::Coverage, coverage, &mut beginning)?;
        segment.write(&beginning)?;
        Ok(segment)
    }

    fn encode(&mut self, update: &Update, to: &mut Vec<u8>) -> io::Result<()> {
        match update {
            Update::Batch(batch) => self.encoder.batch(BlockKind::Batch, batch, to),
            Update::Detached { at, why } => self.encoder.detached(*at, why, to),
            Update::Unwatched { at } => self.encoder.unwatched(*at, to),
            Update::Attached { at } => self.encoder.attached(*at, to),
        }
    }

    fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        self.file.write_all(blocks)?;
        self.size += blocks.len() as u64;
        Ok(())
    }
}
