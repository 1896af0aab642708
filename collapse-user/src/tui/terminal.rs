//! The terminal: taken, and given back as it was, however the program ends.

use std::{
    io::{self, Write as _},
    panic,
    sync::Once,
    thread,
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc;

/// The terminal on standard output, in raw mode and on its alternate screen until dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before it is reported.
    pub fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                leave();
                report(info);
            }));
        });
        // From here on, dropping gives it back, also if taking it fails half way.
        let screen = Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? };
        enter()?;
        Ok(screen)
    }

    /// Draws a frame.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(render).map(|_| ())
    }

    /// Gives the terminal back, stops the process as job control does, and takes the terminal again
    /// once it goes on.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        stop()?;
        enter()?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// Does what it can: there is nobody left to tell of a failure.
fn leave() {
    let mut out = io::stdout();
    let _ = execute!(out, LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// Stops the process until it is told to go on.
pub fn stop() -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keys and changes of size as they come, read by a thread of their own. The channel ends when the
/// terminal goes away.
pub fn events() -> io::Result<mpsc::UnboundedReceiver<Event>> {
    let (send, receive) = mpsc::unbounded_channel();
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read() {
            if send.send(event).is_err() {
                break;
            }
        }
    })?;
    Ok(receive)
}
