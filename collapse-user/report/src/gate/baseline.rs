//! Comparison with earlier reports.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde_json::Value;

use super::{
    budget::why_unknown,
    label,
    path::{MetricPath, PathRoot},
};
use crate::{BaselineReport, BaselineVerdict, Better, Report, SCHEMA, VmReport};
use collapse_model::metric::{METRICS, Unit};

/// Paths to what is compared beside the table of metrics, and the direction in which each improves. Of
/// lists, the worst value is compared.
const FIGURES: [(&str, Better); 8] = [
    ("recovery_rate", Better::Higher),
    ("recovery_rate_touched", Better::Higher),
    ("regions.refaulted_small", Better::Lower),
    ("time_to_recover.p50", Better::Lower),
    ("time_to_recover.p99", Better::Lower),
    ("time_to_refault.p99", Better::Lower),
    ("latency.p50", Better::Lower),
    ("latency.p99", Better::Lower),
];

/// Paths to the durations that are compared last.
const DURATIONS: [(&str, Better); 2] =
    [("episodes.recovery_duration", Better::Lower), ("collapse_spans.duration", Better::Lower)];

static COMPARED: LazyLock<Vec<(MetricPath, Better)>> = LazyLock::new(|| {
    let metric = |(path, better)| match MetricPath::find(PathRoot::Vm, path) {
        Ok(metric) => (metric, better),
        Err(error) => panic!("{error}"),
    };
    FIGURES.into_iter().chain(metrics()).chain(DURATIONS).map(metric).collect()
});

/// Metrics that are better one way: time lost, then faults, then changes of leaves.
fn metrics() -> Vec<(&'static str, Better)> {
    let mut metrics: Vec<_> = METRICS.iter().collect();
    metrics.sort_by_key(|metric| (metric.unit != Unit::Nanoseconds, metric.unit != Unit::Faults));
    metrics.iter().filter_map(|metric| Some((metric.path, metric.better?))).collect()
}

/// Earlier reports, and how much worse than they a run may be.
#[derive(Clone, Debug)]
pub struct Baseline {
    reports: Vec<Value>,
    /// Greatest change for the worse, as a share of the median.
    limit: f64,
}

/// An error in an earlier report.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The file is not JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The JSON is not a report.
    #[error("not a {SCHEMA}")]
    NoReport,
}

impl Baseline {
    /// Takes earlier reports. `limit` is a share of the median.
    pub fn new(reports: Vec<Value>, limit: f64) -> Self {
        Self { reports, limit }
    }

    /// Reads an earlier report: its JSON, since an older version may lack what this one has.
    pub fn read(text: &str) -> Result<Value, BaselineError> {
        let report: Value = serde_json::from_str(text)?;
        if report["schema"] == SCHEMA { Ok(report) } else { Err(BaselineError::NoReport) }
    }

    /// Compares a report.
    pub(super) fn compare(&self, report: &Report) -> Vec<BaselineReport> {
        if report.vms.is_empty() {
            return vec![self.no_counterpart(None, "no VM was seen")];
        }
        let places = 0..report.vms.len();
        places.flat_map(|place| self.compare_vm(&report.vms, place)).collect()
    }

    fn compare_vm(&self, vms: &[VmReport], place: usize) -> Vec<BaselineReport> {
        let vm = &vms[place];
        let earlier = self.reports.iter();
        let earlier: Vec<_> =
            earlier.filter_map(|report| counterpart(vms, place, vms_of(report))).collect();
        if earlier.is_empty() {
            let reason = "no earlier report has such a VM";
            return vec![self.no_counterpart(Some(label(vm)), reason)];
        }
        let metrics = COMPARED.iter();
        metrics
            .filter_map(|(metric, better)| self.compare_metric(vm, metric, *better, &earlier))
            .collect()
    }

    /// Compares one metric; `None` if it is not known from any earlier report.
    fn compare_metric(
        &self,
        vm: &VmReport,
        metric: &MetricPath,
        better: Better,
        earlier: &[&Value],
    ) -> Option<BaselineReport> {
        let earlier = earlier.iter().filter_map(|vm| worst(&metric.values(vm), better)).collect();
        let earlier = EarlierRuns::new(earlier)?;
        let value = worst(&metric.values(vm), better);
        let verdict = value
            .map_or(BaselineVerdict::Unknown, |value| earlier.verdict(value, better, self.limit));
        let median = earlier.median;
        Some(BaselineReport {
            vm: Some(label(vm)),
            metric: Some(metric.full()),
            better: Some(better),
            value,
            runs: earlier.runs,
            median: Some(median),
            spread: Some((earlier.least, earlier.most)),
            change: value.filter(|_| median > 0.0).map(|value| value / median - 1.0),
            limit: self.limit,
            verdict,
            reason: if value.is_none() { why_unknown(vm, metric) } else { None },
        })
    }

    fn no_counterpart(&self, vm: Option<String>, reason: &str) -> BaselineReport {
        BaselineReport {
            vm,
            metric: None,
            better: None,
            value: None,
            runs: 0,
            median: None,
            spread: None,
            change: None,
            limit: self.limit,
            verdict: BaselineVerdict::NoCounterpart,
            reason: Some(reason.to_owned()),
        }
    }
}

/// A metric in earlier runs.
struct EarlierRuns {
    runs: u64,
    least: f64,
    median: f64,
    most: f64,
}

impl EarlierRuns {
    /// Sums up the values; `None` if there are none.
    fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { runs: values.len() as u64, least, median, most })
    }

    /// The verdict on a value. `limit` is a share of the median.
    fn verdict(&self, value: f64, better: Better, limit: f64) -> BaselineVerdict {
        let (worsening, beyond_worst, beyond_best) = match better {
            Better::Lower => (value - self.median, value > self.most, value < self.least),
            Better::Higher => (self.median - value, value < self.least, value > self.most),
        };
        if beyond_worst && worsening > self.median * limit {
            BaselineVerdict::Worse
        } else if beyond_best && -worsening > self.median * limit {
            BaselineVerdict::Better
        } else {
            BaselineVerdict::Same
        }
    }
}

impl BaselineReport {
    /// A value of the metric, with its unit.
    pub(super) fn shown(&self, value: f64) -> String {
        let whole = value.fract() == 0.0 && value >= 0.0;
        let json = if whole { Value::from(value as u64) } else { value.into() };
        let metric = COMPARED.iter().find(|(metric, _)| Some(metric.full()) == self.metric);
        metric.map_or_else(|| json.to_string(), |(metric, _)| metric.shown(&json))
    }
}

fn vms_of(report: &Value) -> &[Value] {
    report["vms"].as_array().map_or(&[], Vec::as_slice)
}

/// The VM of an earlier report that the one at `place` is compared with: the only one, or the one that is
/// as far down among those of its name.
fn counterpart<'a>(vms: &[VmReport], place: usize, earlier: &'a [Value]) -> Option<&'a Value> {
    if let ([_], [only]) = (vms, earlier) {
        return Some(only);
    }
    let name = &vms[place].name;
    let before = vms[..place].iter().filter(|vm| vm.name == *name).count();
    earlier.iter().filter(|vm| vm["name"].as_str() == name.as_deref()).nth(before)
}

fn worst(values: &[Value], better: Better) -> Option<f64> {
    let numbers = values.iter().filter_map(Value::as_f64);
    match better {
        Better::Lower => numbers.reduce(f64::max),
        Better::Higher => numbers.reduce(f64::min),
    }
}
