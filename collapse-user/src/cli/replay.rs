//! Recordings in place of a running kernel.

use std::path::Path;

use anyhow::Context as _;

use super::session::Sink;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    model::Model,
    plan::Coverage,
    source::recording::{Command, RecordingError, Replay},
};

/// What came of a recording.
pub(super) struct Replayed {
    /// `uname -r`.
    pub kernel: String,
    /// What it adds up to.
    pub model: Model,
    /// What was seen and what was not.
    pub coverage: Coverage,
    /// The command that was run.
    pub command: Option<Command>,
    /// How to end: a recording that is damaged was read up to there.
    pub exit: Exit,
}

/// Opens a recording.
pub(super) fn open(path: &Path) -> Result<Replay, Failure> {
    Replay::open(path).with_context(|| cannot_read(path)).or_exit(Exit::Recording)
}

/// Reads a recording to its end. One that is cut short or damaged is read up to there: a loss, and a
/// line on stderr.
pub(super) fn replay(path: &Path, sink: &mut dyn Sink) -> Result<Replayed, Failure> {
    let mut replay = open(path)?;
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
    let (kernel, coverage) = (replay.header().kernel.clone(), replay.coverage().clone());
    Ok(Replayed { kernel, model, coverage, command, exit })
}

/// Tells of a recording that is cut short or damaged; how to end then.
pub(super) fn ends_early(path: &Path, error: &RecordingError) -> Exit {
    eprintln!("collapse: {}: {error}; what is before that is used", path.display());
    match error {
        RecordingError::Damaged { .. } => Exit::Recording,
        _ => Exit::Ok,
    }
}

pub(super) fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
