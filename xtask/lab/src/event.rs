//! The events of a run.

/// Something that happened during a run.
#[derive(Debug)]
pub enum Event {
    /// The machine is up.
    Ready,
    /// The command has ended with this status.
    Exit(i32),
    /// A stream has come to its end mark.
    End,
    /// The machine is off.
    Gone,
    /// The user asked to leave.
    Leave,
}
