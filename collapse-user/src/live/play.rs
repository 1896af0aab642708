//! `collapse live --from RECORDING`

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, anyhow};
use tokio::time::{Duration, Instant};

use super::{
    LiveArgs,
    dashboard::{Dashboard, Ends, every, is_terminal},
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::Machine,
    model::Model,
    output::is_dash,
    plan::Coverage,
    player::{Order, Player},
    report::{Report, live_lines},
    settings::Settings,
    source::{Update, recording::Command},
    tui::{Facts, Live, Reply},
    watch::{replay, session::Sink},
};

/// Time between frames while it plays.
const FRAME: Duration = Duration::from_millis(100);

/// Events that are read between looks at what the user wants: some milliseconds.
const SLICE: usize = 20_000;

pub fn run(args: &LiveArgs, settings: &Settings, path: &Path) -> Result<Exit, Failure> {
    if !is_terminal() {
        let recording = replay::open(path)?;
        let (machine, interval) = (recording.machine().clone(), settings.options.interval);
        let mut lines = Lines { machine, interval, ..Lines::default() };
        return Ok(replay::replay(recording, path, &mut lines)?.exit);
    }
    // Which is read again from the beginning, while stdin is for keys.
    if path.metadata().is_ok_and(|file| !file.is_file()) || is_dash(path) {
        let why = anyhow!("{}: only a file can be played: keep it in one first", path.display());
        return Err(why).or_exit(Exit::Usage);
    }
    let mut player =
        Player::open(path).with_context(|| replay::cannot_read(path)).or_exit(Exit::Recording)?;
    player.keep(settings.history);
    let begin = args.at.unwrap_or_default();
    let orders = [Order::To(begin.as_nanos().try_into().unwrap_or(u64::MAX)), Order::Toggle];
    for order in orders.into_iter().take(1 + usize::from(args.paused)) {
        player
            .perform(order)
            .with_context(|| replay::cannot_read(path))
            .or_exit(Exit::Recording)?;
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let facts = Facts {
        machine: player.machine().clone(),
        title: Some(args.title.clone().unwrap_or_else(|| name.into_owned())),
    };
    super::runtime()?.block_on(play(settings, &mut player, &facts, path))?;
    Ok(player.contents().early.as_ref().map_or(Exit::Ok, |error| replay::ends_early(path, error)))
}

async fn play(
    settings: &Settings,
    player: &mut Player,
    facts: &Facts,
    path: &Path,
) -> Result<(), Failure> {
    let mut ends = Ends::new().or_exit(Exit::CannotMeasure)?;
    let mut frames = every(FRAME, Instant::now());
    let mut dashboard = Dashboard::open(settings).or_exit(Exit::Output)?;
    let (mut now, mut drawn) = (Instant::now(), None);
    loop {
        let live = see(player, facts);
        let reply = tokio::select! {
            // What the user wants goes before reading on.
            biased;
            end = ends.next() => Some(end),
            reply = dashboard.asked(&live) => reply,
            _ = frames.tick(), if player.is_playing() || player.is_behind() => Some(Reply::Draw),
            // Lets signals and keys come in.
            () = tokio::task::yield_now(), if player.is_behind() => None,
        };
        let then = std::mem::replace(&mut now, Instant::now());
        player.advance(now.duration_since(then));
        let mut done = player.catch_up(SLICE);
        let shown = match reply {
            Some(Reply::Quit) => return Ok(()),
            Some(Reply::Suspend) => {
                let suspended = dashboard.suspend();
                // Time stood still.
                now = Instant::now();
                suspended
            }
            Some(Reply::Play(order)) => {
                done =
                    done.and_then(|()| player.perform(order)).and_then(|()| player.catch_up(SLICE));
                Ok(())
            }
            Some(Reply::Draw) | None => Ok(()),
        };
        done.with_context(|| replay::cannot_read(path)).or_exit(Exit::Recording)?;
        // What is half way there is shown no more often than what plays.
        if player.is_behind() && drawn.is_some_and(|at: Instant| at.elapsed() < FRAME) {
            continue;
        }
        drawn = Some(Instant::now());
        match shown.and_then(|()| dashboard.show(&see(player, facts))) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown.context("cannot write standard output").or_exit(Exit::Output)?,
        }
    }
}

fn see<'a>(player: &'a Player, facts: &'a Facts) -> Live<'a> {
    Live { model: player.model(), coverage: player.coverage(), facts, track: Some(player.track()) }
}

/// For what is no terminal: a line per VM at every interval of the recording's time, and at its end.
#[derive(Default)]
struct Lines {
    machine: Machine,
    interval: Duration,
    /// When lines are due next, `CLOCK_MONOTONIC` ns; `None` before the first.
    due: Option<u64>,
    /// What the latest reading says, if it is not written.
    latest: Option<String>,
    failed: Option<io::Error>,
}

impl Lines {
    fn write(&mut self) {
        if let (Some(text), None) = (self.latest.take(), &self.failed) {
            self.failed = io::stdout().lock().write_all(text.as_bytes()).err();
        }
    }
}

impl Sink for Lines {
    fn update(&mut self, update: Update, coverage: &Coverage, model: &mut Model) {
        model.update(update);
        // Of one VM that goes, the reading before tells last.
        let report = Report::of_alive(model, coverage, self.machine.clone());
        let text = live_lines(&report);
        if !text.is_empty() {
            self.latest = Some(text);
        }
        if self.due.is_none_or(|due| model.now >= due) {
            self.due = Some(model.now.saturating_add(self.interval.as_nanos() as u64));
            self.write();
        }
    }

    fn is_done(&self) -> bool {
        self.failed.is_some()
    }

    fn finish(&mut self, _: Option<&Command>, _: &Model) -> Result<(), Failure> {
        self.write();
        match self.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write standard output").or_exit(Exit::Output)
            }
            _ => io::stdout().flush().or_exit(Exit::Output),
        }
    }
}
