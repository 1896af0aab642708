//! Reports to judge.

use collapse_common::abi::VmKey;
use collapse_feed::{Batch, Event, EventKind, Machine, Mmu, fixtures::full_coverage};
use collapse_model::Model;
use serde_json::Value;

use super::*;
use crate::CommandReport;

/// A report of one VM of which nothing is known yet, and of nothing else.
fn base() -> Report {
    let mut model = Model::default();
    let vm = VmKey { kvm: 1, born: 5 };
    let events = vec![Event { ts: 5, vm, tid: 7, kind: EventKind::VmSeen }];
    model.apply(&Batch { at: 10, events, ..Batch::default() });
    Report::of(&model, &full_coverage(Mmu::Tdp), Machine::default(), None)
}

/// Puts what `patch` has over what `json` has.
fn merge(json: &mut Value, patch: Value) {
    match (json, patch) {
        (Value::Object(json), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge(json.entry(key).or_insert(Value::Null), patch);
            }
        }
        (json, patch) => *json = patch,
    }
}

/// A report of VMs that are as `vms` says, and otherwise empty.
pub(super) fn report(vms: Vec<Value>) -> Report {
    let mut report = base();
    let empty = serde_json::to_value(&report.vms[0]).unwrap();
    let vm = |patch| {
        let mut vm = empty.clone();
        merge(&mut vm, patch);
        serde_json::from_value(vm).unwrap()
    };
    report.vms = vms.into_iter().map(vm).collect();
    report
}

fn judged(demands: &Demands, mut report: Report) -> Option<CheckKind> {
    report.verdicts = demands.judge(&report);
    decisive(&checks(&report))
}

/// A report of a command that ended so, with a signal that is not seen or not.
fn ended(status: Option<i32>, covered: bool) -> Report {
    let mut report = base();
    let signal = status.is_none().then_some(9);
    report.command = Some(CommandReport { argv: Vec::new(), status, signal });
    report.coverage[0].seen = covered;
    report
}

#[test]
fn the_commands_failure_comes_first_and_coverage_last() {
    let demands = |budget: &str| Demands {
        budgets: vec![budget.parse().unwrap()],
        coverage: Some(Required::Full),
        ..Demands::default()
    };
    for status in [Some(7), None] {
        let report = ended(status, false);
        assert_eq!(judged(&demands("splits == 1"), report), Some(CheckKind::Command));
    }
    let succeeded = |budget, covered| judged(&demands(budget), ended(Some(0), covered));
    assert_eq!(succeeded("splits == 1", false), Some(CheckKind::Budget));
    assert_eq!(succeeded("splits == 0", false), Some(CheckKind::Coverage));
    assert_eq!(succeeded("splits == 0", true), None);
}

#[test]
fn nothing_is_demanded_by_default() {
    let mut report = base();
    report.coverage[0].seen = false;
    assert_eq!(judged(&Demands::default(), report), None);
}
