//! Recording, the one output that takes updates as the source delivered them.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use super::Trigger;
use crate::{
    diagnostics::note,
    exit::{Exit, Failure, OrExit as _},
    kernel::Machine,
    model::Model,
    output::{Guarded, cannot_write, is_dash},
    plan::Coverage,
    source::{
        Update,
        recording::{self, RecordedCommand, Recorder, SizeLimits},
    },
};

/// A recording that has not begun. The file is there, so that what is wrong with it shows before
/// anything is attached.
pub struct NewRecording {
    path: PathBuf,
    file: File,
    limits: SizeLimits,
    trigger: Option<Trigger>,
}

impl NewRecording {
    /// Creates the file.
    pub fn create(
        path: PathBuf,
        limits: SizeLimits,
        trigger: Option<Trigger>,
    ) -> Result<Self, Failure> {
        if is_dash(&path) {
            return Err(anyhow!("a recording is a file, not standard output: name one"))
                .or_exit(Exit::Usage);
        }
        let file = or_exit(recording::create(&path), &path)?;
        Ok(Self { path, file, limits, trigger })
    }

    /// Begins the recording, on this machine and with this coverage.
    pub fn begin(self, machine: Machine, coverage: &Coverage) -> Result<Tap, Failure> {
        let Self { path, file, limits, trigger } = self;
        let recorder = Recorder::new(file, &path, machine, coverage, limits);
        let recorder = Guarded::new(or_exit(recorder, &path)?);
        Ok(Tap { path, recorder, trigger, is_over: false })
    }
}

/// Records updates before the model takes them.
pub struct Tap {
    path: PathBuf,
    recorder: Guarded<Recorder>,
    trigger: Option<Trigger>,
    /// Whether the trigger fired and the time after it has passed.
    is_over: bool,
}

impl Tap {
    /// Records an update.
    pub fn record(&mut self, update: &Update, coverage: &Coverage) {
        if !self.is_done() {
            self.recorder.write(|recorder| recorder.update(update, coverage));
        }
    }

    /// Looks for the finding that ends the recording, once the model has taken the update.
    pub fn look(&mut self, model: &Model) {
        let Some(trigger) = &mut self.trigger else { return };
        if let Some((finding, vm)) = trigger.look(model) {
            note(format_args!("{finding} of {vm}: the recording ends soon"));
            self.recorder.write(|recorder| {
                recorder.keep_all();
                Ok(())
            });
        }
        self.is_over = trigger.is_over(model);
    }

    /// Whether the recording is complete, full or broken.
    pub fn is_done(&self) -> bool {
        self.is_over || self.recorder.has_failed() || self.recorder.get().is_full()
    }

    /// Completes the recording of a window, in which this command ran, if any.
    pub fn finish(self, command: Option<&RecordedCommand>) -> Result<(), Failure> {
        let Self { path, recorder, trigger, .. } = self;
        let is_full = recorder.get().is_full();
        or_exit(recorder.finish(|recorder| recorder.finish(command)), &path)?;
        if trigger.is_some_and(|trigger| !trigger.has_fired()) {
            log::warn!("none of the findings that --trigger names appeared");
        }
        if is_full {
            log::warn!("{} is full: the recording ends early", path.display());
        }
        Ok(())
    }
}

/// Unlike with other outputs, a reader that has gone is an error: a recording is there to be kept.
fn or_exit<T>(written: io::Result<T>, path: &Path) -> Result<T, Failure> {
    written.with_context(|| cannot_write(&path.display().to_string())).or_exit(Exit::Output)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use collapse_common::{
        Cause, Transition,
        abi::VmKey,
        counter::{COUNTERS, index},
    };

    use super::*;
    use crate::{
        plan::Mmu,
        source::{Batch, VmReading, recording::Replay},
        watch::Pipeline,
    };

    const SECOND: u64 = 1_000_000_000;

    /// A batch a second; guest faults split huge pages from the 50th on.
    fn second(at: u64) -> Update {
        let vm = VmKey { kvm: 1, born: 1 };
        let mut row = Box::new([0; COUNTERS]);
        row[index(Transition::Split, 2)] = if at < 50 { 0 } else { 100 };
        Update::Batch(Batch {
            at: at * SECOND,
            vms: vec![VmReading { vm, pages: None, process: None, fd: None }],
            rows: vec![(vm, Cause::GuestFault, row)],
            ..Batch::default()
        })
    }

    #[test]
    fn a_finding_ends_a_recording_that_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let coverage = collapse_feed::fixtures::full_coverage(Mmu::Tdp);
        let keep_last = Some(Duration::from_secs(10));
        let limits = SizeLimits { max_size: None, keep_last };
        let trigger = Trigger::new(vec!["split_by_nx".to_owned()], Duration::from_secs(7));
        let recording = NewRecording::create(path.clone(), limits, Some(trigger)).unwrap();
        let tap = recording.begin(Machine::default(), &coverage).unwrap();
        let mut pipeline = Pipeline::tapped(tap);
        let done = (1..100).find(|at| {
            pipeline.take(&second(*at), &coverage);
            pipeline.is_done()
        });
        assert_eq!(done, Some(57));
        pipeline.finish(None).unwrap();
        let mut replay = Replay::open(&path).unwrap();
        let mut times = Vec::new();
        while let Some(Update::Batch(batch)) = replay.next_update().unwrap() {
            times.push(batch.at / SECOND);
        }
        assert!(times[0] >= 29 && times[0] <= 40, "{times:?}");
        assert_eq!(times.last(), Some(&57));
    }
}
