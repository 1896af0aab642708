//! The library behind the `collapse` command.
