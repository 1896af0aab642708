//! The dashboard, taken through every view with real keys and ended in every way, with the screen
//! read and the terminal looked at afterwards.

use anyhow::{Context, Result, ensure};

use crate::{Size, Terminal};

/// The dashboard to drive.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The name of a VM that it shows, which goes through episodes of dirty logging.
    pub vm: String,
    /// Whether it plays a recording.
    pub plays: bool,
}

/// Keys, and the text that must be shown then.
type Shows = [(&'static str, &'static str)];

/// A step of the tour.
type TourStep = (&'static str, fn(&Stage) -> Result<()>);

/// An action on a program.
type Act<'a> = &'a dyn Fn(&mut Terminal) -> Result<()>;

/// Every step, each with a program of its own.
pub const STEPS: [TourStep; 6] = [
    ("every view is reached and shows the VM", views),
    ("the mouse works", mouse),
    ("every size is drawn", sizes),
    ("q gives the terminal back before the hooks are gone", quit),
    ("Ctrl-C, SIGTERM and SIGHUP give the terminal back", endings),
    ("Ctrl-Z gives the terminal back, and fg takes it again", job_control),
];

const SIZE: Size = Size { columns: 120, rows: 40 };
const COLOURS: [(&str, &str); 3] =
    [("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8")];

impl Stage {
    /// Starts the dashboard and waits for the VM to be shown.
    fn open(&self) -> Result<Terminal> {
        let mut terminal = Terminal::run(&self.words, &COLOURS, SIZE)?;
        terminal.wait("the overview", |screen| {
            let text = screen.contents();
            screen.alternate_screen() && text.contains("RECOVERED") && text.contains(&self.vm)
        })?;
        Ok(terminal)
    }
}

/// Takes all steps with `filter` in their names and prints a line for each; returns the number of failures.
pub fn run(stage: &Stage, filter: &str) -> usize {
    let mut failed = 0;
    for (name, step) in STEPS.iter().filter(|(name, _)| name.contains(filter)) {
        match step(stage) {
            Ok(()) => println!("ok {name}"),
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                failed += 1;
            }
        }
    }
    failed
}

fn views(stage: &Stage) -> Result<()> {
    let mut terminal = stage.open()?;
    let shows: &Shows = &[
        ("2", "counts against KVM's gauges"),
        ("\t", "CAUSE"),
        ("\t", "OUTSTANDING"),
        ("\t", "RACED 2M/4K"),
        ("\t", "could be huge until it was"),
        ("\t", "mapped "),
        ("3", "phase by phase"),
        ("4", "cell = "),
        ("+", "gfn 0x"),
        ("l", "gfn 0x"),
        ("5", "latest events"),
        ("/dirty logging\r", "dirty logging o"),
        ("\x1b", "install "),
        ("6", " 6 Findings "),
        ("7", "coverage"),
        ("?", "help: ? closes"),
        ("?", " 7 Probes "),
        ("1", "RECOVERED"),
    ];
    let live: &Shows = &[(" ", "PAUSED"), (" ", "watched for")];
    let recorded: &Shows = &[
        (" ", "■ paused"),
        ("]]", "×4"),
        ("0", "No VM at this time"),
        ("}", "dirty logging"),
        ("n", "■ ended"),
        (" ", "▸ playing"),
        ("[[ ", "■ paused ×1 "),
    ];
    for (keys, text) in shows.iter().chain(if stage.plays { recorded } else { live }) {
        terminal.keys(keys)?;
        terminal.wait_for(text).with_context(|| format!("after {keys:?}"))?;
    }
    terminal.wait("the VM without colours lost", |screen| {
        let (rows, columns) = screen.size();
        let coloured = |row, column| {
            screen.cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        };
        (0..rows.get()).any(|row| (0..columns.get()).any(|column| coloured(row, column)))
    })?;
    terminal.keys("q")?;
    let status = terminal.ended()?;
    ensure!(status == 0, "exit status {status}");
    terminal.restored()
}

fn mouse(stage: &Stage) -> Result<()> {
    let mut terminal = stage.open()?;
    terminal.wait("mouse reports", |screen| {
        screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None
    })?;
    terminal.click("Episodes")?;
    terminal.wait_for("phase by phase")?;
    terminal.click("Overview")?;
    terminal.wait_for("RECOVERED")?;
    terminal.click("RECOVERED")?;
    terminal.wait_for("RECOVERED▼")?;
    terminal.click("? help")?;
    terminal.wait_for("help: ? closes")?;
    terminal.click("help: ? closes")?;
    terminal.wait("no help", |screen| !screen.contents().contains("help: ? closes"))?;
    terminal.click("q quit")?;
    terminal.ended()?;
    terminal.restored()
}

fn sizes(stage: &Stage) -> Result<()> {
    let mut terminal = stage.open()?;
    let sizes =
        [(80, 24, "RECOVERED"), (10, 3, "too small"), (20, 5, "lost"), (200, 60, "FAULT/s")];
    for (columns, rows, text) in sizes {
        terminal.resize(Size { columns, rows })?;
        terminal.wait_for(text).with_context(|| format!("at {columns}x{rows}"))?;
    }
    terminal.keys("q")?;
    terminal.ended()?;
    terminal.restored()
}

fn quit(stage: &Stage) -> Result<()> {
    let mut terminal = stage.open()?;
    terminal.keys("q")?;
    terminal.restored()?;
    // Detaching hooks takes the kernel a while: keys typed meanwhile are for the shell.
    terminal.keys("typed later\n")?;
    let status = terminal.ended()?;
    ensure!(status == 0, "exit status {status}");
    let unread = terminal.unread()?;
    ensure!(unread == "typed later\n", "of what was typed after q, {unread:?} is left");
    Ok(())
}

fn endings(stage: &Stage) -> Result<()> {
    let end = |how: &str, act: Act| -> Result<()> {
        let mut terminal = stage.open()?;
        act(&mut terminal)?;
        let status = terminal.ended()?;
        ensure!(status == 0, "{how}: exit status {status}");
        terminal.restored().with_context(|| how.to_owned())
    };
    end("Ctrl-C", &|terminal| terminal.keys("\x03"))?;
    end("SIGTERM", &|terminal| terminal.signal(libc::SIGTERM))?;
    end("SIGHUP", &|terminal| terminal.signal(libc::SIGHUP))
}

fn job_control(stage: &Stage) -> Result<()> {
    let mut terminal = stage.open()?;
    let ways: [Act; 2] =
        [&|terminal| terminal.keys("\x1a"), &|terminal| terminal.signal(libc::SIGTSTP)];
    for stop in ways {
        stop(&mut terminal)?;
        terminal.stopped()?;
        terminal.restored()?;
        // As a shell does for `fg`.
        terminal.signal(libc::SIGCONT)?;
        terminal.wait("the dashboard again", |screen| {
            screen.alternate_screen() && screen.contents().contains("RECOVERED")
        })?;
    }
    terminal.keys("q")?;
    terminal.ended()?;
    terminal.restored()
}
