//! The feed: the data that any source delivers to the model, and recordings of it.
//!
//! A source, either the running kernel or a [`recording`], delivers one [`Update`] after another,
//! with the [`Coverage`] that decides which numbers in them are known. This crate depends neither on
//! the eBPF loader nor on any view.

pub mod clock;
mod coverage;
mod event;
#[cfg(any(test, feature = "fixtures"))]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that uses it fails")]
pub mod fixtures;
mod machine;
mod overhead;
mod printable;
mod process;
pub mod recording;
mod signal;
mod update;

pub use coverage::{Coverage, Mmu, Paging, SignalStatus, Vendor};
pub use event::{
    Change, Collapse, Event, EventKind, LongFault, NoProgress, Slot, SlotChange, Sptes,
};
pub use machine::Machine;
pub use overhead::{Degraded, DetailStep, Overhead, ProgramCost};
pub use printable::{MAX_COLUMNS, printable};
pub use process::{NameSource, VmName, VmProcess};
pub use signal::Signal;
pub use update::{Batch, Update, VmReading};
