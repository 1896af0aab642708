use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::{super::tests, *};
use crate::{SpanReport, gate::parse_budgets};
use collapse_feed::Slot;
use collapse_model::Work;

fn span(duration_ns: u64) -> SpanReport {
    SpanReport {
        slot: Slot { id: 0, as_id: 0, base_gfn: 0, npages: 512, flags: 0, userspace_addr: None },
        start_ns: 5,
        duration_ns,
        work: Work::default(),
        race: None,
        yields: None,
        pages_before: None,
        pages_after: None,
    }
}

fn report() -> Report {
    let vms = [
        json!({
        "pid": 10, "tid": 11, "fd": 4, "name": "db",
        "recovery_rate": 0.5,
        "splits": {"total": 8, "by_level": {"2m": 8}, "by_cause": {"eager_split": 8}},
        "regions": {"lost": 8, "recovered": 4, "outstanding": 4, "refaulted_small": 4},
        "time_to_recover": {"count": 4, "p99_ns": 1_500_000_000_u64},
        "latency": null,
        "stall": {
            "total_ns": 3_000_000_000_u64, "error_ns": 300_000_000, "upper_ns": 3_600_000_000_u64,
            "by_cause": {"guest_fault": 100}, "upper_by_cause": {"guest_fault": 200},
        },
        "reconciliation": {"grade": "exact"},
        "collapse_spans": [span(10), span(2_000_000)],
                }),
        json!({
            "pid": 20, "tid": 20, "fd": 4, "name": "web",
            "recovery_rate": 1.0,
            "splits": {"total": 2, "by_level": {"2m": 2}, "by_cause": {"nx_recovery": 2}},
            "regions": {"lost": 2, "recovered": 2, "refaulted_small": 0},
            "time_to_recover": {"count": 2, "p99_ns": 200_000_000},
            "latency": null,
            "reconciliation": {"grade": "exact"},
            "collapse_spans": [],
        }),
    ];
    let mut report = tests::report(vms.into());
    let reason = "fault_latency is not seen: no such function";
    report.vms[0].unknown = BTreeMap::from([("latency".into(), reason.to_owned())]);
    report.settled = true;
    report.losses =
        BTreeMap::from([("ring_full_changes".into(), 2), ("ring_full_marks".into(), 1)]);
    report
}

fn check(budget: &str) -> BudgetReport {
    budget.parse::<Budget>().unwrap_or_else(|e| panic!("{budget}: {e}")).check(&report())
}

fn error(budget: &str) -> String {
    let error = budget.parse::<Budget>().err();
    error.unwrap_or_else(|| panic!("{budget} was understood")).to_string()
}

#[test]
fn what_is_kept() {
    for budget in [
        "recovery_rate >= 0.5",
        "recovery_rate>=50%",
        "time_to_recover.p99 < 2s",
        "time_to_recover.p99_ns <= 1500000000",
        "splits.by_cause.zap_all == 0",
        "splits <= 8",
        "splits.total <= 8",
        "vm[web].recovery_rate == 1",
        "vm[20].splits.by_cause.nx_recovery == 2",
        "vm[11-4].splits == 8",
        "vm[*].splits > 1",
        "total.splits == 10",
        "total.splits.by_level.2m == 10",
        "total.recovery_rate == 60%",
        "total.recovery_rate_touched == 60 %",
        "total.time_to_recover.count == 6",
        "losses == 3",
        "losses.ring_full_changes < 3",
        "reconciliation.grade == exact",
        "settled == true",
        "vm[db].stall >= 3s",
        "vm[db].stall < 3601ms",
        "vm[db].stall.by_cause.guest_fault <= 200ns",
        "vm[db].stall.by_cause < 1ms",
        "vm[db].collapse_spans.slot.id == 0",
        "total.stall < 3601ms",
        "vm[db].collapse_spans.duration <= 2ms",
    ] {
        let report = check(budget);
        assert!(report.ok, "{report:?}");
    }
}

#[test]
fn what_is_not_kept() {
    for (budget, vm, reason) in [
        ("recovery_rate >= 0.99", Some("db (pid 10)"), "it is 0.5000"),
        ("time_to_recover.p99 < 1s", Some("db (pid 10)"), "it is 1.5 s"),
        ("splits.by_cause.nx_recovery == 0", Some("web (pid 20)"), "it is 2"),
        ("total.splits < 10", None, "it is 10"),
        ("losses == 0", None, "it is 3"),
        ("vm[db].stall.by_cause.guest_fault < 150ns", Some("db (pid 10)"), "it is up to 200 ns"),
        ("reconciliation.grade != exact", Some("db (pid 10)"), "it is exact"),
        ("vm[db].collapse_spans.duration < 1ms", Some("db (pid 10)"), "it is 2.0 ms"),
        ("vm[none].splits == 0", None, "there is no such VM"),
    ] {
        let report = check(budget);
        let failed = report.checks.iter().find(|check| !check.ok).unwrap();
        assert!(!report.ok);
        assert_eq!(
            (failed.vm.as_deref(), failed.reason.as_deref()),
            (vm, Some(reason)),
            "{budget}"
        );
    }
}

#[test]
fn what_is_not_measured_fails_and_says_so() {
    let report = check("vm[db].latency.p99 < 1h");
    let reason = "it is not known: fault_latency is not seen: no such function";
    assert_eq!(report.checks[0].reason.as_deref(), Some(reason));
    assert!(!check("vm[web].collapse_spans.duration < 1h").ok);
    assert!(!check("latency.by_outcome.fast.p99 < 1h").ok);
    assert!(!check("total.latency.count < 1000").ok);
    let none = tests::report(Vec::new());
    let none = "recovery_rate >= 0".parse::<Budget>().unwrap().check(&none);
    assert!(!none.ok);
}

#[test]
fn errors_name_the_nearest() {
    for (budget, says) in [
        ("recovery_rat >= 1", "did you mean 'recovery_rate'?"),
        ("time_to_recovery.p99 < 2s", "did you mean 'time_to_recover.p99'?"),
        ("time_to_recover.p999 < 2s", "did you mean 'time_to_recover.p99'?"),
        ("splits.by_cause.nx_recover == 0", "did you mean 'splits.by_cause.nx_recovery'?"),
        ("vm[x].spits == 0", "did you mean 'splits'?"),
        ("lossses == 0", "did you mean 'losses'?"),
        ("splits.total.more == 0", "splits.total is one number"),
        ("time_to_recover < 2s", "is not one number: name one of"),
        ("time_to_recover.p99 < 2", "give '2' a unit"),
        ("stall.by_cause.guest_fault < 2", "give '2' a unit"),
        ("splits < 2s", "splits.total is not a time"),
        ("splits < 2%", "'%' is not a unit"),
        ("splits < many", "'many' is not a number"),
        ("splits", "expected a comparison"),
        ("splits = 2", "expected one of"),
        ("vm[x.splits == 0", "expected ']."),
        ("total.time_to_recover.p99 < 2s", "cannot be added up"),
        ("total.pid < 2", "cannot be added up"),
        ("total.collapse_spans.slot.id < 2", "cannot be added up"),
        ("total.episodes.number < 2", "cannot be added up"),
        ("total.reconciliation.grade == exact", "cannot be added up"),
        ("reconciliation.grade >= exact", "is a word"),
        ("", "expected a comparison"),
    ] {
        assert!(error(budget).contains(says), "{budget}: {}", error(budget));
    }
}

#[test]
fn files_hold_one_per_line() {
    let budgets = parse_budgets("# all\n\nsplits == 0 # none\n  losses == 0\n").unwrap();
    let texts: Vec<_> = budgets.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["splits == 0", "losses == 0"]);
    let error = parse_budgets("splits == 0\nsplit == 0").unwrap_err().to_string();
    assert!(error.starts_with("line 2: split == 0: no metric"), "{error}");
}

proptest! {
    /// Anything is understood or refused in words.
    #[test]
    fn any_text_is_answered(text in "(vm\\[.{0,4}\\]\\.)?[a-z_.]{0,30}[<>=!]{0,3}.{0,12}") {
        if let Err(error) = text.parse::<Budget>() {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_bytes_are_answered(text in ".*") {
        let _ = text.parse::<Budget>();
    }

    /// Comparisons are what they say.
    #[test]
    fn comparisons_compare(value in 0u32..50, limit in 0u32..50, space in " {0,2}") {
        let report = tests::report(vec![json!({"splits": {"total": value}})]);
        for (sign, expected) in [
            ("<", value < limit), ("<=", value <= limit), (">", value > limit),
            (">=", value >= limit), ("==", value == limit), ("!=", value != limit),
        ] {
            let budget: Budget = format!("splits{space}{sign}{space}{limit}").parse().unwrap();
            prop_assert_eq!(budget.check(&report).ok, expected, "{} {}", value, budget);
        }
    }

    /// Units are what they say.
    #[test]
    fn units_are_nanoseconds(n in 1u64..1000) {
        for (unit, ns) in [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)] {
            let stall = json!({"total_ns": n * ns, "by_cause": {}});
            let report = tests::report(vec![json!({"stall": stall})]);
            let budget: Budget = format!("stall == {n}{unit}").parse().unwrap();
            prop_assert!(budget.check(&report).ok);
        }
    }
}

/// A limit from above is held against what an estimate may be at most.
#[test]
fn an_estimate_is_judged_by_its_upper_bound() {
    let missed = |budget| {
        let check = check(budget);
        assert!(!check.ok, "{check:?}");
        (check.metric, check.checks[0].reason.clone().unwrap())
    };
    let (metric, reason) = missed("vm[db].stall < 3500ms");
    assert_eq!((metric.as_str(), reason.as_str()), ("stall.upper_ns", "it is up to 3.6 s"));
    let (metric, reason) = missed("vm[db].stall.by_cause.guest_fault < 150ns");
    assert_eq!(metric, "stall.upper_by_cause.guest_fault");
    assert_eq!(reason, "it is up to 200 ns");
    let (metric, reason) = missed("vm[db].stall > 3200ms");
    assert_eq!((metric.as_str(), reason.as_str()), ("stall.total_ns", "it is 3.0 s"));
}
