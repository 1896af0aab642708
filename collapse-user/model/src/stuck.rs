//! vCPUs that took faults and got nowhere.

use collapse_feed::NoProgress;

/// The times that vCPUs of a VM got nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standstills {
    /// How many there were.
    pub count: u64,
    /// The longest; `None` if there was none.
    pub longest: Option<Standstill>,
    /// The latest.
    latest: Option<Standstill>,
}

/// A time in which a vCPU took guest faults at one page of which KVM resolved none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// When it was last told, `CLOCK_MONOTONIC` ns.
    pub at: u64,
    /// Thread of the vCPU.
    pub tid: u32,
    /// What was told then.
    pub told: NoProgress,
}

impl Standstill {
    /// When it began, `CLOCK_MONOTONIC` ns.
    pub fn since(&self) -> u64 {
        self.at.saturating_sub(self.told.duration)
    }

    /// Whether both were told of the same faults: what lasts is told again, with the time that it lasts since the
    /// same moment, but for what passes between two looks at the clock.
    fn continues(&self, earlier: &Self) -> bool {
        let page = |standstill: &Self| standstill.told.address >> 12;
        self.tid == earlier.tid && page(self) == page(earlier) && self.since() < earlier.at
    }
}

impl Standstills {
    pub(crate) fn take(&mut self, at: u64, tid: u32, told: NoProgress) {
        let new = Standstill { at, tid, told };
        if !self.latest.is_some_and(|latest| new.continues(&latest)) {
            self.count += 1;
        }
        self.latest = Some(new);
        if self.longest.is_none_or(|longest| longest.told.duration <= told.duration) {
            self.longest = Some(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: u64, duration: u64) -> NoProgress {
        let (vcpu, faults, invalidating, sequence) = (Some(0), 100, 1, 7);
        NoProgress { vcpu, address, duration, faults, invalidating, sequence }
    }

    #[test]
    fn what_lasts_is_one() {
        let mut stuck = Standstills::default();
        stuck.take(110, 1, told(0x5008, 10));
        stuck.take(121, 1, told(0x5010, 20));
        stuck.take(300, 1, told(0x5008, 15));
        assert_eq!(stuck.count, 2);
        assert_eq!(
            stuck.longest.map(|longest| (longest.since(), longest.told.duration)),
            Some((101, 20))
        );
        stuck.take(310, 2, told(0x5008, 25));
        assert_eq!(stuck.count, 3);
        assert_eq!(stuck.longest.map(|longest| longest.tid), Some(2));
    }
}
