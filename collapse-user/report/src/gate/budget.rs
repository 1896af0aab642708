//! Budgets: what a run must keep to.

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::path::{Kind, Metric, Place};

use super::parse;
use crate::{VmSelect, shown_duration};

/// A comparison of one metric with a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub(super) text: String,
    pub(super) target: Target,
    pub(super) metric: Metric,
    pub(super) comparison: Comparison,
    pub(super) limit: Limit,
}

/// Whose metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Every VM's, each for itself.
    EachVm,
    /// That of every VM that is selected.
    Vm(VmSelect),
    /// The sum over all VMs.
    Total,
    /// The report's own.
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
    NotEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Limit {
    Number(f64),
    Ns(f64),
    Word(String),
}

/// Whether a budget was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetReport {
    /// The budget, as given.
    pub budget: String,
    /// The metric's whole path.
    pub metric: String,
    /// Whether it was kept everywhere.
    pub ok: bool,
    /// One by one.
    pub checks: Vec<BudgetCheck>,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetCheck {
    /// The VM; `None` if it is not about one.
    pub vm: Option<String>,
    /// What was compared: of several, the one that fails; `None` if it is not known.
    pub value: Option<Value>,
    /// Whether it holds.
    pub ok: bool,
    /// Why it does not; `None` if it does.
    pub reason: Option<String>,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse::parse(text)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Budget {
    /// Budgets of a file: one per line, without empty lines and what follows a `#`.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, String> {
        let lines = (1..).zip(text.lines()).filter_map(|(number, line)| {
            let budget = line.split('#').next().unwrap_or_default().trim();
            (!budget.is_empty()).then_some((number, budget))
        });
        lines
            .map(|(number, line)| line.parse().map_err(|e| format!("line {number}: {line}: {e}")))
            .collect()
    }

    /// Compares with the JSON of a report.
    pub fn check(&self, report: &Value) -> BudgetReport {
        let vms: &[Value] = report["vms"].as_array().map_or(&[], Vec::as_slice);
        let checks = match &self.target {
            Target::Report => vec![self.check_values(None, &self.metric.values(report), || None)],
            Target::EachVm => vms.iter().map(|vm| self.check_vm(vm)).collect(),
            Target::Vm(select) => {
                vms.iter().filter(|vm| selects(select, vm)).map(|vm| self.check_vm(vm)).collect()
            }
            Target::Total if vms.is_empty() => Vec::new(),
            Target::Total => vec![self.check_values(None, &[self.total(vms)], || {
                vms.iter().find_map(|vm| reason(vm, &self.metric))
            })],
        };
        let checks = if checks.is_empty() {
            vec![BudgetCheck::failed("there is no such VM")]
        } else {
            checks
        };
        BudgetReport {
            budget: self.text.clone(),
            metric: self.metric.path(),
            ok: checks.iter().all(|check| check.ok),
            checks,
        }
    }

    fn check_vm(&self, vm: &Value) -> BudgetCheck {
        self.check_values(Some(vm_label(vm)), &self.metric.values(vm), || reason(vm, &self.metric))
    }

    fn check_values(
        &self,
        vm: Option<String>,
        values: &[Value],
        why: impl Fn() -> Option<String>,
    ) -> BudgetCheck {
        let failing = values.iter().find(|value| self.holds(value) != Some(true));
        let value = failing.or(values.last()).filter(|value| !value.is_null());
        let reason = match (failing, value) {
            (None, Some(_)) => None,
            (_, Some(value)) => Some(format!("it is {}", self.metric.shown(value))),
            (_, None) => {
                let why = why().unwrap_or_else(|| "there is none".to_owned());
                Some(format!("it is not known: {why}"))
            }
        };
        BudgetCheck { vm, value: value.cloned(), ok: reason.is_none(), reason }
    }

    /// Whether a value keeps to the budget; `None` if that is not known.
    fn holds(&self, value: &Value) -> Option<bool> {
        use Comparison::{Above, AtLeast, AtMost, Below, Equal, NotEqual};
        let ordering = match &self.limit {
            Limit::Number(limit) | Limit::Ns(limit) => value.as_f64()?.partial_cmp(limit)?,
            Limit::Word(limit) => match value {
                Value::Null => return None,
                Value::String(word) => word.cmp(limit),
                value => value.to_string().cmp(limit),
            },
        };
        Some(match self.comparison {
            AtLeast => ordering.is_ge(),
            AtMost => ordering.is_le(),
            Above => ordering.is_gt(),
            Below => ordering.is_lt(),
            Equal => ordering.is_eq(),
            NotEqual => ordering.is_ne(),
        })
    }

    /// The metric of all VMs together; null if it is not known for one.
    fn total(&self, vms: &[Value]) -> Value {
        let sum =
            |path: &str| -> Option<u64> { vms.iter().map(|vm| vm.pointer(path)?.as_u64()).sum() };
        let rate = |rest: &str| {
            let recovered = sum("/regions/recovered")?;
            let whole = sum(rest)? + if rest == "/regions/lost" { 0 } else { recovered };
            (whole > 0).then(|| recovered as f64 / whole as f64)
        };
        match self.metric.path().as_str() {
            "recovery_rate" => rate("/regions/lost").into(),
            "recovery_rate_touched" => rate("/regions/refaulted_small").into(),
            _ => {
                let values = vms.iter().flat_map(|vm| self.metric.values(vm));
                // Residuals can be negative.
                let sum: Option<i128> =
                    values.map(|n| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from))).sum();
                sum.map_or(Value::Null, |sum| (sum as i64).into())
            }
        }
    }
}

impl Metric {
    /// A value in words.
    pub fn shown(&self, value: &Value) -> String {
        match (self.kind(), value) {
            (_, Value::Null) => "unknown".to_owned(),
            (Kind::Ns, value) => value.as_u64().map_or_else(|| value.to_string(), shown_duration),
            (Kind::Ratio, value) => {
                value.as_f64().map_or_else(|| value.to_string(), |n| format!("{n:.4}"))
            }
            (_, Value::String(word)) => word.clone(),
            (_, value) => value.to_string(),
        }
    }
}

impl BudgetCheck {
    fn failed(reason: &str) -> Self {
        Self { vm: None, value: None, ok: false, reason: Some(reason.to_owned()) }
    }
}

/// What people call a VM.
pub(crate) fn vm_label(vm: &Value) -> String {
    let name = vm["name"].as_str().unwrap_or("VM of unknown process");
    vm["pid"].as_u64().map_or_else(|| name.to_owned(), |pid| format!("{name} (pid {pid})"))
}

fn selects(select: &VmSelect, vm: &Value) -> bool {
    let number = |key: &str| vm[key].as_u64().map(|n| n as u32);
    select.selects_ids(number("pid"), number("tid"), number("fd"), vm["name"].as_str())
}

/// Why a metric of a VM is not known, as far as its report tells.
pub(crate) fn reason(vm: &Value, metric: &Metric) -> Option<String> {
    let path = metric.path();
    let mut rest = path.as_str();
    loop {
        if let Some(reason) = vm["unknown"][rest].as_str() {
            return Some(reason.to_owned());
        }
        rest = rest.rsplit_once('.')?.0;
    }
}
