//! The terminal with the dashboard, and the signals that end or stop it.

use std::io::{self, IsTerminal as _};

use log::Level;
use ratatui::crossterm::event::Event;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Duration, Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    diagnostics::Held,
    settings::Settings,
    tui::{
        App, DashboardData, Reply,
        terminal::{Input, Screen},
    },
};

/// Whether the dashboard can be shown.
pub fn is_terminal() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !dumb && io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Ticks from `start` on; those missed are skipped.
pub fn every(interval: Duration, start: Instant) -> Interval {
    let mut ticks = interval_at(start, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Signals that end or stop the program.
pub struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    stop: Signal,
}

impl Ends {
    /// Catches them from now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// Waits for one; returns the reply that it stands for.
    pub async fn next(&mut self) -> Reply {
        tokio::select! {
            _ = self.interrupt.recv() => Reply::Quit,
            _ = self.terminate.recv() => Reply::Quit,
            _ = self.hangup.recv() => Reply::Quit,
            _ = self.stop.recv() => Reply::Suspend,
        }
    }
}

/// The dashboard on the terminal. Dropped in this order: nothing typed once the terminal is back is
/// read, and lines for stderr come once it is back.
pub struct Dashboard {
    input: Input,
    screen: Screen,
    held: Held,
    /// The state of views.
    pub app: App,
}

impl Dashboard {
    /// Takes the terminal.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let held = Held::begin();
        let screen = Screen::open(settings.mouse.0)?;
        let app = App::with(settings.theme(), settings.options.clone());
        Ok(Self { input: Input::default(), screen, held, app })
    }

    /// Waits for the user; `None` if nothing is to be done.
    pub async fn asked(&mut self, live: &DashboardData<'_>) -> Option<Reply> {
        match self.input.next().await {
            // The terminal is gone.
            None => Some(Reply::Quit),
            Some(Event::Key(key)) => Some(self.app.handle(key, live)),
            Some(Event::Mouse(mouse)) => self.app.mouse(mouse, live),
            Some(_) => Some(Reply::Draw),
        }
    }

    /// Draws a frame, with the warnings so far.
    pub fn show(&mut self, live: &DashboardData) -> io::Result<()> {
        let Self { app, screen, held, .. } = self;
        for warning in held.warnings() {
            app.notices().push(Level::Warn, &warning);
        }
        screen.draw(|frame| {
            let area = frame.area();
            app.draw(frame.buffer_mut(), area, live);
        })
    }

    /// Gives the terminal back until the program goes on.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.screen.suspend()
    }
}
