//! The `collapse` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    collapse::cli::main()
}
