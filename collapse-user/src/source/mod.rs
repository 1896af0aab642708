//! Where batches come from: the running kernel. Everything above sees batches only, so that it runs
//! the same on a recording.

pub mod cost;
mod decode;
mod hugetlb;
pub mod idle;
pub mod live;
mod mapped;
mod maps;
pub mod memslots;
pub mod peek;
mod stacks;
pub mod tdp;
mod walk;

pub use collapse_feed::{
    Batch, Change, Collapse, Event, EventKind, Slot, SlotChange, Sptes, Update, VmReading,
    recording,
};
