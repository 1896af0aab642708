//! How a VM did over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PagesBySize;
use collapse_feed::{Coverage, Signal};
use collapse_model::{History, Sample};

/// Moments listed per VM at most.
const LISTED: usize = 300;

/// Where a VM stood at one time. Counts are those since it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// `CLOCK_MONOTONIC` ns.
    #[schemars(extend("x-sum" = false))]
    pub at_ns: u64,
    /// KVM's own gauges.
    pub pages: Option<PagesBySize>,
    /// Huge leaves that became page tables.
    pub splits: u64,
    /// Leaves that became non-present.
    pub zaps: u64,
    /// Leaves installed.
    pub installs: u64,
    /// Regions that lost their huge leaf.
    pub lost: u64,
    /// Regions that got it back.
    pub recovered: u64,
    /// Regions that had not got it back; the most since the moment before.
    pub outstanding: u64,
    /// Guest faults; `None` if not seen.
    pub faults: Option<u64>,
    /// Of those: by the lockless fast path; `None` if not seen.
    pub fast_faults: Option<u64>,
    /// Time that they kept vCPUs from their guest, ns; `None` if not measured.
    pub stall_ns: Option<u64>,
    /// Whether dirty logging was on, if only for a time since the moment before; `None` if not seen.
    pub logging: Option<bool>,
}

/// A VM's moments.
pub(super) fn of(history: &History, coverage: &Coverage) -> Vec<Moment> {
    let moments: Vec<_> = history.samples().map(|sample| Moment::new(sample, coverage)).collect();
    thin(&moments, LISTED)
}

impl Moment {
    fn new(sample: &Sample, coverage: &Coverage) -> Self {
        let &Sample { at, pages, flows, outstanding, logging } = sample;
        let seen = |signal, n| coverage.known(signal, n);
        Self {
            at_ns: at,
            pages: pages.map(PagesBySize::from),
            splits: flows.splits,
            zaps: flows.zaps,
            installs: flows.installs,
            lost: flows.lost,
            recovered: flows.recovered,
            outstanding,
            faults: seen(Signal::Faults, flows.faults),
            fast_faults: seen(Signal::FastFaults, flows.fast_faults),
            stall_ns: seen(Signal::FaultLatency, flows.stall_ns),
            logging: coverage.known(Signal::DirtyLogging, logging),
        }
    }
}

/// No more than so many moments: each stands for as many as it takes.
fn thin(moments: &[Moment], most: usize) -> Vec<Moment> {
    let merge = |earlier: Moment, later: &Moment| Moment {
        outstanding: earlier.outstanding.max(later.outstanding),
        logging: earlier.logging.zip(later.logging).map(|(a, b)| a || b),
        ..*later
    };
    let each = moments.len().div_ceil(most).max(1);
    let chunks = moments.chunks(each);
    chunks.filter_map(|chunk| chunk.iter().copied().reduce(|a, b| merge(a, &b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use collapse_feed::{Mmu, fixtures::full_coverage};

    #[test]
    fn thinning_keeps_the_end_and_every_peak() {
        let coverage = full_coverage(Mmu::Tdp);
        let moment =
            |at| Moment::new(&Sample { at, outstanding: at % 7, ..Sample::default() }, &coverage);
        let moments: Vec<_> = (0..100).map(moment).collect();
        let thinned = thin(&moments, 10);
        assert_eq!(thinned.len(), 10);
        assert_eq!(thinned.last().map(|moment| moment.at_ns), Some(99));
        assert!(thinned.iter().all(|moment| moment.outstanding == 6));
        assert_eq!(thin(&moments[..3], 10), moments[..3]);
        assert_eq!(thin(&[], 10), []);
    }
}
