//! Recordings: updates stored in a file.
//!
//! A recording is one or more *segments*. A segment begins with [`MAGIC`] and the format version, and
//! continues with blocks: a kind, two lengths, a CRC32, and a payload in `postcard`'s encoding,
//! compressed by LZ4 if that makes it smaller.
//!
//! | block      | content                                                                     |
//! |------------|-----------------------------------------------------------------------------|
//! | header     | program, kernel, clocks, number of the segment                              |
//! | host       | the machine's name, if it has one: before coverage, in each segment         |
//! | coverage   | the signals that are seen or not; repeated whenever they change             |
//! | baseline   | the state at the start of a later segment                                   |
//! | events     | a part of a batch's events                                                  |
//! | batch      | the rest of a batch: totals, gauges, latencies, losses, as differences      |
//! | overhead   | the overhead of the programs, part of the next batch                        |
//! | hugetlb    | memory from hugetlbfs, part of the next batch                               |
//! | slots      | memslots of VMs that existed before, part of the next batch                 |
//! | uuids      | UUIDs of VMs, part of the next batch                                        |
//! | stacks     | kernel stacks that changes of the next batch or later ones refer to         |
//! | visibility | programs were detached or attached, or a time at which none were attached   |
//! | end        | completes the recording: the command that was run, and why it ended         |
//!
//! Numbers are stored as differences to earlier ones of the same segment. A segment is therefore
//! readable alone, and a recording is readable up to the first damaged block. Blocks are only ever
//! appended. Enums are stored by number: variants are added at the end, never moved.
//!
//! Segments of one recording, concatenated in order, are a recording. The flight recorder relies on
//! that: it writes to the newer of two segments and deletes the older.

mod block;
mod coverage;
mod decode;
mod encode;
mod excerpt;
mod recorder;
mod replay;
mod snapshot;
mod wire;

#[cfg(test)]
mod numbers;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Deserialize, Serialize};

pub use excerpt::Excerpt;
pub use recorder::{Recorder, SizeLimits, create};
pub use replay::Replay;

/// First bytes of a segment. The first byte is no block's kind, and the line ends reveal a file that
/// was transferred as text.
pub const MAGIC: [u8; 8] = *b"\x89CLPS\r\n\x1a";

/// Version of the format. Readers accept this one and all earlier ones. From version 2 on, coverage
/// includes the facts that numbers depend on; in version 1 they follow from the spelling of hooks.
pub const VERSION: u16 = 2;

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingHeader {
    /// Version of the program that recorded.
    pub program: String,
    /// `uname -r`.
    pub kernel: String,
    /// Readings of both clocks, equal in all segments of a recording.
    pub clocks: Clocks,
    /// Number of the segment, counted from 0.
    pub segment: u32,
}

/// Simultaneous readings of both clocks, ns. They are taken once per recording and identify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC`.
    pub monotonic: u64,
    /// `CLOCK_REALTIME`.
    pub wall: u64,
}

impl Clocks {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self { monotonic: crate::clock::monotonic_ns(), wall: crate::clock::wall_ns() }
    }

    /// Converts a monotonic time, ns, to wall-clock time, ns since 1970.
    pub fn wall_at(self, monotonic: u64) -> u64 {
        self.wall.wrapping_add(monotonic).wrapping_sub(self.monotonic)
    }
}

/// The end of a complete recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingEnd {
    /// The command that was run, if any.
    pub command: Option<RecordedCommand>,
    /// Whether recording ended early because it reached its maximum size.
    pub full: bool,
}

/// A command that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCommand {
    /// Program and arguments, made printable.
    pub argv: Vec<String>,
    /// Exit status; `None` if a signal killed it.
    pub status: Option<i32>,
    /// Signal that killed it, if one did.
    pub signal: Option<i32>,
}

/// Reason why a recording cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Opening or reading the file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The input does not begin with the header of a recording.
    #[error("this is no recording of collapse")]
    NotARecording,
    /// A newer version of the program wrote the recording.
    #[error("this recording's format has version {0}, and this program reads up to {VERSION}")]
    TooNew(u16),
    /// The recording has no end: the recorder was killed, or is still running.
    #[error("the recording is cut short at byte {0}")]
    Cut(u64),
    /// A block is not as it was written.
    #[error("the recording is damaged at byte {offset}: {what}")]
    Damaged {
        /// Offset of the first damaged block, bytes.
        offset: u64,
        /// Kind of damage.
        what: &'static str,
    },
}

/// A description of a malformed block.
type Malformed = &'static str;
