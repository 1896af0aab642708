//! Recordings in place of a running kernel.

use std::{
    borrow::Cow,
    io::{self, BufReader},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::Context as _;

use super::{Part, Pipeline};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::Machine,
    model::Model,
    output::is_dash,
    plan::Coverage,
    source::recording::{RecordedCommand, RecordingError, Replay},
};

/// A recording that was read.
pub struct Replayed {
    /// The machine that it was made on.
    pub machine: Machine,
    /// Everything known at the end.
    pub model: Model,
    /// The signals that were seen and those that were not.
    pub coverage: Coverage,
    /// The command that was run.
    pub command: Option<RecordedCommand>,
    /// How to end: [`Exit::Recording`] if it is damaged and was read up to there.
    pub exit: Exit,
}

/// Opens a recording; `-` is standard input.
pub fn open(path: &Path) -> Result<Replay, Failure> {
    let replay = if is_dash(path) {
        // The descriptor as it is: another user's file behind it could not be opened again.
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        stdin.map_err(RecordingError::from).and_then(|fd| Replay::new(BufReader::new(fd.into())))
    } else {
        Replay::open(path)
    };
    replay.with_context(|| cannot_read(path)).or_exit(Exit::Recording)
}

/// Reads a recording, opened at `path`, as [`replay_part`] does, from beginning to end.
pub fn replay(recording: Replay, path: &Path, pipeline: Pipeline) -> Result<Replayed, Failure> {
    replay_part(recording, path, pipeline, &Part::default())
}

/// Reads a part of a recording, opened at `path`. If it is cut short or damaged it is read up to
/// there, which counts as a loss and is reported.
pub fn replay_part(
    mut replay: Replay,
    path: &Path,
    mut pipeline: Pipeline,
    part: &Part,
) -> Result<Replayed, Failure> {
    let mut exit = Exit::Ok;
    let mut excerpt = None;
    while !pipeline.is_done() {
        match replay.next_update() {
            Ok(Some(update)) => {
                let clocks = replay.header().clocks;
                let excerpt = excerpt.get_or_insert_with(|| part.excerpt(clocks, update.at()));
                if excerpt.is_before(&update) {
                    break;
                }
                for update in excerpt.take(update) {
                    pipeline.take(&update, replay.coverage());
                }
            }
            Ok(None) => break,
            Err(error @ (RecordingError::Cut(_) | RecordingError::Damaged { .. })) => {
                exit = ends_early(path, &error);
                pipeline.model.losses.insert("recording_ends_early", 1);
                break;
            }
            Err(error) => return Err(error).context(cannot_read(path)).or_exit(Exit::Recording),
        }
    }
    let command = replay.end().and_then(|end| end.command.clone());
    pipeline.finish(command.as_ref())?;
    let (machine, coverage) = (replay.machine().clone(), replay.coverage().clone());
    Ok(Replayed { machine, model: pipeline.model, coverage, command, exit })
}

/// Reports that a recording is cut short or damaged; returns how to end then.
pub fn ends_early(path: &Path, error: &RecordingError) -> Exit {
    log::warn!("{}: {error}; everything before that is used", name(path));
    match error {
        RecordingError::Damaged { .. } => Exit::Recording,
        _ => Exit::Ok,
    }
}

/// The message for a recording that cannot be read.
pub fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", name(path))
}

fn name(path: &Path) -> Cow<'_, str> {
    if is_dash(path) { "standard input".into() } else { path.to_string_lossy() }
}
