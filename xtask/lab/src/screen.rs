//! The user's terminal, connected with the guest's.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::mpsc::Sender,
    thread,
};

use anyhow::{Context, Result};

use crate::event::Event;

/// Shows the guest's terminal and passes on the keyboard, until the returned thread ends.
pub fn attach(terminal: &UnixStream, events: &Sender<Event>) -> Result<thread::JoinHandle<()>> {
    let mut output = terminal.try_clone().context("sharing the terminal port")?;
    let mut input = terminal.try_clone().context("sharing the terminal port")?;
    let events = events.clone();
    let screen = thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        let mut stdout = io::stdout();
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut keys = Keys::default();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = io::stdin().lock().read(&mut buffer) {
            let Some(bytes) = keys.filter(&buffer[..length]) else { break };
            if input.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = events.send(Event::Leave);
    });
    Ok(screen)
}

/// Watches the keyboard for Ctrl-A x; Ctrl-A twice is one for the guest.
#[derive(Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// Returns the bytes to pass on, or nothing if the user asks to leave.
    fn filter(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        const CTRL_A: u8 = 1;
        let mut passed = Vec::new();
        for byte in typed {
            match (std::mem::take(&mut self.escaped), *byte) {
                (true, b'x' | b'X') => return None,
                (true, CTRL_A) => passed.push(CTRL_A),
                (true, other) => passed.extend([CTRL_A, other]),
                (false, CTRL_A) => self.escaped = true,
                (false, other) => passed.push(other),
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out() {
        let mut keys = Keys::default();
        assert_eq!(keys.filter(b"ls\x01"), Some(b"ls".to_vec()));
        assert_eq!(keys.filter(b"\x01x"), Some(b"\x01x".to_vec()));
        assert_eq!(keys.filter(b"\x01b"), Some(b"\x01b".to_vec()));
        assert_eq!(keys.filter(b"abc\x01xyz"), None);
    }
}
