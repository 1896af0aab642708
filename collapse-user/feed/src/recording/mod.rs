//! Batches kept in a file.
//!
//! A recording is one or more *segments*. A segment begins with [`MAGIC`] and the format version, and
//! goes on with blocks: a kind, two lengths, a CRC32, and a payload in `postcard`'s encoding, compressed
//! by LZ4 where that makes it smaller.
//!
//! | block    | what is in it                                                             |
//! |----------|---------------------------------------------------------------------------|
//! | header   | program, kernel, clocks, number of the segment                            |
//! | host     | the machine's name, if it has one: before coverage, in each segment        |
//! | coverage | what is seen and what is not; again whenever that changes                 |
//! | baseline | where everything stands as a later segment begins                         |
//! | events   | a part of a batch's events                                                |
//! | batch    | the rest of a batch: totals, gauges, latencies, losses as changes         |
//! | overhead | what the programs cost, as of the next batch                              |
//! | hugetlb  | memory from hugetlbfs that the next batch tells of                        |
//! | stacks   | kernel stacks that changes of the next batch or later ones name            |
//! | sight    | programs were detached, or others attached; the time when none were          |
//! | end      | the recording is complete: the command that was run, and why it ended     |
//!
//! Every number is relative to what the segment told before, so a segment stands for itself and
//! nothing after a damaged block can be read; what is before it can. Blocks are only ever appended.
//! Enums are stored by number: variants are added at the end, never moved.
//!
//! Concatenated segments of one recording, in order, are a recording. That is how the flight recorder
//! works: it writes to the newer of two segments and deletes the older.

mod block;
mod coverage;
mod decode;
mod encode;
mod recorder;
mod replay;
mod standing;
mod wire;

#[cfg(test)]
mod numbers;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Deserialize, Serialize};

pub use recorder::{Limits, Recorder, create};
pub use replay::Replay;

/// First bytes of a segment. The first is no block's kind, and the line ends tell of a file that was
/// transferred as text.
pub const MAGIC: [u8; 8] = *b"\x89CLPS\r\n\x1a";

/// Version of the format. Readers take this one and all before it. From 2 on, coverage has the facts
/// that numbers depend on; version 1 has to be read by the spelling of its hooks.
pub const VERSION: u16 = 2;

/// How a segment begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the program that recorded.
    pub program: String,
    /// `uname -r`.
    pub kernel: String,
    /// Both clocks at one moment.
    pub clocks: Clocks,
    /// Number of the segment, from 0 on.
    pub segment: u32,
}

/// Both clocks at one moment, ns. Taken once per recording, so that it tells recordings apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC`.
    pub monotonic: u64,
    /// `CLOCK_REALTIME`.
    pub wall: u64,
}

impl Clocks {
    /// Now.
    pub fn now() -> Self {
        Self { monotonic: crate::clock::monotonic_ns(), wall: crate::clock::wall_ns() }
    }

    /// The wall-clock time, ns, of a monotonic one, ns.
    pub fn wall_at(self, monotonic: u64) -> u64 {
        self.wall.wrapping_add(monotonic).wrapping_sub(self.monotonic)
    }
}

/// How a complete recording ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The command that was run, if any.
    pub command: Option<Command>,
    /// Whether it ended before the window did, because it reached its greatest size.
    pub full: bool,
}

/// A command that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments, made printable.
    pub argv: Vec<String>,
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
}

/// Why a recording cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error("this is no recording of collapse")]
    NotARecording,
    /// A newer program wrote it.
    #[error("this recording's format has version {0}, and this program reads up to {VERSION}")]
    TooNew(u16),
    /// It ends without saying so: the recorder was killed, or is still running.
    #[error("the recording is cut short at byte {0}")]
    Cut(u64),
    /// Bytes are not what was written.
    #[error("the recording is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the first damaged block begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What is wrong with a block.
type Malformed = &'static str;
