//! The language of budgets: `recovery_rate >= 0.99`, `vm[guest].time_to_recover.p99 < 2s`.

use super::budget::{Budget, Comparison, Limit, Target};
use super::path::{Kind, Metric, Place};
use crate::VmSelect;

/// What ends a comparison's left side.
const SIGNS: [char; 4] = ['<', '>', '=', '!'];

/// Metrics of a VM that mean nothing when added up.
const NO_SUMS: [&str; 11] = [
    "pid", "tid", "fd", "born_ns", "at_ns", "mean_ns", "min_ns", "p50_ns", "p90_ns", "p99_ns",
    "max_ns",
];

/// Ratios that can be had of all VMs together, from what they are ratios of.
const RATES: [&str; 2] = ["recovery_rate", "recovery_rate_touched"];

/// Parses a budget.
pub fn parse(text: &str) -> Result<Budget, String> {
    let text = text.trim();
    let (select, rest) = vm(text)?;
    let sign = rest.find(SIGNS).ok_or("expected a comparison such as 'recovery_rate >= 0.99'")?;
    let (path, rest) = rest.split_at(sign);
    let (comparison, limit) = comparison(rest)?;
    let segments: Vec<_> = path.trim().split('.').collect();
    let is_name = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !segments.iter().all(|part| is_name(part)) {
        return Err(format!("'{}' is no metric: expected names with dots between", path.trim()));
    }
    let (target, metric) = metric(select, &segments)?;
    let limit =
        limit_for(&metric, segments.last().copied().unwrap_or_default(), comparison, limit)?;
    Ok(Budget { text: text.to_owned(), target, metric, comparison, limit })
}

/// Takes `vm[…].` off the front.
fn vm(text: &str) -> Result<(Option<VmSelect>, &str), String> {
    let Some(rest) = text.strip_prefix("vm[") else { return Ok((None, text)) };
    let (select, rest) =
        rest.split_once("].").ok_or("expected '].' after the VM, as in vm[NAME].splits")?;
    let select = select.parse().unwrap_or_else(|never| match never {});
    Ok((Some(select), rest))
}

fn metric(select: Option<VmSelect>, segments: &[&str]) -> Result<(Target, Metric), String> {
    if let Some(select) = select {
        return Ok((Target::Vm(select), Metric::find(Place::Vm, segments)?));
    }
    if let ["total", path @ ..] = segments {
        let metric = Metric::find(Place::Vm, path)?;
        let full = metric.path();
        let last = full.rsplit('.').next().unwrap_or_default();
        let summable = matches!(metric.kind(), Kind::Count | Kind::Ns) && !NO_SUMS.contains(&last);
        if !summable && !RATES.contains(&full.as_str()) {
            return Err(format!("{full} cannot be added up over VMs"));
        }
        return Ok((Target::Total, metric));
    }
    let first = segments.first().copied().unwrap_or_default();
    if !Metric::begins(Place::Vm, first) && Metric::begins(Place::Report, first) {
        return Ok((Target::Report, Metric::find(Place::Report, segments)?));
    }
    Ok((Target::EachVm, Metric::find(Place::Vm, segments)?))
}

/// The sign, and the text after it.
fn comparison(text: &str) -> Result<(Comparison, &str), String> {
    use Comparison::{Above, AtLeast, AtMost, Below, Equal, NotEqual};
    for (sign, comparison) in [
        (">=", AtLeast),
        ("<=", AtMost),
        ("==", Equal),
        ("!=", NotEqual),
        (">", Above),
        ("<", Below),
    ] {
        if let Some(rest) = text.strip_prefix(sign) {
            return Ok((comparison, rest.trim()));
        }
    }
    Err("expected one of >= <= > < == !=".to_owned())
}

/// The limit in the unit of the metric.
fn limit_for(
    metric: &Metric,
    name: &str,
    comparison: Comparison,
    text: &str,
) -> Result<Limit, String> {
    let path = metric.path();
    if metric.kind() == Kind::Word {
        let word = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        return match comparison {
            Comparison::Equal | Comparison::NotEqual if word => Ok(Limit::Word(text.to_owned())),
            _ => Err(format!("{path} is a word: compare it by == or != with one")),
        };
    }
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: f64 = number.parse().map_err(|_| format!("'{text}' is no number"))?;
    let ns = match unit.trim_start() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        "%" if metric.kind() == Kind::Ratio => return Ok(Limit::Number(number / 100.0)),
        "" if metric.kind() != Kind::Ns || name.ends_with("_ns") || number == 0.0 => 1.0,
        "" => return Err(format!("{path} is a time: give '{text}' a unit such as ms or s")),
        unit => return Err(format!("'{unit}' is no unit of {path}")),
    };
    if metric.kind() == Kind::Ns {
        return Ok(Limit::Ns(number * ns));
    }
    if unit.is_empty() { Ok(Limit::Number(number)) } else { Err(format!("{path} is no time")) }
}
