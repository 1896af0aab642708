//! Recordings in place of a running kernel.

use std::{
    borrow::Cow,
    io::{self, BufReader},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::Context as _;

use super::session::Sink;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::Machine,
    model::Model,
    output::is_dash,
    plan::Coverage,
    source::recording::{Command, RecordingError, Replay},
};

/// What came of a recording.
pub(crate) struct Replayed {
    /// Where it was recorded.
    pub machine: Machine,
    /// What it adds up to.
    pub model: Model,
    /// What was seen and what was not.
    pub coverage: Coverage,
    /// The command that was run.
    pub command: Option<Command>,
    /// How to end: a recording that is damaged was read up to there.
    pub exit: Exit,
}

/// Opens a recording; `-` is standard input.
pub(crate) fn open(path: &Path) -> Result<Replay, Failure> {
    let replay = if is_dash(path) {
        // The descriptor as it is: what is behind it may be another user's to open.
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        stdin.map_err(RecordingError::from).and_then(|fd| Replay::new(BufReader::new(fd.into())))
    } else {
        Replay::open(path)
    };
    replay.with_context(|| cannot_read(path)).or_exit(Exit::Recording)
}

/// Reads a recording, opened at `path`, to its end. One that is cut short or damaged is read up to
/// there: a loss, and a line on stderr.
pub(crate) fn replay(
    mut replay: Replay,
    path: &Path,
    sink: &mut dyn Sink,
) -> Result<Replayed, Failure> {
    let mut model = Model::default();
    let mut exit = Exit::Ok;
    while !sink.is_done() {
        match replay.next_update() {
            Ok(Some(update)) => sink.update(update, replay.coverage(), &mut model),
            Ok(None) => break,
            Err(error @ (RecordingError::Cut(_) | RecordingError::Damaged { .. })) => {
                exit = ends_early(path, &error);
                model.losses.insert("recording_ends_early", 1);
                break;
            }
            Err(error) => return Err(error).context(cannot_read(path)).or_exit(Exit::Recording),
        }
    }
    let command = replay.end().and_then(|end| end.command.clone());
    sink.finish(command.as_ref(), &model)?;
    let (machine, coverage) = (replay.machine().clone(), replay.coverage().clone());
    Ok(Replayed { machine, model, coverage, command, exit })
}

/// Tells of a recording that is cut short or damaged; how to end then.
pub(crate) fn ends_early(path: &Path, error: &RecordingError) -> Exit {
    eprintln!("collapse: {}: {error}; what is before that is used", name(path));
    match error {
        RecordingError::Damaged { .. } => Exit::Recording,
        _ => Exit::Ok,
    }
}

pub(crate) fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", name(path))
}

fn name(path: &Path) -> Cow<'_, str> {
    if is_dash(path) { "standard input".into() } else { path.to_string_lossy() }
}
