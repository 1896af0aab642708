//! Facts shared by the kernel and the user side of `collapse`: how an SPTE reads, what a change
//! of one means, why it happened, and the layouts that cross the boundary.
//!
//! Everything here is pure and allocation-free, so that the classification that runs in the
//! kernel is the same code that is tested on the host.
#![no_std]

pub mod abi;
pub mod cause;
pub mod counter;
mod ids;
pub mod latency;
pub mod runs;
pub mod selection;
pub mod spte;

pub use cause::Cause;
pub use counter::Counter;
pub use selection::Selection;
pub use spte::{SpteLayout, Transition};
