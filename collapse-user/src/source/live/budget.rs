//! Keeping to the overhead budget: what the programs cost decides how much they see.

use collapse_common::abi::{LeftOut, request::SetDetail};

use crate::{
    plan::TIMED_SIGNALS,
    probe::Probe,
    source::cost::{DetailStep, Meter, Overhead},
};

/// Measures what the programs cost, and applies each step of less or more detail.
pub struct Budget(Meter);

impl Budget {
    /// Starts with a limit in percent of one core, if any.
    pub fn new(percent: Option<f64>) -> Self {
        Self(Meter::new(percent))
    }

    /// Measures if it is time, and changes what is seen if that cost too much, or leaves room for more.
    /// `changes` counts SPTE changes since attaching.
    pub fn keep(&mut self, probe: &mut Probe, changes: impl FnOnce() -> u64) {
        let Some(step) = self.0.tick(probe, changes) else { return };
        let detail = detail(step);
        if let Err(error) = probe.request(&detail) {
            log::warn!("{}", error.line());
        }
        if let Err(error) = probe.suspend(&TIMED_SIGNALS, detail.untimed) {
            log::warn!("cannot switch the timing of faults: {}", error.line());
        }
    }

    /// Returns what was measured, if that has changed since the last call.
    pub fn news(&mut self) -> Option<Overhead> {
        self.0.news()
    }
}

/// Returns the detail that is seen on a step.
fn detail(step: DetailStep) -> SetDetail {
    let left_out = match step {
        DetailStep::Full | DetailStep::NoLatency => LeftOut::NONE,
        DetailStep::Sampled => LeftOut::ALL_BUT_ONE_IN_16,
        DetailStep::CountersOnly => LeftOut::ALL,
    };
    SetDetail { untimed: step != DetailStep::Full, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_sees_no_more_than_the_one_before() {
        let seen = |step| {
            let SetDetail { untimed, left_out } = detail(step);
            let regions = (0..1024u64).filter(|region| !left_out.contains(region << 9)).count();
            (!untimed, regions)
        };
        let steps = DetailStep::ALL.map(seen);
        assert_eq!(steps, [(true, 1024), (false, 1024), (false, 64), (false, 0)]);
    }
}
