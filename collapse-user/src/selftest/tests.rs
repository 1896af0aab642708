//! Expectations against what was measured in the lab.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::{Value, json};

use super::{
    expect::{Check, Facts, Want, expect},
    guest::{Account, REGIONS},
    verdict::Verdict,
};
use crate::{
    kernel::inspect::Inspected,
    plan::{FaultLatency, Mmu, Paging, Plan},
    report::{Host, Style},
};

/// rmap MMU without gauges; recovery by refault, and the same with PML; recovery in place.
const RECORDED: [&str; 4] = ["5.10", "6.12", "6.12-intel", "6.18"];

/// One run of the test guest.
struct Run {
    facts: Facts,
    account: Account,
    subject: Value,
}

impl Run {
    fn recorded(kernel: &str) -> Self {
        let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let host = Inspected::from_file(&fixtures.join(format!("kernels/{kernel}.json"))).unwrap();
        let text = fs::read(fixtures.join(format!("selftest/{kernel}.json"))).unwrap();
        let mut run: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
        Self {
            facts: Facts::new(&host, &Plan::new(&host, FaultLatency::default()).coverage(), 0),
            account: serde_json::from_value(run.remove("guest").unwrap()).unwrap(),
            subject: run.remove("vm").unwrap(),
        }
    }

    fn checks(&self) -> Vec<Check> {
        expect(&self.facts, &self.account)
    }

    fn verdict(&self) -> Verdict {
        verdict(&self.checks(), &self.subject)
    }
}

fn verdict(checks: &[Check], subject: &Value) -> Verdict {
    let paging = Paging::default();
    let host = Host { name: None, kernel: "test".to_owned(), mmu: Mmu::Tdp, paging };
    Verdict::new(checks, subject, host)
}

/// The subject with another value at a place that may not be there yet.
fn with(subject: &Value, path: &str, value: Value) -> Value {
    let mut subject = subject.clone();
    let (parent, key) = path.rsplit_once('/').unwrap();
    subject.pointer_mut(parent).unwrap()[key] = value;
    subject
}

#[test]
fn what_was_right_passes() {
    for kernel in RECORDED {
        let verdict = Run::recorded(kernel).verdict();
        assert_eq!(verdict.failed, 0, "{kernel}:\n{}", verdict.text(Style::Plain));
        let without_gauges = kernel == "5.10";
        assert_eq!(verdict.skipped, usize::from(without_gauges), "{kernel}");
    }
}

#[test]
fn every_check_fails_for_what_is_not_known() {
    for kernel in RECORDED {
        let run = Run::recorded(kernel);
        for check in run.checks() {
            for path in &check.paths {
                let unknown = with(&run.subject, path, Value::Null);
                let verdict = verdict(std::slice::from_ref(&check), &unknown);
                let skipped = usize::from(matches!(check.want, Want::Skip(_)));
                assert_eq!((verdict.failed, verdict.skipped), (1 - skipped, skipped), "{path}");
            }
        }
        let nothing = verdict(&run.checks(), &Value::Null);
        assert_eq!(nothing.passed, 0, "{kernel}");
    }
}

#[test]
fn one_too_many_or_too_few_fails() {
    let run = Run::recorded("6.12");
    for check in run.checks() {
        let Want::Count(range) = &check.want else { continue };
        assert!(range.end() - range.start() <= REGIONS, "{} is vague", check.name);
        let path = check.paths[0];
        let rest = check.paths[1..].iter().filter_map(|path| run.subject.pointer(path)?.as_u64());
        let rest: u64 = rest.sum();
        for wrong in [range.start().checked_sub(rest + 1), Some(range.end() + 1 - rest)] {
            let Some(wrong) = wrong else { continue };
            let subject = with(&run.subject, path, wrong.into());
            assert_eq!(verdict(std::slice::from_ref(&check), &subject).failed, 1, "{path}");
        }
    }
}

#[test]
fn what_is_known_to_be_missed_may_be_missing() {
    let mut run = Run::recorded("6.12");
    run.facts.missed = 2;
    for (splits, failed) in [(REGIONS - 2, 0), (REGIONS - 3, 1), (REGIONS + 1, 1)] {
        run.subject = with(&run.subject, "/splits/total", splits.into());
        assert_eq!(run.verdict().failed, failed, "{splits} splits");
    }
}

#[test]
fn what_is_not_seen_is_skipped_with_the_reason() {
    let mut run = Run::recorded("6.12");
    run.facts.unseen.insert(crate::plan::Signal::Collapse, "no function".to_owned());
    run.subject = with(&run.subject, "/collapse_runs", Value::Null);
    run.subject = with(&run.subject, "/collapse_spans", json!([]));
    let verdict = run.verdict();
    assert_eq!(verdict.failed, 0, "{}", verdict.text(Style::Plain));
    let line = format!("  skip  {:<26} (collapse is not seen: no function)\n", "collapse_runs");
    assert!(verdict.text(Style::Plain).contains(&line));
}

#[test]
fn a_failure_shows_what_was_expected() {
    let mut run = Run::recorded("6.12");
    run.subject = with(&run.subject, "/log_on", 0.into());
    let text = run.verdict().text(Style::Plain);
    assert!(text.contains(&format!("  FAIL  {:<26} 0, expected 1\n", "log_on")), "{text}");
    assert!(text.ends_with(" 1 failed, 0 skipped\n"), "{text}");
    assert!(run.verdict().text(Style::Ansi).contains("\x1b[1m  FAIL"));
}
