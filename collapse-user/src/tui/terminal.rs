//! The terminal: taken over, and restored however the program ends.

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

/// The terminal on standard output, in raw mode and on the alternate screen until dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    mouse: bool,
}

impl Screen {
    /// Takes over the terminal and, if `mouse`, mouse reports. A panic restores the terminal before
    /// its message is printed.
    pub fn open(mouse: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                leave();
                report(info);
            }));
        });
        // From here on dropping restores the terminal, even if `enter` fails half way.
        let screen = Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, mouse };
        enter(mouse)?;
        Ok(screen)
    }

    /// Draws a frame.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(render).map(|_| ())
    }

    /// Restores the terminal, stops the process as job control does, and takes the terminal over
    /// again when the process continues.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        stop()?;
        enter(self.mouse)?;
        // Makes the next frame redraw everything. `clear` would query the cursor's position, and the
        // reply would reach the reader of the input.
        self.terminal.resize(Rect::from((Position::ORIGIN, self.terminal.size()?)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Requests reports of buttons and the wheel in SGR encoding. Reports of movement would keep a slow
/// connection busy.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1000l";

/// Whether the terminal is taken over. Restoring it twice would move the cursor back over later output.
static TAKEN: AtomicBool = AtomicBool::new(false);

fn enter(mouse: bool) -> io::Result<()> {
    TAKEN.store(true, Ordering::Relaxed);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    if mouse { execute!(io::stdout(), Print(MOUSE_ON)) } else { Ok(()) }
}

/// Restores the terminal as far as possible; a failure could not be reported anywhere.
fn leave() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    let mut out = io::stdout();
    let _ = execute!(out, Print(MOUSE_OFF), LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// Stops the process until it receives `SIGCONT`.
pub fn stop() -> io::Result<()> {
    // Sent to this thread. Sent to the process, another thread might take the signal and this one would
    // run on for a while.
    // SAFETY: no memory is involved.
    match unsafe { libc::raise(libc::SIGSTOP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keys, mouse and resize events. Input that arrives after this is dropped stays unread.
#[derive(Debug, Default)]
pub struct Input {
    events: crossterm::event::EventStream,
}

impl Input {
    /// Waits for the next event; `None` once the terminal is gone.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut self.events).poll_next(context)).await?.ok()
    }
}
