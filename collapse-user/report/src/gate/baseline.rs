//! Comparison with earlier reports.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::budget::{Metric, Place, reason, vm_label};
use crate::SCHEMA;

/// Which way a metric should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The more the better.
    Higher,
    /// The less the better.
    Lower,
}

/// What is compared. Of lists, the worst.
static METRICS: LazyLock<Vec<(Metric, Better)>> = LazyLock::new(|| {
    use Better::{Higher, Lower};
    let metrics: [(&[&str], Better); 15] = [
        (&["recovery_rate"], Higher),
        (&["recovery_rate_touched"], Higher),
        (&["regions", "refaulted_small"], Lower),
        (&["time_to_recover", "p50"], Lower),
        (&["time_to_recover", "p99"], Lower),
        (&["time_to_refault", "p99"], Lower),
        (&["latency", "p50"], Lower),
        (&["latency", "p99"], Lower),
        (&["stall"], Lower),
        (&["faults"], Lower),
        (&["splits"], Lower),
        (&["zaps"], Lower),
        (&["refaults"], Lower),
        (&["episodes", "recovery_duration"], Lower),
        (&["collapse_spans", "duration"], Lower),
    ];
    let found = metrics
        .into_iter()
        .map(|(path, better)| Metric::find(Place::Vm, path).map(|metric| (metric, better)));
    found.collect::<Result<_, _>>().unwrap_or_default()
});

/// Earlier reports, and how much worse than they a run may be.
#[derive(Clone, Debug)]
pub struct Baseline {
    reports: Vec<Value>,
    /// As a share of the median.
    limit: f64,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better than the median by more than the limit, and than every earlier run.
    Better,
    /// Within the limit, or within what earlier runs were.
    Same,
    /// Worse than the median by more than the limit, and than every earlier run.
    Worse,
    /// It is not known now.
    Unknown,
    /// No earlier report has such a VM.
    NoCounterpart,
}

/// One metric of one VM, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineReport {
    /// The VM; `None` if there was none.
    pub vm: Option<String>,
    /// The metric's path; `None` if there was nothing to compare with.
    pub metric: Option<String>,
    /// Which way it should go.
    pub better: Option<Better>,
    /// What it is now: of several, the worst; `None` if it is not known.
    pub value: Option<f64>,
    /// Earlier reports in which it is known.
    pub runs: u64,
    /// Their median.
    pub median: Option<f64>,
    /// The least and the most among them.
    pub spread: Option<(f64, f64)>,
    /// By which share of the median it changed; `None` if that is not known, or the median is 0.
    pub change: Option<f64>,
    /// The share that it may get worse by.
    pub limit: f64,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why it is not known.
    pub reason: Option<String>,
}

/// Whether nothing got worse, if there was anything to compare.
pub fn is_ok(rows: &[BaselineReport]) -> bool {
    let worse = rows.iter().any(|row| row.verdict == Verdict::Worse);
    rows.is_empty() || any_compared(rows) && !worse
}

/// Whether there was anything to compare.
pub fn any_compared(rows: &[BaselineReport]) -> bool {
    rows.iter().any(|row| row.verdict != Verdict::NoCounterpart)
}

impl BaselineReport {
    /// A value in the unit of the metric.
    pub fn shown(&self, value: f64) -> String {
        let metric = METRICS.iter().find(|(metric, _)| Some(metric.path()) == self.metric);
        let whole = value.fract() == 0.0 && value >= 0.0;
        let json = if whole { Value::from(value as u64) } else { value.into() };
        metric.map_or_else(|| json.to_string(), |(metric, _)| metric.shown(&json))
    }
}

impl Baseline {
    /// Takes earlier reports. `limit` is a share of the median.
    pub fn new(reports: Vec<Value>, limit: f64) -> Self {
        Self { reports, limit }
    }

    /// Reads an earlier report.
    pub fn read(text: &str) -> Result<Value, String> {
        let report: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if report["schema"] == SCHEMA { Ok(report) } else { Err(format!("it is no {SCHEMA}")) }
    }

    /// Compares the JSON of a report.
    pub fn check(&self, report: &Value) -> Vec<BaselineReport> {
        let vms = vms_of(report);
        if vms.is_empty() {
            return vec![self.no_counterpart(None, "no VM was seen")];
        }
        let compared = vms.iter().enumerate().flat_map(|(at, vm)| {
            let earlier = self.reports.iter();
            let others: Vec<_> =
                earlier.filter_map(|other| counterpart(vms, at, vms_of(other))).collect();
            if others.is_empty() {
                let reason = "no earlier report has such a VM";
                return vec![self.no_counterpart(Some(vm_label(vm)), reason)];
            }
            METRICS.iter().filter_map(|metric| self.compare(vm, metric, &others)).collect()
        });
        compared.collect()
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
            verdict: Verdict::NoCounterpart,
            reason: Some(reason.to_owned()),
        }
    }

    /// Nothing if no earlier report knows the metric.
    fn compare(
        &self,
        vm: &Value,
        metric: &(Metric, Better),
        others: &[&Value],
    ) -> Option<BaselineReport> {
        let worst = |vm: &Value| worst(&metric.0.values(vm), metric.1);
        let mut earlier: Vec<f64> = others.iter().filter_map(|vm| worst(vm)).collect();
        earlier.sort_by(f64::total_cmp);
        let (least, most) = (*earlier.first()?, *earlier.last()?);
        let median = f64::midpoint(earlier[(earlier.len() - 1) / 2], earlier[earlier.len() / 2]);
        let value = worst(vm);
        let sign = if metric.1 == Better::Lower { 1.0 } else { -1.0 };
        let verdict = value.map_or(Verdict::Unknown, |value| {
            let worsening = (value - median) * sign;
            let (beyond_worst, beyond_best) = match metric.1 {
                Better::Lower => (value > most, value < least),
                Better::Higher => (value < least, value > most),
            };
            if beyond_worst && worsening > median * self.limit {
                Verdict::Worse
            } else if beyond_best && -worsening > median * self.limit {
                Verdict::Better
            } else {
                Verdict::Same
            }
        });
        Some(BaselineReport {
            vm: Some(vm_label(vm)),
            metric: Some(metric.0.path()),
            better: Some(metric.1),
            value,
            runs: earlier.len() as u64,
            median: Some(median),
            spread: Some((least, most)),
            change: value.filter(|_| median > 0.0).map(|value| value / median - 1.0),
            limit: self.limit,
            verdict,
            reason: if value.is_none() { reason(vm, &metric.0) } else { None },
        })
    }
}

fn vms_of(report: &Value) -> &[Value] {
    report["vms"].as_array().map_or(&[], Vec::as_slice)
}

/// The VM of an earlier report that the `at`-th is compared with: the only one, or the one that is
/// as far down among those of its name.
fn counterpart<'a>(vms: &[Value], at: usize, earlier: &'a [Value]) -> Option<&'a Value> {
    if let ([_], [only]) = (vms, earlier) {
        return Some(only);
    }
    let same = |vm: &&Value| vm["name"] == vms[at]["name"];
    let before = vms[..at].iter().filter(same).count();
    earlier.iter().filter(same).nth(before)
}

fn worst(values: &[Value], better: Better) -> Option<f64> {
    let numbers = values.iter().filter_map(Value::as_f64);
    match better {
        Better::Lower => numbers.reduce(f64::max),
        Better::Higher => numbers.reduce(f64::min),
    }
}
