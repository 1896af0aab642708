//! Diagnostics: lines on stderr, or in the dashboard's status line while it has the terminal.
//!
//! Everything that the program logs goes through here: warnings and errors always, more with `-v`.
//! Libraries' own warnings are not written for our users and wait for `-v`.

use std::{
    collections::HashSet,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    mem,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Begins every line, as it begins every error.
const PREFIX: &str = "collapse: ";

/// Targets of our own crates begin so.
const OURS: &str = "collapse";

/// Shows diagnostics from now on: warnings, with a `verbosity` of 1 also information, from 2 on
/// everything, that is the verifier's logs and what aya does.
pub fn start(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    // Fails where it was started before, as in tests.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}

/// Shows a line that the user asked for, whatever the verbosity.
pub fn note(text: impl Display) {
    lines().show(Level::Info, &text.to_string());
}

/// The logger behind [`log`]'s macros.
struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = metadata.level();
        let ours = metadata.target().starts_with(OURS);
        level <= log::max_level() && (ours || log::max_level() > LevelFilter::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = if record.target().starts_with(OURS) {
            record.args().to_string()
        } else {
            format!("{}: {}", record.target(), record.args())
        };
        lines().show(record.level(), &text);
    }

    fn flush(&self) {}
}

/// Shows the eBPF programs' own log, whatever the verbosity.
#[derive(Clone, Copy, Debug)]
pub struct EbpfLog;

impl Log for EbpfLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Not as warnings: they are for who asked for them, not for the status line.
        lines().show(Level::Info, &format!("eBPF: {}", record.args()));
    }

    fn flush(&self) {}
}

/// Keeps lines off a terminal that is taken until dropped; then they are shown there. Where stderr is
/// no terminal they go there at once.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// Holds lines back from now on.
    pub fn begin() -> Self {
        lines().held = Some(HeldLines::default());
        Self(())
    }

    /// Warnings since the last call, oldest first.
    pub fn warnings(&self) -> Vec<String> {
        lines().held.as_mut().map(|held| mem::take(&mut held.warnings)).unwrap_or_default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = lines().held.take();
        for line in held.into_iter().flat_map(|held| held.lines) {
            write(&line);
        }
    }
}

static LINES: LazyLock<Mutex<Lines>> = LazyLock::new(Mutex::default);

/// A thread that panicked with the lock left whole lines behind.
fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Lines {
    /// Warnings that were shown. A cause that lasts is not reported at every reading.
    shown: HashSet<String>,
    held: Option<HeldLines>,
}

#[derive(Default)]
struct HeldLines {
    /// Lines that wait for the terminal.
    lines: Vec<String>,
    /// Warnings that the dashboard has not taken.
    warnings: Vec<String>,
}

impl Lines {
    fn show(&mut self, level: Level, text: &str) {
        let text = &harmless(text);
        if !self.is_news(level, text) {
            return;
        }
        let lines = text.lines().map(|line| format!("{PREFIX}{line}"));
        let Some(held) = &mut self.held else { return lines.for_each(|line| write(&line)) };
        if level <= Level::Warn {
            held.warnings.push(text.to_owned());
        }
        if io::stderr().is_terminal() {
            held.lines.extend(lines);
        } else {
            lines.for_each(|line| write(&line));
        }
    }

    fn is_news(&mut self, level: Level, text: &str) -> bool {
        level != Level::Warn || self.shown.insert(text.to_owned())
    }
}

/// Text without characters that could move a terminal's cursor: messages have names of processes.
fn harmless(text: &str) -> String {
    text.replace(|char: char| char.is_control() && char != '\n', "\u{fffd}")
}

/// A closed stderr must not end the program.
fn write(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_cause_is_reported_once() {
        let mut lines = Lines::default();
        assert!(lines.is_news(Level::Warn, "kernel stack 3: gone"));
        assert!(!lines.is_news(Level::Warn, "kernel stack 3: gone"));
        assert!(lines.is_news(Level::Warn, "kernel stack 4: gone"));
        // What was done twice is logged twice.
        assert!(lines.is_news(Level::Info, "attached") && lines.is_news(Level::Info, "attached"));
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\nb\tc"), "a\u{fffd}[2J\nb\u{fffd}c");
    }

    #[test]
    fn libraries_warn_only_when_asked_to() {
        let enabled = |target: &str, level| {
            Logger.enabled(&Metadata::builder().target(target).level(level).build())
        };
        start(0);
        assert!(enabled("collapse::probe", Level::Warn) && !enabled("aya::bpf", Level::Warn));
        assert!(!enabled("collapse::probe", Level::Info));
        start(1);
        assert!(enabled("collapse_report", Level::Info) && enabled("aya::bpf", Level::Warn));
        assert!(!enabled("collapse::probe", Level::Debug));
        start(2);
        assert!(enabled("aya_obj", Level::Debug));
    }
}
