use std::collections::BTreeMap;

use super::*;
use crate::{
    budget::Budget,
    model::Model,
    plan::{Coverage, Mmu},
    report::Required,
};

/// The report of a command that ended so, having failed a budget and lacking coverage, or not.
fn report(status: Option<i32>, over_budget: bool, uncovered: bool) -> Report {
    let coverage = Coverage {
        mmu: Mmu::Tdp,
        signals: Vec::new(),
        timed_faults: 1,
        spte: collapse_common::SpteLayout::NPT,
    };
    let host = serde_json::from_str(include_str!("../../../tests/fixtures/kernels/6.12.json"));
    let signal = status.is_none().then_some(9);
    let command = CommandReport { argv: vec!["x".to_owned()], status, signal };
    let mut report = Report::new(&Model::default(), &coverage, &host.unwrap(), Some(command));
    report.losses = BTreeMap::from([("ring_full_changes".into(), u64::from(over_budget))]);
    report.check(&["losses == 0".parse::<Budget>().unwrap()], None, Some(Required::Full)).unwrap();
    if let Some(required) = &mut report.required_coverage {
        required.ok = !uncovered;
    }
    report
}

fn code(report: &Report, written: bool) -> u8 {
    let failure = || Failure { exit: Exit::Output, error: anyhow::anyhow!("disk full") };
    let written = if written { Ok(()) } else { Err(failure()) };
    let command = report.command.as_ref().unwrap();
    let exit = Exit::of_command(command.status, command.signal);
    verdict(exit, report, written).unwrap_or_else(|failure| failure.exit).code()
}

#[test]
fn the_commands_failure_comes_first() {
    for (status, code_of_command) in [(Some(7), 7), (None, 137)] {
        for written in [true, false] {
            assert_eq!(code(&report(status, true, true), written), code_of_command);
        }
    }
    let success = |over_budget, uncovered| report(Some(0), over_budget, uncovered);
    assert_eq!(code(&success(true, true), false), 120);
    assert_eq!(code(&success(true, true), true), 118);
    assert_eq!(code(&success(false, true), true), 117);
    assert_eq!(code(&success(false, false), true), 0);
}
