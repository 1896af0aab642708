//! The base of every task: cargo, the cache, other programs.

pub mod cache;
pub mod process;
pub mod workspace;

pub use process::CommandExt;
