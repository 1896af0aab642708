//! Verdicts on a report, as they are serialized with it. The gate makes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use collapse_model::metric::Better;

/// Verdicts by every demand that was made; empty where none was.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdicts {
    /// Whether the budgets were kept.
    pub budgets: Vec<BudgetReport>,
    /// The comparison with earlier reports.
    pub baseline: Vec<BaselineReport>,
    /// The coverage that was required; `None` if none was.
    pub required_coverage: Option<RequiredCoverage>,
}

/// Whether a budget was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetReport {
    /// The budget, as given.
    pub budget: String,
    /// The metric's whole path.
    pub metric: String,
    /// Whether every comparison holds.
    pub ok: bool,
    /// The comparisons: one for each VM, or one for all.
    pub checks: Vec<BudgetCheck>,
}

/// One comparison of a metric with a budget's limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetCheck {
    /// The VM; `None` if the comparison is not about a single one.
    pub vm: Option<String>,
    /// The value that was compared: of several, one that fails; `None` if it is not known.
    pub value: Option<Value>,
    /// Whether the comparison holds.
    pub ok: bool,
    /// Why it does not hold; `None` if it does.
    pub reason: Option<String>,
}

/// One metric of one VM, compared with earlier reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineReport {
    /// The VM; `None` if there was none.
    pub vm: Option<String>,
    /// The metric's path; `None` if there was nothing to compare with.
    pub metric: Option<String>,
    /// The direction in which the metric improves.
    pub better: Option<Better>,
    /// The value now: of several, the worst; `None` if it is not known.
    pub value: Option<f64>,
    /// Earlier reports in which the metric is known.
    pub runs: u64,
    /// The median of the earlier values.
    pub median: Option<f64>,
    /// The least and the greatest of the earlier values.
    pub spread: Option<(f64, f64)>,
    /// The change as a share of the median; `None` if it is not known, or the median is 0.
    pub change: Option<f64>,
    /// The share of the median that the metric may get worse by.
    pub limit: f64,
    /// The verdict.
    pub verdict: BaselineVerdict,
    /// Why the value is not known.
    pub reason: Option<String>,
}

/// The verdict of a comparison with earlier reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineVerdict {
    /// Better than the median by more than the limit, and than every earlier run.
    Better,
    /// Within the limit, or within the spread of earlier runs.
    Same,
    /// Worse than the median by more than the limit, and than every earlier run.
    Worse,
    /// The value is not known now.
    Unknown,
    /// No earlier report has such a VM.
    NoCounterpart,
}

/// Coverage that can be required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Required {
    /// Every signal must be seen.
    Full,
}

/// The coverage that was required, and whether it was reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RequiredCoverage {
    /// The coverage required.
    pub required: Required,
    /// Whether it was reached.
    pub ok: bool,
}
