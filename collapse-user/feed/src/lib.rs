//! The feed: what crosses from any source to the model, and recordings of it.
//!
//! A source, which is the running kernel or a [`recording`], hands over one [`Update`] after the
//! other, with the [`Coverage`] that says which numbers in it are known. This crate knows neither
//! how eBPF programs are loaded nor how anything is shown.

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

pub use coverage::{Coverage, Mmu, SignalStatus};
pub use event::{Change, Collapse, Event, EventKind, Slot, SlotChange, Sptes};
pub use machine::Machine;
pub use overhead::{Degraded, Overhead, ProgramCost, Step};
pub use printable::{MAX_COLUMNS, printable};
pub use process::{NameSource, VmName, VmProcess};
pub use signal::Signal;
pub use update::{Batch, Update, VmReading};
