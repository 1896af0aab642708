//! The `collapse` command.
fn main() {}
