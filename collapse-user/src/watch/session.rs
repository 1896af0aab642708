//! A watched kernel: read, and followed when KVM is unloaded and loaded again.

use std::{path::Path, time::Duration};

use super::{
    attach::{Attached, Wanted, loaded_kvm},
    pipeline::Pipeline,
    ready::Readiness,
    switches::{ProbeSwitches, SwitchedOff},
};
use crate::{
    clock::monotonic_ns,
    exit::Failure,
    kernel::{Inspected, Instance},
    model::{Model, wording::duration},
    plan::{Coverage, NO_KVM},
    source::{Update, recording::RecordedCommand},
};

/// Time between readings of the ring buffer, so that it does not fill up.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// Reads attached programs into a pipeline.
pub struct Session {
    /// The running kernel.
    pub host: Inspected,
    pipeline: Pipeline,
    /// `None` while there is no KVM to attach to.
    attached: Option<Attached>,
    /// As of the programs attached last.
    coverage: Coverage,
    /// The KVM that programs are attached to, or that they could not be attached to.
    kvm: Option<Instance>,
    wanted: Wanted,
    switches: ProbeSwitches,
    /// Whether probes on functions were switched off since they were attached.
    silenced: bool,
}

impl Session {
    /// Takes the first reading.
    pub fn start(attached: Attached, pipeline: Pipeline) -> Self {
        let mut session = Self {
            host: attached.host.clone(),
            pipeline,
            coverage: attached.coverage().clone(),
            kvm: attached.kvm,
            wanted: attached.wanted.clone(),
            switches: ProbeSwitches::below(Path::new("/")),
            silenced: false,
            attached: Some(attached),
        };
        session.read(false);
        session
    }

    /// Announces that everything from the first reading on is seen.
    pub fn announce(&self, readiness: Readiness) -> Result<(), Failure> {
        readiness.announce(self.model().started.unwrap_or_default())
    }

    /// Everything known so far.
    pub fn model(&self) -> &Model {
        &self.pipeline.model
    }

    /// Keeps history for this long; `None` for as long as there is room.
    pub fn keep(&mut self, history: Option<Duration>) {
        self.pipeline.model.keep = history;
    }

    /// The signals that are seen and those that are not. While no programs are attached, which the
    /// model knows, those of before.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Empties the ring buffer, and brings the model up to date where dirty logging was switched: the
    /// cost of an episode is the change of totals between two readings.
    pub fn drain(&mut self) {
        self.follow_kvm();
        self.look_at_switches();
        if self.attached.as_mut().is_some_and(Attached::drain) {
            self.read(false);
        }
    }

    /// Brings the model up to date; with `last`, completely.
    pub fn poll(&mut self, last: bool) {
        self.follow_kvm();
        self.look_at_switches();
        self.read(last);
    }

    /// Whether the output is complete.
    pub fn is_done(&self) -> bool {
        self.pipeline.is_done()
    }

    /// Brings the model up to date for the last time, and completes the output of the window, in which
    /// this command ran, if any.
    pub fn finish(&mut self, command: Option<&RecordedCommand>) -> Result<(), Failure> {
        self.poll(true);
        self.pipeline.finish(command)
    }

    fn read(&mut self, last: bool) {
        let update = match &mut self.attached {
            Some(attached) => Update::Batch(attached.read(last)),
            None => Update::Unwatched { at: monotonic_ns() },
        };
        self.take(&update);
    }

    fn take(&mut self, update: &Update) {
        self.pipeline.take(update, &self.coverage);
    }

    /// Kprobes die with the module that they are in, silently and for good, and raw tracepoints keep
    /// it from being unloaded. So nothing stays attached without a whole KVM: its first part to go
    /// takes the last VM with it, and then the other is free to go.
    fn follow_kvm(&mut self) {
        let kvm = loaded_kvm();
        if kvm == self.kvm {
            return;
        }
        self.kvm = kvm;
        self.read(true);
        if let Some(attached) = self.attached.take() {
            attached.detach();
        }
        log::info!("KVM was unloaded: the programs are detached");
        self.take(&Update::Detached { at: monotonic_ns(), why: NO_KVM.to_owned() });
        if kvm.is_some() {
            self.reattach();
        }
    }

    /// Notices that probes on functions do not fire any more. They do again when the switch is on, but what
    /// happened meanwhile is missing, so that what they show stays unknown.
    fn look_at_switches(&mut self) {
        let Some(attached) = self.attached.as_mut().filter(|_| !self.silenced) else { return };
        let Some(off) = self.switches.off() else { return };
        self.silenced = true;
        let began = self.pipeline.model.started.unwrap_or_default();
        let into = duration(monotonic_ns().saturating_sub(began));
        let SwitchedOff { what, remedy } = off;
        let why =
            format!("{what} was switched off {into} into the window: `{remedy}`, and begin again");
        log::warn!("{why}");
        attached.silenced(&why);
        self.coverage = attached.coverage().clone();
    }

    fn reattach(&mut self) {
        match Attached::new(&self.wanted) {
            Ok(attached) => {
                self.host = attached.host.clone();
                self.coverage = attached.coverage().clone();
                self.silenced = false;
                self.attached = Some(attached);
                self.take(&Update::Attached { at: monotonic_ns() });
                self.read(false);
            }
            // What was measured before is worth the rest of the window.
            Err(failure) => {
                log::warn!("KVM was loaded again, but cannot be watched: {failure}");
                self.take(&Update::Detached { at: monotonic_ns(), why: failure.to_string() });
            }
        }
    }
}
