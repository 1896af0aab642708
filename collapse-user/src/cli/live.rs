//! `collapse live`: a table that is refreshed.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    LiveArgs,
    output::Output,
    session::{DRAIN_INTERVAL, Session},
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::{Report, live_lines, live_table},
};

pub(super) fn run(args: &LiveArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::CannotMeasure)?;
    runtime.block_on(live(args, ebpf_log))
}

async fn live(args: &LiveArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let mut session = Session::start(ebpf_log)?;
    let mut interrupt = signal(SignalKind::interrupt()).or_exit(Exit::CannotMeasure)?;
    let mut terminate = signal(SignalKind::terminate()).or_exit(Exit::CannotMeasure)?;
    let mut drains = interval_at(Instant::now() + DRAIN_INTERVAL, DRAIN_INTERVAL);
    let mut refreshes = interval_at(Instant::now(), args.interval);
    for ticks in [&mut drains, &mut refreshes] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut screen = Screen::open().or_exit(Exit::Output)?;
    let mut before = None;
    loop {
        tokio::select! {
            _ = refreshes.tick() => {
                session.poll(false);
                let now = Report::of_alive(&session.model, session.coverage(), &session.host);
                let shown = screen.show(args.title.as_deref(), before.as_ref(), &now);
                match shown {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
                    shown => shown.context("cannot write standard output").or_exit(Exit::Output)?,
                }
                before = Some(now);
            }
            _ = drains.tick() => session.drain(),
            _ = interrupt.recv() => return Ok(Exit::Ok),
            _ = terminate.recv() => return Ok(Exit::Ok),
        }
    }
}

/// The terminal, given back as it was; or a pipe, which gets a line per VM.
struct Screen {
    terminal: bool,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        if terminal {
            // Alternate screen, cursor hidden. The terminal stays in its own mode, so that nothing
            // is left behind but these two if the process is killed.
            io::stdout().write_all(b"\x1b[?1049h\x1b[?25l")?;
        }
        Ok(Self { terminal })
    }

    fn show(
        &mut self,
        title: Option<&str>,
        before: Option<&Report>,
        now: &Report,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.terminal {
            out.write_all(live_lines(now).as_bytes())?;
            return out.flush();
        }
        let (columns, rows) = size();
        let style = Output::Stdout.style();
        let table = live_table(title, before, now, columns, rows, style);
        out.write_all(format!("\x1b[H{}\x1b[J", table.join("\x1b[K\r\n")).as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            let mut out = io::stdout().lock();
            let _ = out.write_all(b"\x1b[?25h\x1b[?1049l");
            let _ = out.flush();
        }
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a live value of the type that this request fills.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    if known && size.ws_col > 0 && size.ws_row > 0 {
        (size.ws_col.into(), size.ws_row.into())
    } else {
        (80, 24)
    }
}
