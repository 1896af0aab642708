//! The language of budgets: `recovery_rate >= 0.99`, `vm[guest].time_to_recover.p99 < 2s`.

use std::str::FromStr;

use super::{
    PathError,
    budget::{Budget, BudgetLimit, BudgetTarget, Comparison},
    path::{MetricPath, PathRoot, ValueKind},
};
use crate::VmSelect;

/// An error in a budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The comparison is missing.
    #[error("expected a comparison such as 'recovery_rate >= 0.99'")]
    NoComparison,
    /// The sign of the comparison is unknown.
    #[error("expected one of >= <= > < == !=")]
    UnknownSign,
    /// The brackets around the VM's selector are not closed.
    #[error("expected '].' after the VM, as in vm[NAME].splits")]
    OpenSelector,
    /// The left side is not a path.
    #[error("'{0}' is not a metric: expected names with dots between")]
    NoPath(String),
    /// The path leads to no metric.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The metric has no value for all VMs together.
    #[error("{0} cannot be added up over VMs")]
    NoSum(String),
    /// A word is compared by order, or with something else.
    #[error("{0} is a word: compare it with a word by == or !=")]
    Word(String),
    /// The limit is not a number.
    #[error("'{0}' is not a number")]
    NoNumber(String),
    /// The limit of a time has no unit.
    #[error("{path} is a time: give '{limit}' a unit such as ms or s")]
    NoUnit {
        /// The metric's path.
        path: String,
        /// The limit.
        limit: String,
    },
    /// The unit is unknown, or does not suit the metric.
    #[error("'{unit}' is not a unit of {path}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The metric's path.
        path: String,
    },
    /// The limit is a time, and the metric is not.
    #[error("{0} is not a time")]
    NoTime(String),
    /// A line of a file is wrong.
    #[error("line {number}: {line}: {error}")]
    Line {
        /// The line's number, from 1 on.
        number: usize,
        /// The line, without its comment.
        line: String,
        /// The error.
        error: Box<BudgetError>,
    },
}

impl FromStr for Budget {
    type Err = BudgetError;

    /// Reads a budget on a report.
    fn from_str(text: &str) -> Result<Self, BudgetError> {
        Self::parse(text, target)
    }
}

impl Budget {
    /// Reads a budget on the VMs of an explanation, such as `debt_bytes == 0`.
    pub fn on_explanation(text: &str) -> Result<Self, BudgetError> {
        Self::parse(text, |select, path| {
            let target = select.map_or(BudgetTarget::EachVm, BudgetTarget::Vm);
            Ok((target, MetricPath::find(PathRoot::Explained, path)?))
        })
    }

    fn parse(
        text: &str,
        target: impl Fn(Option<VmSelect>, &str) -> Result<(BudgetTarget, MetricPath), BudgetError>,
    ) -> Result<Self, BudgetError> {
        let text = text.trim();
        let (select, rest) = selector(text)?;
        let sign = rest.find(['<', '>', '=', '!']).ok_or(BudgetError::NoComparison)?;
        let (path, rest) = rest.split_at(sign);
        let path = path.trim();
        let (comparison, limit) = comparison(rest)?;
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !path.split('.').all(is_name) {
            return Err(BudgetError::NoPath(path.to_owned()));
        }
        let (target, metric) = target(select, path)?;
        let limit = if metric.kind() == ValueKind::Word {
            word(&metric, comparison, limit)?
        } else {
            number(&metric, path, limit)?
        };
        let metric = match comparison {
            Comparison::Below | Comparison::AtMost => metric.upper(),
            _ => metric,
        };
        Ok(Self { text: text.to_owned(), target, metric, comparison, limit })
    }
}

/// Parses a file of budgets: one per line. Empty lines are skipped; `#` begins a comment.
pub fn parse_budgets(text: &str) -> Result<Vec<Budget>, BudgetError> {
    let lines = (1..).zip(text.lines()).filter_map(|(number, line)| {
        let line = line.split('#').next().unwrap_or_default().trim();
        (!line.is_empty()).then_some((number, line))
    });
    let parse = |(number, line): (usize, &str)| {
        line.parse().map_err(|error| BudgetError::Line {
            number,
            line: line.to_owned(),
            error: Box::new(error),
        })
    };
    lines.map(parse).collect()
}

/// Takes `vm[…].` off the front.
fn selector(text: &str) -> Result<(Option<VmSelect>, &str), BudgetError> {
    let Some(rest) = text.strip_prefix("vm[") else { return Ok((None, text)) };
    let (select, rest) = rest.split_once("].").ok_or(BudgetError::OpenSelector)?;
    Ok((Some(VmSelect::new(select)), rest))
}

fn target(select: Option<VmSelect>, path: &str) -> Result<(BudgetTarget, MetricPath), BudgetError> {
    if let Some(select) = select {
        return Ok((BudgetTarget::Vm(select), MetricPath::find(PathRoot::Vm, path)?));
    }
    if let Some(path) = path.strip_prefix("total.") {
        let metric = MetricPath::find(PathRoot::Vm, path)?;
        return if metric.is_over_vms() {
            Ok((BudgetTarget::Total, metric))
        } else {
            Err(BudgetError::NoSum(metric.full()))
        };
    }
    let first = path.split('.').next().unwrap_or_default();
    if !MetricPath::begins(PathRoot::Vm, first) && MetricPath::begins(PathRoot::Report, first) {
        return Ok((BudgetTarget::Report, MetricPath::find(PathRoot::Report, path)?));
    }
    Ok((BudgetTarget::EachVm, MetricPath::find(PathRoot::Vm, path)?))
}

/// Takes the sign off the front.
fn comparison(text: &str) -> Result<(Comparison, &str), BudgetError> {
    let signs = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        (">", Comparison::Above),
        ("<", Comparison::Below),
    ];
    let found = signs.into_iter().find_map(|(sign, comparison)| {
        text.strip_prefix(sign).map(|rest| (comparison, rest.trim()))
    });
    found.ok_or(BudgetError::UnknownSign)
}

/// The limit of a word, which has no order.
fn word(
    metric: &MetricPath,
    comparison: Comparison,
    limit: &str,
) -> Result<BudgetLimit, BudgetError> {
    let is_word = !limit.is_empty() && limit.chars().all(|c| c.is_ascii_graphic());
    match comparison {
        Comparison::Equal | Comparison::NotEqual if is_word => {
            Ok(BudgetLimit::Word(limit.to_owned()))
        }
        _ => Err(BudgetError::Word(metric.full())),
    }
}

/// The limit of a number, in the unit of the metric that is at `path` as the budget has it.
fn number(metric: &MetricPath, path: &str, limit: &str) -> Result<BudgetLimit, BudgetError> {
    let digits = limit.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    let (digits, unit) = limit.split_at(digits.unwrap_or(limit.len()));
    let number: f64 = digits.parse().map_err(|_| BudgetError::NoNumber(limit.to_owned()))?;
    let unit = unit.trim_start();
    let is_time = metric.kind() == ValueKind::Ns;
    let ns = match unit {
        "" if is_time && !path.ends_with("_ns") && number != 0.0 => {
            return Err(BudgetError::NoUnit { path: metric.full(), limit: limit.to_owned() });
        }
        "" => return Ok(BudgetLimit::Number(number)),
        "%" if metric.kind() == ValueKind::Ratio => {
            return Ok(BudgetLimit::Number(number / 100.0));
        }
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        unit => {
            return Err(BudgetError::UnknownUnit { unit: unit.to_owned(), path: metric.full() });
        }
    };
    if is_time {
        Ok(BudgetLimit::Number(number * ns))
    } else {
        Err(BudgetError::NoTime(metric.full()))
    }
}
