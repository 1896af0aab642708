//! The engine: watches a running kernel, or reads a recording in its place, until the window ends.
//!
//! ```text
//! Session (running kernel) ─┐            ┌─▶ Tap (recording)
//!                           ├─▶ Pipeline ┼─▶ Model ─▶ Observer (events, export, lines)
//! replay  (recording)      ─┘            └─▶ …
//! ```
//!
//! [`Attached`] has programs attached, [`Session`] reads them and follows KVM when it is unloaded and
//! loaded again, and a [`Window`] says for how long.

mod attach;
mod part;
mod pipeline;
mod ready;
pub mod replay;
mod runtime;
mod session;
mod switches;
mod tap;
mod trigger;
mod window;

pub use attach::{Attached, Setup, Wanted};
pub use part::{Moment, Part};
pub use pipeline::Pipeline;
pub use ready::Readiness;
pub use replay::Replayed;
pub use runtime::runtime;
pub use session::{DRAIN_INTERVAL, Session};
pub use switches::{ProbeSwitches, SwitchedOff};
pub use tap::{NewRecording, Tap};
pub use trigger::Trigger;
pub use window::{Window, ended_as, until_ended};
