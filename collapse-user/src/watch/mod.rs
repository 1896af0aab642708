//! Watching: a running kernel, or a recording in its place, until the window ends.

pub mod replay;
pub mod session;
pub mod trigger;
pub mod window;
