//! How a VM did over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PagesBySize, PerMetric};
use collapse_feed::{Coverage, Signal};
use collapse_model::{History, MetricId, Sample};

/// Moments listed per VM at most.
const LISTED: usize = 300;

/// Where a VM stood at one time. Counts are those since it was first seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// `CLOCK_MONOTONIC` ns.
    #[schemars(extend("x-sum" = false))]
    pub at_ns: u64,
    /// KVM's own gauges.
    pub pages: Option<PagesBySize>,
    /// Every metric; `None` if its signal is not seen. Gauges are the most since the moment before.
    #[serde(flatten)]
    pub values: PerMetric<Option<u64>>,
    /// Whether dirty logging was on, if only for a time since the moment before; `None` if not seen.
    pub logging: Option<bool>,
}

/// A VM's moments.
pub(super) fn of(history: &History, coverage: &Coverage) -> Vec<Moment> {
    let samples: Vec<_> = history.samples().copied().collect();
    thin(&samples, LISTED).iter().map(|sample| Moment::new(sample, coverage)).collect()
}

impl Moment {
    fn new(sample: &Sample, coverage: &Coverage) -> Self {
        let &Sample { at, pages, values, logging } = sample;
        Self {
            at_ns: at,
            pages: pages.map(PagesBySize::from),
            values: PerMetric::new(|metric| {
                metric.is_reported(coverage).then(|| values[metric.id])
            }),
            logging: coverage.known(Signal::DirtyLogging, logging),
        }
    }

    /// The value of one metric; `None` if its signal is not seen.
    pub fn value(&self, metric: MetricId) -> Option<u64> {
        self.values.get(metric).copied().flatten()
    }
}

/// At most `most` samples: each stands for as many as it takes.
fn thin(samples: &[Sample], most: usize) -> Vec<Sample> {
    let each = samples.len().div_ceil(most).max(1);
    let chunks = samples.chunks(each);
    chunks.filter_map(|chunk| chunk.iter().copied().reduce(Sample::merged)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use collapse_model::metric::Values;

    #[test]
    fn thinning_keeps_the_end_and_every_peak() {
        let sample = |at| {
            let values = Values::default().but(MetricId::Outstanding, at % 7);
            Sample { at, values, ..Sample::default() }
        };
        let samples: Vec<_> = (0..100).map(sample).collect();
        let thinned = thin(&samples, 10);
        assert_eq!(thinned.len(), 10);
        assert_eq!(thinned.last().map(|sample| sample.at), Some(99));
        assert!(thinned.iter().all(|sample| sample.values[MetricId::Outstanding] == 6));
        assert_eq!(thin(&samples[..3], 10), samples[..3]);
        assert_eq!(thin(&[], 10), []);
    }
}
