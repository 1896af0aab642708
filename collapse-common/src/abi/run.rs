//! Runs of SPTE changes, and how they get to user space.

/// Consecutive changes of one kind by one thread: the guest frames
/// `gfn, gfn + step, …, gfn + (count - 1) * step`, where `step` is what one SPTE of the level covers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// `CLOCK_MONOTONIC` ns of the first change.
    pub ts: u64,
    /// First guest frame.
    pub gfn: u64,
    /// The kind of the changes, and where they count.
    pub key: RunKey,
    /// Thread id (not thread group).
    pub tid: u32,
    /// Number of changes.
    pub count: u32,
}

/// The properties that all changes of a run share, in one word that the kernel side compares with one
/// instruction.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunKey(u64);

impl RunKey {
    /// Packs a key. `row` must be below 65536, `counter` below [`crate::counter::COUNTERS`], `as_id` 0 or
    /// 1 (SMM). `read_only` marks an install that the guest may not write to.
    ///
    /// `epoch` is the phase of the machine in which the run happens: it changes whenever a memslot
    /// changes or a collapse span begins or ends, so that a run never spans two phases.
    #[inline(always)]
    pub const fn new(row: u32, counter: usize, as_id: u32, read_only: bool, epoch: u32) -> Self {
        Self(
            row as u64
                | (counter as u64) << 16
                | (as_id as u64) << 24
                | (read_only as u64) << 31
                | (epoch as u64) << 32,
        )
    }

    /// The (VM, cause) row.
    pub const fn row(self) -> u32 {
        self.0 as u16 as u32
    }

    /// Returns the position of the transition and level in a row, see
    /// [`crate::counter::transition_at`].
    pub const fn counter(self) -> usize {
        (self.0 >> 16) as u8 as usize
    }

    /// Address space: 1 is SMM.
    pub const fn as_id(self) -> u32 {
        (self.0 >> 24) as u32 & 0x7f
    }

    /// Whether the guest may not write to the installed leaf.
    pub const fn is_read_only(self) -> bool {
        self.0 >> 31 & 1 != 0
    }

    /// Returns the phase of the machine.
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Runs in a full block.
pub const BLOCK_RUNS: usize = 32;

/// Closed runs on their way to user space: one ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block {
    /// [`RECORD_BLOCK`].
    pub record: u32,
    /// Number of the run list: CPU times [`super::WRITERS`] plus [`super::Writer`].
    pub list: u32,
    /// Blocks of this list before this one.
    pub number: u64,
    /// The runs, oldest first.
    pub runs: [Run; BLOCK_RUNS],
}

/// One change on its own, where each is wanted: one ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single {
    /// [`RECORD_SINGLE`].
    pub record: u32,
    /// Thread id (not thread group).
    pub tid: u32,
    /// `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// First guest frame.
    pub gfn: u64,
    /// As in a run.
    pub key: RunKey,
    /// The SPTE before.
    pub old: u64,
    /// The SPTE after.
    pub new: u64,
}

/// One change on its own, with the stack that it happened in: one ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// The change, whose first word is [`RECORD_STACKED`].
    pub single: Single,
    /// Number of the kernel's stack in [`super::map::STACKS`], or with [`MORE_STACKS`] in
    /// [`super::map::MORE_STACKS`]; negative if it could not be taken.
    pub stack: i64,
}

/// Bit of [`Stacked::stack`]: it is in the second table.
pub const MORE_STACKS: i64 = 1 << 32;

/// Runs that one [`super::Writer`] closes on one CPU. Nobody else writes it; user space reads it under
/// `begun` and `ended`: a copy in which they differ was torn and is read again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RunList {
    /// Changes of the list finished. First in memory, so that a reader copying upwards sees it before
    /// the data.
    pub ended: u64,
    /// The run being extended; `count` 0 if none.
    pub open: Run,
    /// The guest frame that would extend `open`.
    pub next_gfn: u64,
    /// Closed runs in `block`.
    pub len: u32,
    /// Padding.
    pub pad: u32,
    /// Closed runs.
    pub block: Block,
    /// Changes of the list begun. Last in memory, see `ended`.
    pub begun: u64,
}

/// First word of a [`Block`] in the ring.
pub const RECORD_BLOCK: u32 = 1;
/// First word of a [`super::Mark`] in the ring.
pub const RECORD_MARK: u32 = 2;
/// First word of a [`Single`] in the ring.
pub const RECORD_SINGLE: u32 = 3;
/// First word of a [`Stacked`] in the ring.
pub const RECORD_STACKED: u32 = 4;
