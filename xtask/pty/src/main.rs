//! `drive`: takes the dashboard through every view, with real keys on a terminal of its own.

use std::{env, process::ExitCode};

use pty::tour::{self, Stage};

const USAGE: &str = "usage: drive VM FILTER PROGRAM [ARGUMENT]...";

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    let (Some(vm), Some(filter)) = (words.next(), words.next()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let stage = Stage { words: words.collect(), vm, plays: false };
    if stage.words.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(tour::run(&stage, &filter) > 0))
}
