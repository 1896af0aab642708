//! The terminal is given back on ways of ending that a user cannot ask for. Those that a user can
//! are driven with the program itself, on a guest.

use std::{
    env,
    io::{self, Read as _},
};

use anyhow::{Result, ensure};
use collapse::tui::terminal::Screen;
use pty::{Size, Terminal};

/// Which way this test program, run on a terminal by itself, is to end.
const WAY: &str = "COLLAPSE_TEST_ENDING";

const SIZE: Size = Size { columns: 100, rows: 40 };

/// Takes the terminal, draws, and ends; does nothing unless told how.
#[test]
fn child() {
    let Ok(way) = env::var(WAY) else { return };
    let draw = || -> io::Result<()> {
        let mut screen = Screen::open(true)?;
        screen.draw(|frame| {
            let area = frame.area();
            frame.buffer_mut().set_string(0, 0, "on the screen", ratatui::style::Style::new());
            frame.set_cursor_position((area.width - 1, 0));
        })?;
        match &*way {
            "panic" => panic!("as told"),
            "error" => return Err(io::Error::other("as told")),
            _ => screen.suspend()?,
        }
        screen.draw(|frame| {
            frame.buffer_mut().set_string(0, 0, "back again", ratatui::style::Style::new());
        })?;
        io::stdin().read_exact(&mut [0])
    };
    draw().unwrap();
}

fn start(way: &str) -> Result<Terminal> {
    let program = env::current_exe()?.to_string_lossy().into_owned();
    let words = [&program, "--exact", "child", "--nocapture"].map(str::to_owned);
    Terminal::run(&words, &[(WAY, way), ("TERM", "xterm"), ("RUST_BACKTRACE", "0")], SIZE)
}

fn ends(way: &str, says: &str) -> Result<()> {
    let mut terminal = start(way)?;
    let status = terminal.ended()?;
    ensure!(status != 0, "it did not fail");
    terminal.restored()?;
    let text = terminal.text();
    // Told on the terminal as it was, not on the screen that is gone.
    ensure!(text.contains(says), "{text}");
    ensure!(!text.contains("on the screen"), "{text}");
    Ok(())
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told_there() {
    ends("panic", "as told").unwrap();
}

#[test]
fn an_error_gives_the_terminal_back() {
    ends("error", "as told").unwrap();
}

#[test]
fn a_stop_gives_the_terminal_back_until_it_goes_on() {
    let mut terminal = start("stop").unwrap();
    terminal.stopped().unwrap();
    terminal.restored().unwrap();
    terminal.signal(libc::SIGCONT).unwrap();
    terminal.wait_for("back again").unwrap();
    assert!(terminal.screen().alternate_screen());
    terminal.keys("x").unwrap();
    assert_eq!(terminal.ended().unwrap(), 0);
    terminal.restored().unwrap();
}
