//! Diagnostics of the program itself, kept to be shown while the dashboard has the terminal.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use log::Level;

/// Messages kept. Older ones are only counted.
const KEPT: usize = 50;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Severity.
    pub level: Level,
    /// One or more lines, without control characters.
    pub text: String,
}

/// The latest messages, and how many there were. Clones share them: a logger may push from any thread
/// while the dashboard draws.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    /// Oldest first, at most [`KEPT`].
    latest: VecDeque<Notice>,
    total: u64,
}

impl Notices {
    /// Adds a message. Control characters in it are replaced: it may quote names of processes.
    pub fn push(&self, level: Level, text: &str) {
        let text = text.replace(|char: char| char.is_control() && char != '\n', "\u{fffd}");
        let mut ring = self.ring();
        if ring.latest.len() == KEPT {
            ring.latest.pop_front();
        }
        ring.latest.push_back(Notice { level, text });
        ring.total += 1;
    }

    /// Messages pushed so far, kept or not.
    pub fn total(&self) -> u64 {
        self.ring().total
    }

    /// Up to `most` of the messages kept, the latest first.
    pub fn latest(&self, most: usize) -> Vec<Notice> {
        self.ring().latest.iter().rev().take(most).cloned().collect()
    }

    /// The messages. They are whole even if another thread panicked while it had them.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn only_the_latest_are_kept_but_all_are_counted() {
        let notices = Notices::default();
        for number in 0..200 {
            notices.push(Level::Warn, &format!("warning {number}"));
        }
        let latest = notices.latest(usize::MAX);
        assert_eq!((latest.len(), notices.total()), (KEPT, 200));
        assert_eq!((&*latest[0].text, &*latest[KEPT - 1].text), ("warning 199", "warning 150"));
        assert_eq!(notices.latest(2), latest[..2]);
    }

    #[test]
    fn clones_share_messages_between_threads() {
        let notices = Notices::default();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let notices = notices.clone();
                thread::spawn(move || (0..100).for_each(|_| notices.push(Level::Error, "no")))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(notices.total(), 400);
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        let notices = Notices::default();
        notices.push(Level::Warn, "a\x1b[2J\nb\tc");
        assert_eq!(notices.latest(1)[0].text, "a\u{fffd}[2J\nb\u{fffd}c");
    }
}
