//! Project tasks.
#![allow(missing_docs)]
fn main() {}
