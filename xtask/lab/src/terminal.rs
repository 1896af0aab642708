//! The user's terminal: its size, and raw mode that is undone on every way out. By hand: crossterm's
//! raw mode cannot be undone by a signal handler, and would make xtask slower to build.

use std::{
    io::{self, IsTerminal, Write},
    mem::MaybeUninit,
    sync::OnceLock,
};

use anyhow::{Context, Result};

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
}

impl WindowSize {
    /// The size of the user's terminal now.
    pub fn current() -> Self {
        let mut size = MaybeUninit::<libc::winsize>::zeroed();
        // SAFETY: the call fills in a winsize, and one of zeros is valid if it does not.
        let size = unsafe {
            libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr());
            size.assume_init()
        };
        match (size.ws_row, size.ws_col) {
            (0, _) | (_, 0) => Self { rows: 24, columns: 80 },
            (rows, columns) => Self { rows, columns },
        }
    }
}

/// Whether stdin and stdout are a terminal.
pub fn present() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The settings before raw mode; set once, since a signal handler reads them.
static SAVED: OnceLock<libc::termios> = OnceLock::new();
/// Leaves the alternate screen, shows the cursor, ends mouse reports and colours.
const RESET: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[0m\r\n";

/// Raw mode, until dropped.
pub struct Raw {
    /// Whether the program on the screen had no chance to clean up after itself.
    pub abandoned: bool,
}

impl Raw {
    /// Enters raw mode.
    pub fn enter() -> Result<Self> {
        let saved = match SAVED.get() {
            Some(saved) => *saved,
            None => *SAVED.get_or_init({
                let settings = settings().context("reading the terminal's settings")?;
                move || settings
            }),
        };
        let mut raw = saved;
        // SAFETY: `raw` is a valid termios.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            // SAFETY: the handler calls only what may be called from one.
            unsafe { libc::signal(signal, restore_and_exit as *const () as libc::sighandler_t) };
        }
        // SAFETY: `raw` is a valid termios.
        if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const raw) } != 0 {
            return Err(io::Error::last_os_error()).context("entering raw mode");
        }
        Ok(Self { abandoned: true })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
        if self.abandoned {
            let mut stdout = io::stdout();
            // There is nowhere to report a broken terminal to.
            let _ = stdout.write_all(RESET).and_then(|()| stdout.flush());
        }
    }
}

fn settings() -> io::Result<libc::termios> {
    let mut settings = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the settings are read only if the call has filled them in.
    unsafe {
        if libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(settings.assume_init())
    }
}

fn restore() {
    if let Some(saved) = SAVED.get() {
        // SAFETY: `saved` is a valid termios.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, saved) };
    }
}

extern "C" fn restore_and_exit(signal: libc::c_int) {
    restore();
    // SAFETY: write and _exit may be called from a signal handler; the buffer is static.
    unsafe {
        libc::write(libc::STDOUT_FILENO, RESET.as_ptr().cast(), RESET.len());
        libc::_exit(128 + signal);
    }
}
