//! Making evidence.

use collapse_common::Cause;
use collapse_feed::Signal;

use super::{Case, Confidence, Evidence, Measure, Unit};
use crate::{TimedFaults, wording::duration};

impl Evidence {
    /// What was seen to happen.
    pub(super) fn certain(sentence: String) -> Self {
        let confidence = Confidence::Certain;
        Self { sentence, numbers: Vec::new(), confidence, cost: None, since: None }
    }

    /// What follows from numbers that could have another reason.
    pub(super) fn likely(sentence: String) -> Self {
        Self { confidence: Confidence::Likely, ..Self::certain(sentence) }
    }

    /// Adds to the sentence.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.sentence.push_str("; ");
        self.sentence.push_str(more);
        self
    }

    /// Adds a number.
    pub(super) fn with(mut self, name: &'static str, value: u64, unit: Unit) -> Self {
        self.numbers.push(Measure { name, value, unit });
        self
    }

    /// Sets the time since when it holds, ns.
    pub(super) fn since(self, since: u64) -> Self {
        Self { since: Some(since), ..self }
    }

    /// Says how much vCPU time all guest faults took, ns, if that is known: it cost the guest no more.
    pub(super) fn costing_at_most_all_faults(mut self, case: &Case) -> Self {
        if let Some(ns) = case.stall().filter(|ns| *ns > 0) {
            self.sentence.push_str("; all guest faults together took ");
            self.sentence.push_str(&duration(ns));
            self.sentence.push_str(" of vCPU time");
            self.numbers.push(Measure { name: "stall_at_most", value: ns, unit: Unit::Ns });
        }
        self
    }

    /// Adds the vCPU time that it cost the guest, ns, if that is known.
    pub(super) fn costing(mut self, cost: Option<u64>) -> Self {
        if let Some(ns) = cost.filter(|ns| *ns > 0) {
            self.sentence.push_str("; it cost ");
            self.sentence.push_str(&duration(ns));
            self.sentence.push_str(" of vCPU time in faults");
        }
        Self { cost, ..self }
    }
}

impl Case<'_> {
    /// vCPU time that faults of a cause took, ns; `None` if it is not measured.
    pub(super) fn stall_of(&self, cause: Cause) -> Option<u64> {
        self.timed().map(|timed| timed.stall_of(cause).total)
    }

    /// vCPU time that all faults took, ns; `None` if it is not measured.
    fn stall(&self) -> Option<u64> {
        self.timed().map(|timed| timed.stall().total)
    }

    fn timed(&self) -> Option<TimedFaults<'_>> {
        let one_in = self.sight.timed_faults;
        let measured = self.sight.sees(Signal::FaultLatency) && one_in > 0;
        measured.then(|| self.vm.timed_faults(one_in))
    }
}
