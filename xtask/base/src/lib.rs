//! The base of every task: cargo, the cache, packages, other programs.

pub mod cache;
pub mod documents;
pub mod packages;
pub mod process;
pub mod workspace;

pub use process::CommandExt;
