//! Where batches come from: the running kernel. Everything above sees batches only, so that it runs
//! the same on a recording.

pub mod cost;
mod decode;
mod hugetlb;
pub mod live;
mod mapped;
mod maps;
mod stacks;

pub use collapse_feed::{
    Batch, Change, Collapse, Event, EventKind, Slot, SlotChange, Sptes, Update, VmReading,
    recording,
};
