//! Writing a recording.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    mem,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Clocks, Command, End, Header, MAGIC, VERSION,
    block::Kind,
    coverage::CoverageRecord,
    encode::{Encoder, append},
    standing::Standing,
};
use crate::{Batch, Coverage, Machine, Update};

/// Room for the last block: what ends a recording is written even if it is full.
const RESERVE: u64 = 1 << 10;

/// How much is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Greatest size of all that is kept, bytes. Without `keep_last` recording ends there.
    pub max_size: Option<u64>,
    /// Keep only so much of the latest: at least that, at most twice that, unless `max_size` is less.
    pub keep_last: Option<Duration>,
}

/// A recording that is being written. Each update reaches the file before the next is taken.
pub struct Recorder {
    path: PathBuf,
    limits: Limits,
    header: Header,
    /// The machine's name.
    host: Option<String>,
    coverage: CoverageRecord,
    segment: Segment,
    /// Size of the segment before.
    older: u64,
    standing: Standing,
    /// The last batch of the programs now attached, without its events, if older ones are forgotten.
    last: Batch,
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

/// Creates the file of a recording.
pub fn create(path: &Path) -> io::Result<File> {
    // What an earlier one left there is none of this.
    match fs::remove_file(older(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => File::create(path),
    }
}

impl Recorder {
    /// Writes how a recording begins to `file`, which was [created](create) at `path`.
    pub fn new(
        file: File,
        path: &Path,
        machine: Machine,
        coverage: &Coverage,
        limits: Limits,
    ) -> io::Result<Self> {
        let header = Header {
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
            standing: Standing::default(),
            last: Batch::default(),
            full: false,
        })
    }

    /// Whether it takes no more because it reached its greatest size.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether it keeps only the latest.
    pub fn forgets(&self) -> bool {
        self.limits.keep_last.is_some()
    }

    /// Keeps all that is there and all that follows.
    pub fn keep_all(&mut self) {
        self.limits.keep_last = None;
    }

    /// Appends an update, unless it is full.
    pub fn update(&mut self, update: &Update, coverage: &Coverage) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let coverage = CoverageRecord::from(coverage);
        let mut blocks = Vec::new();
        if coverage != self.coverage {
            append(Kind::Coverage, &coverage, &mut blocks)?;
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

    /// Keeps in mind what the next segment would begin with.
    fn note(&mut self, update: &Update) {
        match update {
            Update::Batch(batch) => {
                self.segment.start.get_or_insert(batch.at);
                self.standing.apply(batch);
                if self.forgets() {
                    self.last = Batch { events: Vec::new(), ..batch.clone() };
                }
            }
            // No VM outlives the KVM that it was created with.
            Update::Detached { .. } => {
                (self.standing, self.last) = (Standing::default(), Batch::default());
            }
            Update::Blind { .. } | Update::Attached { .. } => {}
        }
    }

    /// Whether what is to be written next belongs to another segment: this one lasted long enough, or
    /// has half of what may be kept.
    fn is_segment_over(&self, next: &Update, len: u64) -> bool {
        let (Some(keep), Update::Batch(batch)) = (self.limits.keep_last, next) else {
            return false;
        };
        let Some(start) = self.segment.start else { return false };
        let long = u128::from(batch.at.saturating_sub(start)) > keep.as_nanos();
        let large = |max| self.segment.size + len > (max - RESERVE.min(max)) / 2;
        self.last.at > start && (long || self.limits.max_size.is_some_and(large))
    }

    /// Begins a segment with where everything stood after the last batch.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, older(&self.path))?;
        self.older = self.segment.size;
        self.header.segment += 1;
        let file = File::create(&self.path)?;
        self.segment = Segment::new(file, &self.header, self.host.as_deref(), &self.coverage)?;
        let mut blocks = Vec::new();
        let baseline = Batch {
            events: self.standing.events(),
            hugetlb: self.standing.hugetlb(),
            overhead: self.standing.overhead(),
            stacks: self.standing.stacks(),
            ..mem::take(&mut self.last)
        };
        self.segment.encoder.batch(Kind::Baseline, &baseline, &mut blocks)?;
        self.segment.start = Some(baseline.at);
        self.last = Batch { events: Vec::new(), ..baseline };
        self.segment.write(&blocks)
    }

    /// Completes the file and makes it last.
    pub fn finish(&mut self, command: Option<&Command>) -> io::Result<()> {
        let mut block = Vec::new();
        append(Kind::End, &End { command: command.cloned(), full: self.full }, &mut block)?;
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

/// Where the older segment is.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

impl Segment {
    fn new(
        file: File,
        header: &Header,
        host: Option<&str>,
        coverage: &CoverageRecord,
    ) -> io::Result<Self> {
        let mut segment = Self { file, size: 0, start: None, encoder: Encoder::default() };
        let mut beginning = MAGIC.to_vec();
        beginning.extend(VERSION.to_le_bytes());
        append(Kind::Header, header, &mut beginning)?;
        if let Some(host) = host {
            append(Kind::Host, &host, &mut beginning)?;
        }
        append(Kind::Coverage, coverage, &mut beginning)?;
        segment.write(&beginning)?;
        Ok(segment)
    }

    fn encode(&mut self, update: &Update, to: &mut Vec<u8>) -> io::Result<()> {
        match update {
            Update::Batch(batch) => self.encoder.batch(Kind::Batch, batch, to),
            Update::Detached { at, why } => self.encoder.detached(*at, why, to),
            Update::Blind { at } => self.encoder.blind(*at, to),
            Update::Attached { at } => self.encoder.attached(*at, to),
        }
    }

    fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        self.file.write_all(blocks)?;
        self.size += blocks.len() as u64;
        Ok(())
    }
}
