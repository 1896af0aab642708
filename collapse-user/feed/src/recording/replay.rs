//! Reading a recording.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek},
    path::Path,
};

use serde::de::DeserializeOwned;

use super::{
    End, Header, MAGIC, RecordingError, VERSION,
    block::{HEAD, Head, Kind},
    coverage,
    decode::{Decoder, value},
};
use crate::{Coverage, Machine, Update};

/// A recording that is being read, a block at a time.
pub struct Replay<R = BufReader<File>> {
    input: Input<R>,
    header: Header,
    machine: Machine,
    coverage: Coverage,
    decoder: Decoder,
    /// Whether a batch was handed out.
    begun: bool,
    end: Option<End>,
}

/// What comes next.
enum Item {
    Segment(Header),
    Block(Kind, Vec<u8>),
    Nothing,
}

struct Input<R> {
    from: R,
    /// Where the next block begins.
    offset: u64,
    /// Version of the format of the segment that is being read.
    version: u16,
}

impl Replay {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> Replay<R> {
    /// Reads the header and the coverage.
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

    /// The same recording from the beginning.
    pub fn rewound(self) -> Result<Self, RecordingError>
    where
        R: Seek,
    {
        let mut from = self.input.from;
        from.rewind()?;
        Self::new(from)
    }

    /// How it began.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where it was recorded.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What was seen and what was not, as of the last batch.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// How it ended, once all is read; `None` if it is cut short.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next update; `None` after the last. After an error there is none.
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
                Item::Block(Kind::Header | Kind::Host, _) => {
                    return Err(damaged("a header out of place"));
                }
                Item::Block(Kind::Coverage, payload) => {
                    self.coverage =
                        coverage::decode(self.input.version, &payload).map_err(damaged)?;
                }
                Item::Block(Kind::Events, payload) => {
                    let events = value(&payload).and_then(|record| self.decoder.events(record));
                    events.map_err(damaged)?;
                }
                Item::Block(Kind::Overhead, payload) => {
                    self.decoder.overhead(value(&payload).map_err(damaged)?);
                }
                Item::Block(Kind::Stacks, payload) => {
                    let taken = value(&payload).and_then(|record| self.decoder.stacks(record));
                    taken.map_err(damaged)?;
                }
                Item::Block(Kind::Hugetlb, payload) => {
                    let taken = value(&payload).and_then(|record| self.decoder.hugetlb(record));
                    taken.map_err(damaged)?;
                }
                Item::Block(kind @ (Kind::Batch | Kind::Baseline), payload) => {
                    let batch = value(&payload).and_then(|record| self.decoder.batch(record));
                    let batch = batch.map_err(damaged)?;
                    // Where the segment before was read, its batches told this already.
                    if kind == Kind::Batch || !self.begun {
                        self.begun = true;
                        return Ok(Some(Update::Batch(batch)));
                    }
                }
                Item::Block(Kind::Sight, payload) => {
                    let update = value(&payload).and_then(|record| self.decoder.sight(record));
                    return update.map(Some).map_err(damaged);
                }
                Item::Block(Kind::End, payload) => {
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

    /// The rest of a segment's beginning, of which the first byte is read.
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
        self.expect(Kind::Header).map(Item::Segment)
    }

    /// What stands between a segment's header and what was measured: the host's name, if it was
    /// recorded, and the coverage.
    fn opening(&mut self) -> Result<(Option<String>, Coverage), RecordingError> {
        let mut offset = self.offset;
        let mut item = self.next()?;
        let mut name = None;
        if let Item::Block(Kind::Host, payload) = &item {
            name = Some(value(payload).map_err(|what| RecordingError::Damaged { offset, what })?);
            offset = self.offset;
            item = self.next()?;
        }
        let payload = payload_of(item, Kind::Coverage, offset)?;
        let coverage = coverage::decode(self.version, &payload)
            .map_err(|what| RecordingError::Damaged { offset, what })?;
        Ok((name, coverage))
    }

    /// The value of the next block, which must be of this kind.
    fn expect<T: DeserializeOwned>(&mut self, kind: Kind) -> Result<T, RecordingError> {
        let offset = self.offset;
        let payload = payload_of(self.next()?, kind, offset)?;
        value(&payload).map_err(|what| RecordingError::Damaged { offset, what })
    }

    /// Reads until the buffer is full or the input ends; how much.
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

/// The payload of a block at `offset`, which must be of this kind.
fn payload_of(item: Item, kind: Kind, offset: u64) -> Result<Vec<u8>, RecordingError> {
    match item {
        Item::Block(found, payload) if found == kind => Ok(payload),
        Item::Nothing => Err(RecordingError::Cut(offset)),
        _ => Err(RecordingError::Damaged { offset, what: "a block out of place" }),
    }
}
