//! A recording that is played.

use std::{io, path::Path};

use anyhow::{Context as _, anyhow};
use tokio::time::{Duration, Instant};

use super::{
    dashboard::{Dashboard, Ends, every, is_terminal},
    lines::Lines,
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    output::is_dash,
    player::{Order, Player},
    settings::Settings,
    tui::{DashboardData, Heading, Reply},
    watch::{
        Pipeline,
        replay::{self, cannot_read},
        runtime,
    },
};

/// Time between frames while it plays.
const FRAME: Duration = Duration::from_millis(100);

/// Events that are read before the user is heard again: some milliseconds' worth.
const SLICE: usize = 20_000;

/// Where playing begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beginning {
    /// Time since the beginning of the recording.
    pub at: Duration,
    /// Whether it is paused there.
    pub paused: bool,
}

/// Plays a recording in the dashboard; prints all of it where standard output is no terminal. `title`
/// stands in for the file's name.
pub fn play(
    path: &Path,
    title: Option<&str>,
    beginning: Beginning,
    settings: &Settings,
) -> Result<Exit, Failure> {
    if !is_terminal() {
        let recording = replay::open(path)?;
        let lines = Lines::new(settings.options.interval);
        let pipeline = Pipeline::observed("standard output".to_owned(), lines);
        return Ok(replay::replay(recording, path, pipeline)?.exit);
    }
    // The player reads the file again to go back, and stdin is for keys.
    if path.metadata().is_ok_and(|file| !file.is_file()) || is_dash(path) {
        let why = anyhow!("{}: only a file can be played: save it to one first", path.display());
        return Err(why).or_exit(Exit::Usage);
    }
    let mut player =
        Player::open(path).with_context(|| cannot_read(path)).or_exit(Exit::Recording)?;
    player.keep(settings.history);
    begin(&mut player, beginning).with_context(|| cannot_read(path)).or_exit(Exit::Recording)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let heading = Heading {
        machine: player.machine().clone(),
        title: Some(title.map_or_else(|| name.into_owned(), str::to_owned)),
    };
    runtime()?.block_on(played(settings, &mut player, &heading, path))?;
    Ok(player.contents().early.as_ref().map_or(Exit::Ok, |error| replay::ends_early(path, error)))
}

fn begin(player: &mut Player, Beginning { at, paused }: Beginning) -> anyhow::Result<()> {
    player.perform(Order::To(at.as_nanos().try_into().unwrap_or(u64::MAX)))?;
    if paused {
        player.perform(Order::Toggle)?;
    }
    Ok(())
}

async fn played(
    settings: &Settings,
    player: &mut Player,
    heading: &Heading,
    path: &Path,
) -> Result<(), Failure> {
    let mut ends = Ends::new().or_exit(Exit::CannotMeasure)?;
    let mut frames = every(FRAME, Instant::now());
    let mut dashboard = Dashboard::open(settings).or_exit(Exit::Output)?;
    let (mut now, mut drawn) = (Instant::now(), None);
    loop {
        let live = see(player, heading);
        let reply = tokio::select! {
            // The user comes before reading on.
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
        done.with_context(|| cannot_read(path)).or_exit(Exit::Recording)?;
        // On the way to a time, frames are no more frequent than while it plays.
        if player.is_behind() && drawn.is_some_and(|at: Instant| at.elapsed() < FRAME) {
            continue;
        }
        drawn = Some(Instant::now());
        match shown.and_then(|()| dashboard.show(&see(player, heading))) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown.context("cannot write standard output").or_exit(Exit::Output)?,
        }
    }
}

fn see<'a>(player: &'a Player, heading: &'a Heading) -> DashboardData<'a> {
    DashboardData {
        model: player.model(),
        coverage: player.coverage(),
        heading,
        track: Some(player.track()),
    }
}
