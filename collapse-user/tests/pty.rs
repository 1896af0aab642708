//! The dashboard on a terminal: a recording is played through every view and ended in every way that
//! a user can choose, and the terminal is restored after panics, errors and stops. The dashboard of a
//! running kernel is tested in the lab.

use std::{
    env,
    io::{self, Read as _},
};

use anyhow::{Result, ensure};
use collapse::{
    diagnostics,
    live::Dashboard,
    model::Model,
    plan::Mmu,
    settings::Settings,
    tui::{DashboardData, Heading, terminal::Screen},
    watch,
};
use pty::{
    Size, Terminal,
    tour::{self, Stage},
};

/// Environment variable with the way in which this program, run as a child on a terminal, ends.
const ENDING: &str = "COLLAPSE_TEST_ENDING";

const SIZE: Size = Size { columns: 100, rows: 40 };

/// Opens the screen, draws, and ends as [`ENDING`] demands; does nothing without it.
#[test]
fn child() {
    let Ok(ending) = env::var(ENDING) else { return };
    let draw = || -> io::Result<()> {
        if ending == "warnings" {
            return warn();
        }
        let mut screen = Screen::open(true)?;
        screen.draw(|frame| {
            let area = frame.area();
            frame.buffer_mut().set_string(0, 0, "on the screen", ratatui::style::Style::new());
            frame.set_cursor_position((area.width - 1, 0));
        })?;
        match &*ending {
            "panic" => panic!("as requested"),
            "error" => return Err(io::Error::other("as requested")),
            _ => screen.suspend()?,
        }
        screen.draw(|frame| {
            frame.buffer_mut().set_string(0, 0, "back again", ratatui::style::Style::new());
        })?;
        io::stdin().read_exact(&mut [0])
    };
    draw().unwrap();
}

/// Logs warnings while the dashboard has the terminal and after a key was pressed; ends at the next
/// line of input.
fn warn() -> io::Result<()> {
    diagnostics::start(0);
    let (model, heading) = (Model::default(), Heading::default());
    let coverage = collapse_feed::fixtures::full_coverage(Mmu::Tdp);
    let live = DashboardData { model: &model, coverage: &coverage, heading: &heading, track: None };
    let runtime = watch::runtime().map_err(|failure| io::Error::other(failure.error))?;
    runtime.block_on(async {
        let mut dashboard = Dashboard::open(&Settings::default())?;
        dashboard.show(&live)?;
        log::warn!(target: "collapse::test", "the first thing went wrong");
        log::info!(target: "collapse::test", "nothing happened");
        dashboard.show(&live)?;
        dashboard.asked(&live).await;
        log::warn!(target: "collapse::test", "the first thing went wrong");
        log::warn!(target: "collapse::test", "the second thing went wrong");
        Ok::<_, io::Error>(())
    })?;
    io::stdin().read_exact(&mut [0])
}

fn start(ending: &str) -> Result<Terminal> {
    let program = env::current_exe()?.to_string_lossy().into_owned();
    let words = [&program, "--exact", "child", "--nocapture"].map(str::to_owned);
    Terminal::run(&words, &[(ENDING, ending), ("TERM", "xterm"), ("RUST_BACKTRACE", "0")], SIZE)
}

/// Runs the child, and demands that it fails, restores the terminal, and prints `message` there.
fn ends(ending: &str, message: &str) -> Result<()> {
    let mut terminal = start(ending)?;
    let status = terminal.ended()?;
    ensure!(status != 0, "the child did not fail");
    terminal.restored()?;
    let text = terminal.text();
    ensure!(text.contains(message), "{text}");
    ensure!(!text.contains("on the screen"), "{text}");
    Ok(())
}

#[test]
fn a_panic_restores_the_terminal_and_is_printed_there() {
    ends("panic", "as requested").unwrap();
}

#[test]
fn an_error_restores_the_terminal() {
    ends("error", "as requested").unwrap();
}

#[test]
fn a_stop_restores_the_terminal_until_the_program_continues() {
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

#[test]
fn a_warning_goes_to_the_status_line_and_later_to_stderr() {
    let mut terminal = start("warnings").unwrap();
    terminal.wait_for("! the first thing went wrong").unwrap();
    let text = terminal.text();
    assert!(terminal.screen().alternate_screen());
    let status = text.lines().last().unwrap();
    assert!(status.contains("! the first thing went wrong"), "{text}");
    assert!(!text.contains("collapse: "), "stray bytes: {text}");
    terminal.keys("x").unwrap();
    terminal.restored().unwrap();
    terminal.wait_for("second thing").unwrap();
    let text = terminal.text();
    terminal.keys("\n").unwrap();
    assert_eq!(terminal.ended().unwrap(), 0);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("collapse: ")).collect();
    let first = "collapse: the first thing went wrong";
    assert_eq!(lines, [first, "collapse: the second thing went wrong"], "{text}");
}

#[test]
fn a_recording_is_played() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recorded/four-guests.rec");
    let program = env!("CARGO_BIN_EXE_collapse");
    let words = [program, "--from", recording, "--at", "38s"].map(str::to_owned);
    let stage = Stage { words: words.to_vec(), vm: "web-frontend".to_owned(), plays: true };
    assert_eq!(tour::run(&stage, ""), 0);
}

/// The damage of a recording is reported on the restored terminal.
#[test]
fn a_damaged_recording_is_played_up_to_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.rec");
    let mut bytes = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/recorded/four-guests.rec"
    ))
    .unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&path, bytes).unwrap();
    let words = [env!("CARGO_BIN_EXE_collapse"), "live", "--from", &path.to_string_lossy()]
        .map(str::to_owned);
    let mut terminal =
        Terminal::run(&words, &[("TERM", "xterm"), ("LANG", "C.UTF-8")], SIZE).unwrap();
    terminal.wait_for("recording damaged").unwrap();
    terminal.keys("nq").unwrap();
    assert_eq!(terminal.ended().unwrap(), 116);
    terminal.restored().unwrap();
    assert!(terminal.text().contains("everything before that is used"), "{}", terminal.text());
}
