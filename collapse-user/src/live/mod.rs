//! `collapse live`: the dashboard, or lines for what is no terminal.

mod dashboard;
mod load;
mod play;

use std::{
    future::pending,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    runtime::Runtime,
    time::{Duration, Instant},
};

use crate::{
    cli::{Setup, parse_duration},
    exit::{Exit, Failure, OrExit as _},
    report::{Report, live_lines},
    settings::{self, Settings},
    tui::{Facts, Live, Reply, terminal},
    watch::session::{DRAIN_INTERVAL, Session},
};
use dashboard::{Dashboard, Ends, every, is_terminal};
use load::Load;

#[derive(Debug, Default, Args)]
pub(crate) struct LiveArgs {
    #[command(flatten)]
    settings: settings::Flags,
    /// Text for the first line, such as the name of the machine.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Play a recording instead: space plays and pauses, ? lists the keys. Needs neither root nor KVM.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Begin so far into the recording, such as 90s.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "from")]
    at: Option<Duration>,
    /// Do not play the recording until told to.
    #[arg(long, requires = "from")]
    paused: bool,
}

impl LiveArgs {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        let Self { settings, title, from, at: _, paused: _ } = self;
        settings.is_empty() && title.is_none() && from.is_none()
    }
}

pub(crate) fn run(args: &LiveArgs, setup: Setup) -> Result<Exit, Failure> {
    let settings = Settings::load(&args.settings)?;
    match &args.from {
        Some(path) => play::run(args, &settings, path),
        None => runtime()?.block_on(live(args, &settings, setup)),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().or_exit(Exit::CannotMeasure)
}

async fn live(args: &LiveArgs, settings: &Settings, setup: Setup) -> Result<Exit, Failure> {
    let mut session = Session::start(setup)?;
    session.model.keep = settings.history;
    let mut ends = Ends::new().or_exit(Exit::CannotMeasure)?;
    let mut drains = every(DRAIN_INTERVAL, Instant::now() + DRAIN_INTERVAL);
    let mut refreshes = every(settings.options.interval, Instant::now());
    // Dropped before the session is: the terminal is back before programs are detached, which takes
    // the kernel a while.
    let mut output = Output::open(args, settings, &session).or_exit(Exit::Output)?;
    loop {
        let reply = tokio::select! {
            _ = refreshes.tick() => {
                session.poll(false);
                output.measure();
                Reply::Draw
            }
            _ = drains.tick() => {
                session.drain();
                continue;
            }
            reply = output.asked(&session) => match reply {
                Some(reply) => reply,
                None => continue,
            },
            end = ends.next() => end,
        };
        let shown = match reply {
            Reply::Quit => return Ok(Exit::Ok),
            Reply::Suspend => output.suspend(),
            Reply::Draw | Reply::Play(_) => Ok(()),
        };
        match shown.and_then(|()| output.show(&session)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
            shown => shown.context("cannot write standard output").or_exit(Exit::Output)?,
        }
        if let Some(interval) = output.interval().filter(|new| *new != refreshes.period()) {
            refreshes = every(interval, Instant::now() + interval);
        }
    }
}

/// Where it is shown.
enum Output {
    /// The dashboard.
    Dashboard { dashboard: Box<Dashboard>, facts: Facts, load: Load },
    /// A line per VM.
    Lines,
}

impl Output {
    fn open(args: &LiveArgs, settings: &Settings, session: &Session) -> io::Result<Self> {
        if !is_terminal() {
            return Ok(Self::Lines);
        }
        let facts = Facts { machine: (&session.host).into(), title: args.title.clone() };
        let dashboard = Box::new(Dashboard::open(settings)?);
        Ok(Self::Dashboard { dashboard, facts, load: Load::default() })
    }

    /// Looks at what all this costs.
    fn measure(&mut self) {
        if let Self::Dashboard { dashboard, load, .. } = self
            && let Some(load) = load.measure()
        {
            dashboard.app.set_load(load);
        }
    }

    /// Waits for what the user asks for; `None` if that is nothing.
    async fn asked(&mut self, session: &Session) -> Option<Reply> {
        let Self::Dashboard { dashboard, facts, .. } = self else { return pending().await };
        dashboard.asked(&see(session, facts)).await
    }

    fn show(&mut self, session: &Session) -> io::Result<()> {
        match self {
            Self::Dashboard { dashboard, facts, .. } => dashboard.show(&see(session, facts)),
            Self::Lines => {
                let machine = (&session.host).into();
                let report = Report::of_alive(&session.model, session.coverage(), machine);
                let mut out = io::stdout().lock();
                out.write_all(live_lines(&report).as_bytes())?;
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

fn see<'a>(session: &'a Session, facts: &'a Facts) -> Live<'a> {
    Live { model: &session.model, coverage: session.coverage(), facts, track: None }
}
