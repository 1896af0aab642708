//! Reading of recordings.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek},
    path::Path,
};

use serde::de::DeserializeOwned;

use super::{
    MAGIC, RecordingEnd, RecordingError, RecordingHeader, VERSION,
    block::{BlockKind, HEAD, Head},
    coverage,
    decode::{Decoder, value},
};
use crate::{Coverage, Machine, Update};

/// A recording that is being read, block by block.
pub struct Replay<R = BufReader<File>> {
    input: Input<R>,
    header: RecordingHeader,
    machine: Machine,
    coverage: Coverage,
    decoder: Decoder,
    /// Whether a batch was returned.
    begun: bool,
    end: Option<RecordingEnd>,
}

/// The next item of the input.
enum Item {
    Segment(RecordingHeader),
    Block(BlockKind, Vec<u8>),
    Nothing,
}

struct Input<R> {
    from: R,
    /// Offset of the next block, bytes.
    offset: u64,
    /// Format version of the current segment.
    version: u16,
}

impl Replay {
    /// Opens the recording at `path`, and reads its beginning.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> Replay<R> {
    /// Reads the header and the coverage of a recording.
    pub fn new(from: R) -> Result<Self, RecordingError> {
        let mut input = Input { from, offset: 0, version: 0 };
        let Item::Segment(header) = input.next()? else {
            return Err(RecordingError::NotARecording);
        };
        let (name, coverage) = input.opening()?;
        let machine = Machine { name, kernel: header.kernel.clone() };
        let decoder = Decoder::default();
        Ok(Self { input, header, machine, coverage, decoder, begun: false, end: None })
    }

    /// Starts again at the beginning of the recording.
    pub fn rewound(self) -> Result<Self, RecordingError>
    where
        R: Seek,
    {
        let mut from = self.input.from;
        from.rewind()?;
        Self::new(from)
    }

    /// Returns the header of the current segment.
    pub fn header(&self) -> &RecordingHeader {
        &self.header
    }

    /// Returns the machine that was recorded.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the coverage as of the last update.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Returns the end of the recording; `None` until it is read, or if the recording is cut short.
    pub fn end(&self) -> Option<&RecordingEnd> {
        self.end.as_ref()
    }

    /// Reads the next update; `None` after the last. An error is final.
    pub fn next_update(&mut self) -> Result<Option<Update>, RecordingError> {
        loop {
            let start = self.input.offset;
            let damaged = |what| RecordingError::Damaged { offset: start, what };
            match self.input.next()? {
                Item::Nothing if self.end.is_some() => return Ok(None),
                Item::Nothing => return Err(RecordingError::Cut(start)),
                _ if self.end.is_some() => return Err(damaged("it goes on after its end")),
                Item::Segment(header) => {
                    let follows = header.clocks == self.header.clocks
                        && Some(header.segment) == self.header.segment.checked_add(1);
                    if !follows {
                        return Err(damaged("a segment is missing"));
                    }
                    self.header = header;
                    (self.machine.name, self.coverage) = self.input.opening()?;
                    self.decoder = Decoder::default();
                }
                Item::Block(BlockKind::Header | BlockKind::Host, _) => {
                    return Err(damaged("a header out of place"));
                }
                Item::Block(BlockKind::Coverage, payload) => {
                    self.coverage =
                        coverage::decode(self.input.version, &payload).map_err(damaged)?;
                }
                Item::Block(BlockKind::Events, payload) => {
                    let events = value(&payload).and_then(|record| self.decoder.events(record));
                    events.map_err(damaged)?;
                }
                Item::Block(BlockKind::Overhead, payload) => {
                    self.decoder.overhead(value(&payload).map_err(damaged)?);
                }
                Item::Block(BlockKind::Stacks, payload) => {
                    let taken = value(&payload).and_then(|record| self.decoder.stacks(record));
                    taken.map_err(damaged)?;
                }
                Item::Block(BlockKind::Hugetlb, payload) => {
                    let taken = value(&payload).and_then(|record| self.decoder.hugetlb(record));
                    taken.map_err(damaged)?;
                }
                Item::Block(BlockKind::Uuids, payload) => {
                    let taken = value(&payload).and_then(|record| self.decoder.uuids(record));
                    taken.map_err(damaged)?;
                }
                Item::Block(BlockKind::Slots, payload) => {
                    let taken = value(&payload).and_then(|record| self.decoder.slots(record));
                    taken.map_err(damaged)?;
                }
                Item::Block(kind @ (BlockKind::Batch | BlockKind::Baseline), payload) => {
                    let batch = value(&payload).and_then(|record| self.decoder.batch(record));
                    let batch = batch.map_err(damaged)?;
                    // The batches of the previous segment, if it was read, include the baseline.
                    if kind == BlockKind::Batch || !self.begun {
                        self.begun = true;
                        return Ok(Some(Update::Batch(batch)));
                    }
                }
                Item::Block(BlockKind::Visibility, payload) => {
                    let update = value(&payload).and_then(|record| self.decoder.visibility(record));
                    return update.map(Some).map_err(damaged);
                }
                Item::Block(BlockKind::End, payload) => {
                    self.end = Some(value(&payload).map_err(damaged)?);
                }
            }
        }
    }
}

impl<R: Read> Input<R> {
    fn next(&mut self) -> Result<Item, RecordingError> {
        let start = self.offset;
        let mut head = [0; HEAD];
        let got = self.fill(&mut head[..1])?;
        if got == 0 && start > 0 {
            return Ok(Item::Nothing);
        }
        if head[0] == MAGIC[0] || start == 0 {
            return self.segment(start, head[0]);
        }
        if self.fill(&mut head[1..])? < HEAD - 1 {
            return Err(RecordingError::Cut(start));
        }
        let damaged = |what| RecordingError::Damaged { offset: start, what };
        let head = Head::new(head);
        let stored = head.read_stored(&mut self.from)?.map_err(damaged)?;
        if !head.is_whole(&stored) {
            return Err(RecordingError::Cut(start));
        }
        self.offset = start + head.block_len();
        let (kind, payload) = head.open(stored).map_err(damaged)?;
        Ok(Item::Block(kind, payload))
    }

    /// Reads the beginning of a segment, whose first byte has been read.
    fn segment(&mut self, start: u64, first: u8) -> Result<Item, RecordingError> {
        let mut magic = [first; MAGIC.len()];
        let mut version = [0; 2];
        let got = self.fill(&mut magic[1..])?;
        if got < MAGIC.len() - 1 && start > 0 {
            return Err(RecordingError::Cut(start));
        }
        if magic != MAGIC {
            return Err(match start {
                0 => RecordingError::NotARecording,
                offset => RecordingError::Damaged { offset, what: "no segment begins here" },
            });
        }
        if self.fill(&mut version)? < version.len() {
            return Err(RecordingError::Cut(start));
        }
        match u16::from_le_bytes(version) {
            0 => return Err(RecordingError::Damaged { offset: start, what: "no such version" }),
            newer if newer > VERSION => return Err(RecordingError::TooNew(newer)),
            known => {
                self.version = known;
                self.offset = start + (MAGIC.len() + version.len()) as u64;
            }
        }
        self.expect(BlockKind::Header).map(Item::Segment)
    }

    /// Reads the blocks between a segment's header and its first batch: the host's name, if it was
    /// recorded, and the coverage.
    fn opening(&mut self) -> Result<(Option<String>, Coverage), RecordingError> {
        let mut offset = self.offset;
        let mut item = self.next()?;
        let mut name = None;
        if let Item::Block(BlockKind::Host, payload) = &item {
            name = Some(value(payload).map_err(|what| RecordingError::Damaged { offset, what })?);
            offset = self.offset;
            item = self.next()?;
        }
        let payload = payload_of(item, BlockKind::Coverage, offset)?;
        let coverage = coverage::decode(self.version, &payload)
            .map_err(|what| RecordingError::Damaged { offset, what })?;
        Ok((name, coverage))
    }

    /// Reads the value of the next block, which must be of this kind.
    fn expect<T: DeserializeOwned>(&mut self, kind: BlockKind) -> Result<T, RecordingError> {
        let offset = self.offset;
        let payload = payload_of(self.next()?, kind, offset)?;
        value(&payload).map_err(|what| RecordingError::Damaged { offset, what })
    }

    /// Reads until the buffer is full or the input ends, and returns the number of bytes.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, RecordingError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }
}

/// Returns the payload of the block at `offset`, which must be of this kind.
fn payload_of(item: Item, kind: BlockKind, offset: u64) -> Result<Vec<u8>, RecordingError> {
    match item {
        Item::Block(found, payload) if found == kind => Ok(payload),
        Item::Nothing => Err(RecordingError::Cut(offset)),
        _ => Err(RecordingError::Damaged { offset, what: "a block out of place" }),
    }
}
