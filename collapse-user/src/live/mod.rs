//! `collapse live`: the dashboard, of a running kernel or of a recording that is played; lines where
//! standard output is no terminal.

mod dashboard;
mod lines;
mod load;
mod play;

use std::{
    future::pending,
    io::{self, Write as _},
};

use anyhow::Context as _;
use tokio::time::{Duration, Instant};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::live_lines,
    rights::{self, StillToDo},
    settings::Settings,
    tui::{DashboardData, Heading, Reply, terminal},
    watch::{Attached, DRAIN_INTERVAL, Pipeline, Readiness, Session, Setup, runtime},
};
pub use dashboard::Dashboard;
use dashboard::{Ends, every, is_terminal};
use load::Load;
pub use play::{Beginning, play};

/// Shows a running kernel until the user ends it. `title` stands in for the machine's name.
pub fn show(
    title: Option<&str>,
    settings: &Settings,
    setup: Setup,
    readiness: Readiness,
) -> Result<Exit, Failure> {
    runtime()?.block_on(shown(title, settings, setup, readiness))
}

async fn shown(
    title: Option<&str>,
    settings: &Settings,
    setup: Setup,
    readiness: Readiness,
) -> Result<Exit, Failure> {
    let mut session = Session::start(Attached::new(&setup.into())?, Pipeline::default());
    session.keep(settings.history);
    let mut ends = Ends::new().or_exit(Exit::CannotMeasure)?;
    session.announce(readiness.silent(is_terminal()))?;
    rights::give_up_all_but(StillToDo::default());
    let mut drains = every(DRAIN_INTERVAL, Instant::now() + DRAIN_INTERVAL);
    let mut refreshes = every(settings.options.interval, Instant::now());
    // Dropped before the session is: the terminal is back before programs are detached, which takes
    // the kernel a while.
    let mut screen = Stdout::open(title, settings, &session).or_exit(Exit::Output)?;
    loop {
        let reply = tokio::select! {
            _ = refreshes.tick() => {
                session.poll(false);
                screen.measure();
                Reply::Draw
            }
            _ = drains.tick() => {
                session.drain();
                continue;
            }
            reply = screen.asked(&session) => match reply {
                Some(reply) => reply,
                None => continue,
            },
            end = ends.next() => end,
        };
        let shown = match reply {
            Reply::Quit => return Ok(Exit::Ok),
            Reply::Suspend => screen.suspend(),
            Reply::Draw | Reply::Play(_) => Ok(()),
        };
        match shown.and_then(|()| screen.show(&session)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
            shown => shown.context("cannot write standard output").or_exit(Exit::Output)?,
        }
        if let Some(interval) = screen.interval().filter(|new| *new != refreshes.period()) {
            refreshes = every(interval, Instant::now() + interval);
        }
    }
}

/// Standard output.
enum Stdout {
    /// A terminal, with the dashboard.
    Dashboard { dashboard: Box<Dashboard>, heading: Heading, load: Load },
    /// No terminal: a line per VM.
    Lines,
}

impl Stdout {
    fn open(title: Option<&str>, settings: &Settings, session: &Session) -> io::Result<Self> {
        if !is_terminal() {
            return Ok(Self::Lines);
        }
        let heading = Heading { machine: (&session.host).into(), title: title.map(str::to_owned) };
        let dashboard = Box::new(Dashboard::open(settings)?);
        Ok(Self::Dashboard { dashboard, heading, load: Load::default() })
    }

    /// Measures the CPU time that this program takes.
    fn measure(&mut self) {
        if let Self::Dashboard { dashboard, load, .. } = self
            && let Some(load) = load.measure()
        {
            dashboard.app.set_load(load);
        }
    }

    /// Waits for the user; `None` if nothing is to be done.
    async fn asked(&mut self, session: &Session) -> Option<Reply> {
        let Self::Dashboard { dashboard, heading, .. } = self else { return pending().await };
        dashboard.asked(&see(session, heading)).await
    }

    fn show(&mut self, session: &Session) -> io::Result<()> {
        match self {
            Self::Dashboard { dashboard, heading, .. } => dashboard.show(&see(session, heading)),
            Self::Lines => {
                let text = live_lines(session.model(), session.coverage());
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()
            }
        }
    }

    fn suspend(&mut self) -> io::Result<()> {
        match self {
            Self::Dashboard { dashboard, .. } => dashboard.suspend(),
            Self::Lines => terminal::stop(),
        }
    }

    /// Time between refreshes, if the user chose it.
    fn interval(&self) -> Option<Duration> {
        match self {
            Self::Dashboard { dashboard, .. } => Some(dashboard.app.interval()),
            Self::Lines => None,
        }
    }
}

fn see<'a>(session: &'a Session, heading: &'a Heading) -> DashboardData<'a> {
    DashboardData { model: session.model(), coverage: session.coverage(), heading, track: None }
}
