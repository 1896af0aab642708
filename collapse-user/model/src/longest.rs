//! The longest guest faults of a VM.

use collapse_feed::LongFault;

/// Faults kept.
const KEPT: usize = 32;

/// The longest of the long guest faults, the longest first; of equal ones the earlier first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LongestFaults(Vec<EndedFault>);

/// A long guest fault, and when and where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFault {
    /// When it ended, `CLOCK_MONOTONIC` ns.
    pub end: u64,
    /// Thread of the vCPU.
    pub tid: u32,
    /// The fault.
    pub fault: LongFault,
}

impl LongestFaults {
    /// Those that are kept, the longest first.
    pub fn iter(&self) -> impl Iterator<Item = &EndedFault> {
        self.0.iter()
    }

    pub(crate) fn take(&mut self, end: u64, tid: u32, fault: LongFault) {
        let place = self.0.partition_point(|kept| kept.fault.duration >= fault.duration);
        if place < KEPT {
            self.0.truncate(KEPT - 1);
            self.0.insert(place, EndedFault { end, tid, fault });
        }
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::Cause;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_are_kept(durations in prop::collection::vec(0u64..1_000, 0..100)) {
            let mut longest = LongestFaults::default();
            for (end, duration) in (0..).zip(&durations) {
                let fault = LongFault {
                    cause: Cause::GuestFault, vcpu: Some(0), address: 0, duration: *duration,
                };
                longest.take(end, 1, fault);
            }
            let mut expected: Vec<_> = (0u64..).zip(durations).collect();
            expected.sort_by_key(|(end, duration)| (std::cmp::Reverse(*duration), *end));
            expected.truncate(KEPT);
            let kept = longest.iter().map(|kept| (kept.end, kept.fault.duration));
            prop_assert_eq!(kept.collect::<Vec<_>>(), expected);
        }
    }
}
