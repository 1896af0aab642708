//! The time that is watched: until a command ends, the time is up or a signal comes.

use std::{
    ffi::OsString,
    io,
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    ready::Readiness,
    runtime::runtime,
    session::{DRAIN_INTERVAL, Session},
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    rights::{self, StillToDo},
    source::recording,
};

/// Drains between two readings of everything, which bounds how much is held in between. They are
/// frequent at first, so that plots of short windows are fine.
const fn drains_per_poll(drains: u32) -> u32 {
    if drains < 600 { 2 } else { 10 }
}

/// The end of a window: that of the command, if one is given; else of the time, or a signal.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Length; `None` until a signal. Without effect where a command is given.
    pub duration: Option<Duration>,
    /// The command and its arguments; empty for none.
    pub command: &'a [OsString],
    /// Whether the command keeps stdout; else it writes to our stderr there.
    pub keeps_stdout: bool,
    /// Whether files are replaced later; those that are written are open.
    pub replaces_files: bool,
}

impl Window<'_> {
    /// Watches from the first reading to the last; ends as the command did, if one is given.
    pub fn run(&self, session: &mut Session, readiness: Readiness) -> Result<Exit, Failure> {
        let command = self.watch(session, readiness)?;
        let finished = session.finish(command.as_ref());
        ended_as(command.as_ref()).or_else(finished.map(|()| Exit::Ok))
    }

    /// Watches until the window ends; returns how the command ended, if one is given.
    pub fn watch(
        &self,
        session: &mut Session,
        readiness: Readiness,
    ) -> Result<Option<recording::RecordedCommand>, Failure> {
        runtime()?.block_on(self.watched(session, readiness))
    }

    async fn watched(
        &self,
        session: &mut Session,
        readiness: Readiness,
    ) -> Result<Option<recording::RecordedCommand>, Failure> {
        let mut signals = Signals::new().or_exit(Exit::CannotMeasure)?;
        // Whoever waits for it may end the window at once.
        session.announce(readiness)?;
        let mut work = StillToDo { replace_files: self.replaces_files, ..StillToDo::default() };
        if self.command.is_empty() {
            rights::give_up_all_but(work);
            wait(session, &mut signals, self.duration, None).await?;
            return Ok(None);
        }
        let mut child = spawn(self.command, self.keeps_stdout)?;
        work.signal_command = true;
        rights::give_up_all_but(work);
        let status = wait(session, &mut signals, None, Some(&mut child)).await?;
        Ok(Some(recording::RecordedCommand {
            argv: self.command.iter().map(printable).collect(),
            status: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
        }))
    }
}

/// Waits until the time is up or a signal comes, while nothing is watched.
pub fn until_ended(duration: Option<Duration>) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let mut signals = Signals::new().or_exit(Exit::CannotMeasure)?;
        let end = duration.and_then(|duration| Instant::now().checked_add(duration));
        tokio::select! {
            () = sleep_until(end) => {}
            _ = signals.interrupt.recv() => {}
            _ = signals.terminate.recv() => {}
        }
        Ok(())
    })
}

/// The exit of a window with this command; success without one.
pub fn ended_as(command: Option<&recording::RecordedCommand>) -> Exit {
    command.map_or(Exit::Ok, |command| Exit::of_command(command.status, command.signal))
}

/// Signals that end the window, or are passed on to the command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Reads until the window ends: by time, by the command's end, or by a signal. A command gets the
/// signal instead (Ctrl-C at a terminal reaches it by itself), and the window ends when it does.
async fn wait(
    session: &mut Session,
    signals: &mut Signals,
    duration: Option<Duration>,
    mut child: Option<&mut Child>,
) -> Result<Option<ExitStatus>, Failure> {
    let mut ticks = interval_at(Instant::now() + DRAIN_INTERVAL, DRAIN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = duration.and_then(|duration| Instant::now().checked_add(duration));
    let mut drains = 0;
    loop {
        let pid = child.as_ref().and_then(|child| child.id());
        tokio::select! {
            _ = ticks.tick() => {
                drains += 1;
                if drains % drains_per_poll(drains) == 0 {
                    session.poll(false);
                } else {
                    session.drain();
                }
                if child.is_none() && session.is_done() {
                    return Ok(None);
                }
            }
            () = sleep_until(end) => return Ok(None),
            status = ended(child.as_deref_mut()) => {
                return status.map(Some).context("cannot wait for the command").or_exit(Exit::CannotMeasure);
            }
            _ = signals.interrupt.recv() => match pid {
                None => return Ok(None),
                // A terminal sends Ctrl-C to the whole foreground group; sending it once more
                // would be a second Ctrl-C to the command.
                Some(_) if io::IsTerminal::is_terminal(&io::stdin()) => {}
                Some(pid) => forward(pid, libc::SIGINT),
            },
            _ = signals.terminate.recv() => match pid {
                None => return Ok(None),
                Some(pid) => forward(pid, libc::SIGTERM),
            },
        }
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn ended(child: Option<&mut Child>) -> io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

fn forward(pid: u32, signal: i32) {
    // SAFETY: plain system call; the child has not been waited for, so the pid is still the child's.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

fn spawn(argv: &[OsString], keeps_stdout: bool) -> Result<Child, Failure> {
    let program = &argv[0];
    let mut command = Command::new(program);
    command.args(&argv[1..]);
    if !keeps_stdout {
        let stderr = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned();
        command.stdout(stderr.map_or_else(|_| Stdio::null(), Stdio::from));
    }
    command.spawn().map_err(|error| Failure {
        exit: match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::NotExecutable,
        },
        error: anyhow::Error::new(error).context(format!("cannot run {}", printable(program))),
    })
}

fn printable(text: &OsString) -> String {
    crate::identity::printable(text.as_bytes())
}
