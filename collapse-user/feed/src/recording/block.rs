//! Blocks: kind, lengths and checksum around a payload.

use std::io::{self, Read};

use super::Malformed;

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Header = 1,
    Coverage = 2,
    Baseline = 3,
    Events = 4,
    Batch = 5,
    End = 6,
    Sight = 7,
    Hugetlb = 8,
    Overhead = 9,
    Stacks = 10,
    Host = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Header,
        Self::Coverage,
        Self::Baseline,
        Self::Events,
        Self::Batch,
        Self::End,
        Self::Sight,
        Self::Hugetlb,
        Self::Overhead,
        Self::Stacks,
        Self::Host,
    ];
}

/// Kind, length of the payload as stored and in full, CRC32 of all of that and the stored payload.
pub const HEAD: usize = 1 + 4 + 4 + 4;

/// Longest payload.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// LZ4 makes nothing smaller than that.
const MAX_RATIO: usize = 255;

/// Appends a block. A payload that is too long is not written.
pub fn append(kind: Kind, payload: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a block is too long"));
    }
    let compressed = lz4_flex::block::compress(payload);
    let stored = if compressed.len() < payload.len() { &compressed } else { payload };
    let start = to.len();
    to.push(kind as u8);
    to.extend((stored.len() as u32).to_le_bytes());
    to.extend((payload.len() as u32).to_le_bytes());
    let crc = checksum(&to[start..], stored);
    to.extend(crc.to_le_bytes());
    to.extend(stored);
    Ok(())
}

/// A block's head.
pub struct Head {
    kind: u8,
    stored: u32,
    full: u32,
    crc: u32,
}

impl Head {
    /// Takes it apart.
    pub fn new(bytes: [u8; HEAD]) -> Self {
        let [kind, words @ ..] = bytes;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| words[at * 4 + byte]));
        Self { kind, stored: word(0), full: word(1), crc: word(2) }
    }

    /// Length of the block with its head.
    pub fn block_len(&self) -> u64 {
        HEAD as u64 + u64::from(self.stored)
    }

    /// Reads the payload as stored; it is shorter than it should be if the input ends.
    pub fn read_stored(&self, input: &mut impl Read) -> io::Result<Result<Vec<u8>, Malformed>> {
        if self.stored as usize > MAX_PAYLOAD {
            return Ok(Err("a block is too long"));
        }
        // Grows with what there is, not with what the head claims.
        let mut stored = Vec::new();
        input.take(self.stored.into()).read_to_end(&mut stored)?;
        Ok(Ok(stored))
    }

    /// Whether a payload as stored is all there.
    pub fn is_whole(&self, stored: &[u8]) -> bool {
        stored.len() == self.stored as usize
    }

    /// Kind and payload of a whole block.
    pub fn open(&self, stored: Vec<u8>) -> Result<(Kind, Vec<u8>), Malformed> {
        let mut head = vec![self.kind];
        head.extend(self.stored.to_le_bytes());
        head.extend(self.full.to_le_bytes());
        if checksum(&head, &stored) != self.crc {
            return Err("checksum differs");
        }
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == self.kind);
        let kind = kind.ok_or("unknown kind of block")?;
        let full = self.full as usize;
        if full == stored.len() {
            return Ok((kind, stored));
        }
        if full > MAX_PAYLOAD || full / MAX_RATIO > stored.len() {
            return Err("a block is too long");
        }
        let payload = lz4_flex::block::decompress(&stored, full);
        let payload = payload.map_err(|_| "compression is broken")?;
        if payload.len() == full { Ok((kind, payload)) } else { Err("compression is broken") }
    }
}

fn checksum(head: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(stored);
    hasher.finalize()
}
