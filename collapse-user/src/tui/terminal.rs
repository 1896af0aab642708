//! The terminal: taken, and given back as it was, however the program ends.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    panic,
    pin::Pin,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_core::Stream as _;
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::Event,
        execute,
        style::Print,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::{Position, Rect},
};

/// The terminal on standard output, in raw mode and on its alternate screen until dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    mouse: bool,
}

impl Screen {
    /// Takes the terminal, and the mouse if asked to. A panic gives it back before it is reported.
    pub fn open(mouse: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                leave();
                report(info);
            }));
        });
        // From here on, dropping gives it back, also if taking it fails half way.
        let screen = Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, mouse };
        enter(mouse)?;
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
        enter(self.mouse)?;
        // Clears it all; `clear` would ask where the cursor is, and the answer goes to whoever reads the
        // input.
        self.terminal.resize(Rect::from((Position::ORIGIN, self.terminal.size()?)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Reports buttons and the wheel, in SGR's form. Moves are not asked for: they would keep a slow
/// connection busy.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1000l";

/// Whether the terminal is taken. Leaving it twice would put the cursor back over what was told since.
static TAKEN: AtomicBool = AtomicBool::new(false);

fn enter(mouse: bool) -> io::Result<()> {
    TAKEN.store(true, Ordering::Relaxed);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    if mouse { execute!(io::stdout(), Print(MOUSE_ON)) } else { Ok(()) }
}

/// Does what it can: there is nobody left to tell of a failure.
fn leave() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    let mut out = io::stdout();
    let _ = execute!(out, Print(MOUSE_OFF), LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// Stops the process until it is told to go on.
pub fn stop() -> io::Result<()> {
    // To this thread: sent to the process, another may take it, and this one run on for a while.
    // SAFETY: no memory is involved.
    match unsafe { libc::raise(libc::SIGSTOP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keys, the mouse and changes of size as they come. What is typed after this was dropped is left
/// for others.
#[derive(Debug, Default)]
pub struct Input {
    events: crossterm::event::EventStream,
}

impl Input {
    /// Waits for the next event; `None` when the terminal is gone.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut self.events).poll_next(context)).await?.ok()
    }
}
