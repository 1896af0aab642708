//! `collapse live`: the dashboard, or lines for what is no terminal.

use std::{
    future::pending,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::Context as _;
use ratatui::crossterm::event::Event;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Duration, Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{
    LiveArgs,
    config::Settings,
    load::Load,
    session::{DRAIN_INTERVAL, Session},
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::{Report, live_lines, release},
    tui::{
        App, Facts, Live, Reply,
        terminal::{self, Input, Screen},
    },
};

pub(super) fn run(args: &LiveArgs, ebpf_log: bool) -> Result<Exit, Failure> {
    let settings = Settings::load(&args.settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::CannotMeasure)?;
    runtime.block_on(live(args, &settings, ebpf_log))
}

async fn live(args: &LiveArgs, settings: &Settings, ebpf_log: bool) -> Result<Exit, Failure> {
    let mut session = Session::start(ebpf_log)?;
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
            end = ends.next() => if end { Reply::Quit } else { Reply::Suspend },
        };
        let shown = match reply {
            Reply::Quit => return Ok(Exit::Ok),
            Reply::Suspend => output.suspend(),
            Reply::Draw => Ok(()),
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

fn every(interval: Duration, start: Instant) -> Interval {
    let mut ticks = interval_at(start, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Signals that end or stop the program.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    stop: Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// Waits for one; whether it ends the program.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
            _ = self.hangup.recv() => true,
            _ = self.stop.recv() => false,
        }
    }
}

/// Where it is shown.
enum Output {
    /// The dashboard.
    Dashboard(Box<Dashboard>),
    /// A line per VM.
    Lines,
}

struct Dashboard {
    /// Dropped first: nothing that is typed once the terminal is back is taken.
    input: Input,
    screen: Screen,
    app: App,
    facts: Facts,
    load: Load,
}

impl Output {
    fn open(args: &LiveArgs, settings: &Settings, session: &Session) -> io::Result<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Ok(Self::Lines);
        }
        let facts = Facts { kernel: release(&session.host), title: args.title.clone() };
        let screen = Screen::open(settings.mouse.0)?;
        let app = App::with(settings.theme(), settings.options.clone());
        let (input, load) = (Input::default(), Load::default());
        Ok(Self::Dashboard(Box::new(Dashboard { input, screen, app, facts, load })))
    }

    /// Looks at what all this costs.
    fn measure(&mut self) {
        if let Self::Dashboard(dashboard) = self
            && let Some(load) = dashboard.load.measure()
        {
            dashboard.app.set_load(load);
        }
    }

    /// Waits for what the user asks for; `None` if that is nothing.
    async fn asked(&mut self, session: &Session) -> Option<Reply> {
        let Self::Dashboard(dashboard) = self else { return pending().await };
        let Dashboard { app, facts, input, .. } = &mut **dashboard;
        match input.next().await {
            // The terminal is gone.
            None => Some(Reply::Quit),
            Some(Event::Key(key)) => Some(app.handle(key, &see(session, facts))),
            Some(Event::Mouse(mouse)) => app.mouse(mouse, &see(session, facts)),
            Some(_) => Some(Reply::Draw),
        }
    }

    fn show(&mut self, session: &Session) -> io::Result<()> {
        match self {
            Self::Dashboard(dashboard) => {
                let Dashboard { app, facts, screen, .. } = &mut **dashboard;
                screen.draw(|frame| {
                    let area = frame.area();
                    app.draw(frame.buffer_mut(), area, &see(session, facts));
                })
            }
            Self::Lines => {
                let report = Report::of_alive(&session.model, session.coverage(), &session.host);
                let mut out = io::stdout().lock();
                out.write_all(live_lines(&report).as_bytes())?;
                out.flush()
            }
        }
    }

    fn suspend(&mut self) -> io::Result<()> {
        match self {
            Self::Dashboard(dashboard) => dashboard.screen.suspend(),
            Self::Lines => terminal::stop(),
        }
    }

    /// Time between refreshes, if the user chose it.
    fn interval(&self) -> Option<Duration> {
        match self {
            Self::Dashboard(dashboard) => Some(dashboard.app.interval()),
            Self::Lines => None,
        }
    }
}

fn see<'a>(session: &'a Session, facts: &'a Facts) -> Live<'a> {
    Live { model: &session.model, coverage: session.coverage(), facts }
}
