//! Programs on a terminal that is read and typed at by other programs.

pub mod frame;
pub mod svg;
mod terminal;
pub mod tour;

pub use frame::Frame;
pub use terminal::{Size, Terminal};
