//! Blocks: kind, lengths and checksum around a payload.

use std::io::{self, Read};

use collapse_common::ids;

use super::Malformed;

ids! {
    /// A kind of block.
    pub enum BlockKind: u8 {
        /// Program, kernel and clocks.
        Header = 1,
        /// Coverage, from here on.
        Coverage = 2,
        /// The state at the start of a later segment.
        Baseline = 3,
        /// A part of a batch's events.
        Events = 4,
        /// The rest of a batch.
        Batch = 5,
        /// The end of the recording.
        End = 6,
        /// A change in whether anything is seen.
        Visibility = 7,
        /// Memory from hugetlbfs, of the next batch.
        Hugetlb = 8,
        /// Overhead, of the next batch.
        Overhead = 9,
        /// Kernel stacks, of the next batch.
        Stacks = 10,
        /// The machine's name.
        Host = 11,
        /// Memslots of VMs that existed before, of the next batch.
        Slots = 12,
        /// UUIDs of VMs, of the next batch.
        Uuids = 13,
    }
}

/// Size of a block's head, bytes: kind, length of the payload as stored and uncompressed, and the
/// CRC32 of these and of the stored payload.
pub const HEAD: usize = 1 + 4 + 4 + 4;

/// Maximum length of a payload, bytes.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// Maximum compression ratio of LZ4.
const MAX_RATIO: usize = 255;

/// Appends a block. Fails if the payload is longer than [`MAX_PAYLOAD`].
pub fn append(kind: BlockKind, payload: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
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

/// The head of a block.
pub struct Head {
    kind: u8,
    stored: u32,
    full: u32,
    crc: u32,
}

impl Head {
    /// Decodes a head.
    pub fn new(bytes: [u8; HEAD]) -> Self {
        let [kind, words @ ..] = bytes;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| words[at * 4 + byte]));
        Self { kind, stored: word(0), full: word(1), crc: word(2) }
    }

    /// Returns the length of the block including its head, bytes.
    pub fn block_len(&self) -> u64 {
        HEAD as u64 + u64::from(self.stored)
    }

    /// Reads the stored payload, which is shorter than announced if the input ends.
    pub fn read_stored(&self, input: &mut impl Read) -> io::Result<Result<Vec<u8>, Malformed>> {
        if self.stored as usize > MAX_PAYLOAD {
            return Ok(Err("a block is too long"));
        }
        // Allocates for the bytes that exist, not for the length that the head claims.
        let mut stored = Vec::new();
        input.take(self.stored.into()).read_to_end(&mut stored)?;
        Ok(Ok(stored))
    }

    /// Returns whether a stored payload is complete.
    pub fn is_whole(&self, stored: &[u8]) -> bool {
        stored.len() == self.stored as usize
    }

    /// Verifies and decompresses a complete block; returns its kind and payload.
    pub fn open(&self, stored: Vec<u8>) -> Result<(BlockKind, Vec<u8>), Malformed> {
        let mut head = vec![self.kind];
        head.extend(self.stored.to_le_bytes());
        head.extend(self.full.to_le_bytes());
        if checksum(&head, &stored) != self.crc {
            return Err("checksum differs");
        }
        let kind = BlockKind::from_number(self.kind).ok_or("unknown kind of block")?;
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
