use proptest::prelude::*;
use serde_json::json;

use super::{super::tests::report, *};
use crate::gate::{CheckState, Demands, checks};

fn vm(name: &str, splits: u64, rate: Option<f64>) -> Value {
    json!({"name": name, "pid": 7, "splits": {"total": splits}, "recovery_rate": rate})
}

/// Earlier reports of these VMs each.
fn baseline(runs: Vec<Vec<Value>>, limit: f64) -> Baseline {
    let read = runs.into_iter().map(|vms| {
        let report = serde_json::to_string(&report(vms)).unwrap();
        Baseline::read(&report).unwrap()
    });
    Baseline::new(read.collect(), limit)
}

fn row<'a>(rows: &'a [BaselineReport], metric: &str) -> &'a BaselineReport {
    rows.iter().find(|row| row.metric.as_deref() == Some(metric)).unwrap()
}

fn verdict(rows: &[BaselineReport], metric: &str) -> BaselineVerdict {
    row(rows, metric).verdict
}

#[test]
fn every_metric_exists_and_those_with_a_direction_are_compared() {
    let compared: Vec<_> = COMPARED.iter().map(|(path, _)| path.clone()).collect();
    for metric in &METRICS {
        let path = MetricPath::find(PathRoot::Vm, metric.path).unwrap();
        assert_eq!(compared.contains(&path), metric.better.is_some(), "{}", metric.path);
    }
    assert!(compared.len() > FIGURES.len() + DURATIONS.len());
}

#[test]
fn worse_is_beyond_the_limit() {
    let one = baseline(vec![vec![vm("a", 100, Some(1.0))]], 0.1);
    for (splits, rate, expected) in [
        (110, 0.9, [BaselineVerdict::Same, BaselineVerdict::Same]),
        (111, 0.89, [BaselineVerdict::Worse, BaselineVerdict::Worse]),
        (50, 1.0, [BaselineVerdict::Better, BaselineVerdict::Same]),
    ] {
        let rows = one.compare(&report(vec![vm("a", splits, Some(rate))]));
        let got = ["splits.total", "recovery_rate"].map(|metric| verdict(&rows, metric));
        assert_eq!(got, expected, "{splits} {rate}");
    }
}

#[test]
fn noise_is_no_change_for_the_worse() {
    let runs = [100, 140, 102].map(|splits| vec![vm("a", splits, None)]);
    let noisy = baseline(runs.into(), 0.1);
    let rows = noisy.compare(&report(vec![vm("a", 139, None)]));
    assert_eq!(verdict(&rows, "splits.total"), BaselineVerdict::Same);
    let rows = noisy.compare(&report(vec![vm("a", 141, None)]));
    let worse = rows.iter().find(|row| row.verdict == BaselineVerdict::Worse).unwrap();
    assert_eq!((worse.median, worse.spread, worse.runs), (Some(102.0), Some((100.0, 140.0)), 3));
}

#[test]
fn from_nothing_to_something_is_worse() {
    let none = baseline(vec![vec![vm("a", 0, None)]], 0.1);
    let rows = none.compare(&report(vec![vm("a", 1, None)]));
    let splits = row(&rows, "splits.total");
    assert_eq!((splits.verdict, splits.change), (BaselineVerdict::Worse, None));
}

#[test]
fn what_is_not_known_now_is_said() {
    let known = baseline(vec![vec![vm("a", 1, Some(1.0))]], 0.1);
    let rows = known.compare(&report(vec![vm("a", 1, None)]));
    let rate = row(&rows, "recovery_rate");
    assert_eq!(rate.verdict, BaselineVerdict::Unknown);
    assert_eq!(rate.reason.as_deref(), Some("no region lost its huge leaf"));
}

#[test]
fn vms_are_compared_by_name() {
    let two = baseline(vec![vec![vm("a", 1, None), vm("b", 100, None), vm("a", 50, None)]], 0.1);
    let now = [("b", 100), ("a", 1), ("a", 50), ("c", 1)];
    let rows = two.compare(&report(now.map(|(name, splits)| vm(name, splits, None)).into()));
    let is_told = |row: &&BaselineReport| row.metric.as_deref().is_none_or(|m| m == "splits.total");
    let verdicts: Vec<_> = rows.iter().filter(is_told).map(|row| row.verdict).collect();
    let (same, none) = (BaselineVerdict::Same, BaselineVerdict::NoCounterpart);
    assert_eq!(verdicts, [same, same, same, none]);
    // Where there is one on each side, names may differ.
    let one = baseline(vec![vec![vm("a", 1, None)]], 0.1);
    let rows = one.compare(&report(vec![vm("z", 1, None)]));
    assert_eq!(verdict(&rows, "splits.total"), BaselineVerdict::Same);
}

#[test]
fn nothing_to_compare_is_no_pass() {
    let other = baseline(vec![vec![vm("a", 1, None), vm("b", 1, None)]], 0.1);
    let demands = Demands { baseline: Some(other), ..Demands::default() };
    let fails = |vms: Vec<Value>| {
        let mut report = report(vms);
        report.verdicts = demands.judge(&report);
        checks(&report).iter().any(|check| check.state == CheckState::Failed)
    };
    assert!(fails(Vec::new()));
    assert!(fails(vec![vm("c", 1, None)]));
    assert!(!fails(vec![vm("a", 1, None), vm("c", 1, None)]));
}

#[test]
fn other_files_are_refused() {
    for other in ["{}", "[]", "nonsense"] {
        assert!(Baseline::read(other).is_err(), "{other}");
    }
}

proptest! {
    /// Worse is what no earlier run was, and what the limit does not allow.
    #[test]
    fn worse_is_outside_the_spread(
        mut earlier in prop::collection::vec(0u64..1000, 1..8), now in 0u64..1000,
    ) {
        let known = EarlierRuns::new(earlier.iter().map(|n| *n as f64).collect()).unwrap();
        earlier.sort_unstable();
        let middle = |at: usize| earlier[at] as f64;
        let median = f64::midpoint(middle((earlier.len() - 1) / 2), middle(earlier.len() / 2));
        let worse = now > earlier[earlier.len() - 1] && now as f64 - median > median * 0.05;
        let verdict = known.verdict(now as f64, Better::Lower, 0.05);
        prop_assert_eq!(verdict == BaselineVerdict::Worse, worse);
    }
}
