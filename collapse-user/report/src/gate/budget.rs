//! Budgets: limits that a run must keep to.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{label, path::MetricPath};
use crate::{BudgetCheck, BudgetReport, Report, VmIdentity, VmReport, VmSelect};

/// A comparison of one metric with a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub(super) text: String,
    pub(super) target: BudgetTarget,
    pub(super) metric: MetricPath,
    pub(super) comparison: Comparison,
    pub(super) limit: BudgetLimit,
}

/// The metric that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BudgetTarget {
    /// The one of each VM.
    EachVm,
    /// The one of each selected VM.
    Vm(VmSelect),
    /// The one of all VMs together.
    Total,
    /// The one of the report around the VMs.
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
pub(super) enum BudgetLimit {
    /// A number in the unit of the metric.
    Number(f64),
    /// A word, or `true` or `false`.
    Word(String),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Budget {
    /// Compares with a report.
    pub(super) fn check(&self, report: &Report) -> BudgetReport {
        let vms = &report.vms;
        let checks: Vec<_> = match &self.target {
            BudgetTarget::Report => {
                vec![self.check_values(None, &self.metric.values(report), || None)]
            }
            BudgetTarget::EachVm => vms.iter().map(|vm| self.check_vm(vm)).collect(),
            BudgetTarget::Vm(select) => {
                let selected = vms.iter().filter(|vm| select.selects(vm.identity()));
                selected.map(|vm| self.check_vm(vm)).collect()
            }
            BudgetTarget::Total if vms.is_empty() => Vec::new(),
            BudgetTarget::Total => {
                let sum = self.metric.over_vms(vms);
                let sum = vms.iter().fold(sum, |sum, vm| self.known(vm, sum));
                vec![self.check_values(None, &[sum], || {
                    vms.iter().find_map(|vm| why_unknown(vm, &self.metric))
                })]
            }
        };
        self.verdict(checks)
    }

    fn verdict(&self, mut checks: Vec<BudgetCheck>) -> BudgetReport {
        if checks.is_empty() {
            let reason = Some("there is no such VM".to_owned());
            checks.push(BudgetCheck { vm: None, value: None, ok: false, reason });
        }
        BudgetReport {
            budget: self.text.clone(),
            metric: self.metric.full(),
            ok: checks.iter().all(|check| check.ok),
            checks,
        }
    }

    /// Compares with the values of VMs that are described otherwise than by a report: identity, label and
    /// description. What these do not have is not known.
    pub(crate) fn check_each<T: Serialize>(
        &self,
        vms: &[(VmIdentity<'_>, String, &T)],
    ) -> BudgetReport {
        let selects = |identity: &VmIdentity<'_>| match &self.target {
            BudgetTarget::Vm(select) => select.selects(*identity),
            BudgetTarget::EachVm | BudgetTarget::Total | BudgetTarget::Report => true,
        };
        let selected = vms.iter().filter(|(identity, ..)| selects(identity));
        let checks = selected.map(|(_, label, vm)| {
            self.check_values(Some(label.clone()), &self.metric.values(vm), || None)
        });
        self.verdict(checks.collect())
    }

    fn check_vm(&self, vm: &VmReport) -> BudgetCheck {
        let why = || why_unknown(vm, &self.metric);
        let values = self.metric.values(vm).into_iter().map(|value| self.known(vm, value));
        self.check_values(Some(label(vm)), &values.collect::<Vec<_>>(), why)
    }

    /// The value, unless it counts none of something that could not all be looked for in the VM.
    fn known(&self, vm: &VmReport, value: Value) -> Value {
        let nothing = self.metric.is_count() && value == 0;
        let is_known = !vm.unknown.contains_key(self.metric.full().as_str());
        if nothing && !is_known { Value::Null } else { value }
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
            (_, Some(value)) => {
                let up_to = if self.metric.is_upper() { "up to " } else { "" };
                Some(format!("it is {up_to}{}", self.metric.shown(value)))
            }
            (_, None) => {
                let why = why().unwrap_or_else(|| "there is none".to_owned());
                Some(format!("it is not known: {why}"))
            }
        };
        BudgetCheck { vm, value: value.cloned(), ok: reason.is_none(), reason }
    }

    /// Whether a value keeps to the budget; `None` if it is not known.
    fn holds(&self, value: &Value) -> Option<bool> {
        let ordering = match &self.limit {
            BudgetLimit::Number(limit) => value.as_f64()?.partial_cmp(limit)?,
            BudgetLimit::Word(limit) => match value {
                Value::Null => return None,
                Value::String(word) => word.cmp(limit),
                value => value.to_string().cmp(limit),
            },
        };
        Some(match self.comparison {
            Comparison::AtLeast => ordering.is_ge(),
            Comparison::AtMost => ordering.is_le(),
            Comparison::Above => ordering.is_gt(),
            Comparison::Below => ordering.is_lt(),
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
        })
    }
}

/// Looks up why a metric of a VM is not known, by the longest path that the report has a reason for.
pub(super) fn why_unknown(vm: &VmReport, metric: &MetricPath) -> Option<String> {
    let path = metric.full();
    let mut rest = path.as_str();
    loop {
        if let Some(reason) = vm.unknown.get(rest) {
            return Some(reason.clone());
        }
        rest = rest.rsplit_once('.')?.0;
    }
}
