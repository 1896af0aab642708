//! The published schema of the lines.

/// JSON Schema (2020-12) that every line of `collapse events` is valid by.
pub const EVENTS: &str = include_str!("schema.json");
