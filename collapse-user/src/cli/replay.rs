//! Recordings in place of a running kernel.

use std::path::Path;

use anyhow::Context as _;

use super::session::Sink;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    model::Model,
    plan::Coverage,
    source::{
        Batch,
        recording::{Command, RecordingError, Replay},
    },
};

/// What came of a recording.
pub struct Replayed {
    /// `uname -r`.
    pub kernel: String,
    /// What the batches add up to.
    pub model: Model,
    /// What was seen and what was not.
    pub coverage: Coverage,
    /// The command that was run.
    pub command: Option<Command>,
}

/// No sink: batches go to the model.
impl Sink for () {
    fn batch(&mut self, batch: Batch, _: &Coverage, model: &mut Model) {
        model.apply(batch);
    }

    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: Option<Command>) -> Result<(), Failure> {
        Ok(())
    }
}

/// Opens a recording.
pub fn open(path: &Path) -> Result<Replay, Failure> {
    let context = || format!("cannot read {}", path.display());
    Replay::open(path).with_context(context).or_exit(Exit::CannotMeasure)
}

/// Reads a recording to its end. One that is cut short or damaged is read up to there, with a line on
/// stderr.
pub fn replay(path: &Path, sink: &mut dyn Sink) -> Result<Replayed, Failure> {
    let mut replay = open(path)?;
    let mut model = Model::default();
    while !sink.is_done() {
        match replay.next_batch() {
            Ok(Some(batch)) => sink.batch(batch, replay.coverage(), &mut model),
            Ok(None) => break,
            Err(error @ (RecordingError::Cut(_) | RecordingError::Damaged { .. })) => {
                eprintln!("collapse: {}: {error}; what is before that is used", path.display());
                break;
            }
            Err(error) => {
                let context = format!("cannot read {}", path.display());
                return Err(error).context(context).or_exit(Exit::CannotMeasure);
            }
        }
    }
    let command = replay.end().and_then(|end| end.command.clone());
    sink.finish(command.clone())?;
    let (kernel, coverage) = (replay.header().kernel.clone(), replay.coverage().clone());
    Ok(Replayed { kernel, model, coverage, command })
}
