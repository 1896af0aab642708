//! The gate: demands on a run, and whether it met them.

pub mod baseline;
pub mod budget;
pub mod checks;
mod parse;
mod path;
