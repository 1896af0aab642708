use proptest::prelude::*;
use serde_json::json;

use super::*;

fn vm(name: &str, splits: u64, rate: Option<f64>) -> Value {
    json!({"name": name, "pid": 7, "splits": {"total": splits}, "recovery_rate": rate,
           "unknown": {"recovery_rate": "no region lost its huge leaf"}})
}

fn report(vms: &[Value]) -> Value {
    json!({"schema": SCHEMA, "vms": vms})
}

fn baseline(reports: &[Value], limit: f64) -> Baseline {
    let read = reports.iter().map(|report| Baseline::read(&report.to_string()).unwrap());
    Baseline::new(read.collect(), limit)
}

fn verdict(checks: &[BaselineReport], metric: &str) -> Verdict {
    checks.iter().find(|check| check.metric.as_deref() == Some(metric)).unwrap().verdict
}

#[test]
fn every_metric_exists() {
    assert_eq!(METRICS.len(), 15);
}

#[test]
fn worse_is_beyond_the_limit() {
    let one = baseline(&[report(&[vm("a", 100, Some(1.0))])], 0.1);
    for (splits, rate, expected) in [
        (110, 0.9, [Verdict::Same, Verdict::Same]),
        (111, 0.89, [Verdict::Worse, Verdict::Worse]),
        (50, 1.0, [Verdict::Better, Verdict::Same]),
    ] {
        let checks = one.check(&report(&[vm("a", splits, Some(rate))]));
        let got = ["splits.total", "recovery_rate"].map(|metric| verdict(&checks, metric));
        assert_eq!(got, expected, "{splits} {rate}");
    }
}

#[test]
fn noise_is_no_change_for_the_worse() {
    let runs = [100, 140, 102].map(|splits| report(&[vm("a", splits, None)]));
    let noisy = baseline(&runs, 0.1);
    let checks = noisy.check(&report(&[vm("a", 139, None)]));
    assert_eq!(verdict(&checks, "splits.total"), Verdict::Same);
    let checks = noisy.check(&report(&[vm("a", 141, None)]));
    let worse = checks.iter().find(|check| check.verdict == Verdict::Worse).unwrap();
    assert_eq!((worse.median, worse.spread, worse.runs), (Some(102.0), Some((100.0, 140.0)), 3));
}

#[test]
fn from_nothing_to_something_is_worse() {
    let none = baseline(&[report(&[vm("a", 0, None)])], 0.1);
    let checks = none.check(&report(&[vm("a", 1, None)]));
    assert_eq!((verdict(&checks, "splits.total"), checks[0].change), (Verdict::Worse, None));
}

#[test]
fn what_is_not_known_now_is_said() {
    let known = baseline(&[report(&[vm("a", 1, Some(1.0))])], 0.1);
    let checks = known.check(&report(&[vm("a", 1, None)]));
    assert_eq!(verdict(&checks, "recovery_rate"), Verdict::Unknown);
    assert_eq!(checks[0].reason.as_deref(), Some("no region lost its huge leaf"));
}

#[test]
fn vms_are_compared_by_name() {
    let two = baseline(&[report(&[vm("a", 1, None), vm("b", 100, None), vm("a", 50, None)])], 0.1);
    let checks = two.check(&report(&[
        vm("b", 100, None),
        vm("a", 1, None),
        vm("a", 50, None),
        vm("c", 1, None),
    ]));
    let verdicts: Vec<_> = checks.iter().map(|check| check.verdict).collect();
    assert_eq!(verdicts, [Verdict::Same, Verdict::Same, Verdict::Same, Verdict::NoCounterpart]);
    // Where there is one on each side, names may differ.
    let one = baseline(&[report(&[vm("a", 1, None)])], 0.1);
    assert_eq!(one.check(&report(&[vm("z", 1, None)]))[0].verdict, Verdict::Same);
}

#[test]
fn nothing_to_compare_is_no_pass() {
    let other = baseline(&[report(&[vm("a", 1, None), vm("b", 1, None)])], 0.1);
    assert!(!is_ok(&other.check(&report(&[]))));
    assert!(!is_ok(&other.check(&report(&[vm("c", 1, None)]))));
    assert!(is_ok(&other.check(&report(&[vm("a", 1, None), vm("c", 1, None)]))));
    assert!(is_ok(&[]));
}

#[test]
fn other_files_are_refused() {
    assert!(Baseline::read("{}").is_err());
    assert!(Baseline::read("nonsense").is_err());
}

proptest! {
    /// Worse is what no earlier run was, and what the limit does not allow.
    #[test]
    fn worse_is_outside_the_spread(
        mut earlier in prop::collection::vec(0u64..1000, 1..8), now in 0u64..1000,
    ) {
        let runs: Vec<_> = earlier.iter().map(|n| report(&[vm("a", *n, None)])).collect();
        let checks = baseline(&runs, 0.05).check(&report(&[vm("a", now, None)]));
        earlier.sort_unstable();
        let middle = |at| earlier[at] as f64;
        let median = f64::midpoint(middle((earlier.len() - 1) / 2), middle(earlier.len() / 2));
        let worse = now > earlier[earlier.len() - 1] && now as f64 - median > median * 0.05;
        prop_assert_eq!(verdict(&checks, "splits.total") == Verdict::Worse, worse);
    }
}
