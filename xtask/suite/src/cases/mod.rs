//! The cases of the lab.

mod budget;
mod dashboard;
mod each;
mod failed_migration;
mod hardship;
mod life;
mod observed;
mod oracle;
mod readme;
mod recordings;
mod reload;
mod reports;
mod scenarios;
mod selftest;
mod stacks;
mod streams;
mod timeline;
mod unprobed;

use lab::{
    Series,
    kernels::{self, SelectCase},
};

use crate::case::{LabCase, vendor};

/// All cases, in the order in which they start; with `rarely`, those of `--all`, too.
pub fn all(rarely: bool) -> Vec<LabCase> {
    let mut cases = streams::cases();
    cases.extend(failed_migration::cases(rarely));
    cases.extend(scenarios::cases(rarely));
    cases.extend(hardship::cases());
    cases.extend(unprobed::cases());
    cases.extend(life::cases());
    cases.extend(budget::cases(rarely));
    cases.extend(recordings::cases(rarely));
    cases.extend(each::cases(rarely));
    cases.extend(stacks::cases(rarely));
    cases.extend(selftest::cases());
    cases.extend(reload::cases());
    cases.extend(readme::cases());
    cases.extend(reports::cases());
    cases.extend(dashboard::cases());
    cases
}

/// The kernels for a group of cases: those that the list has it on, or all.
fn on(case: SelectCase, all: bool) -> impl Iterator<Item = &'static Series> {
    kernels::all().iter().filter(move |series| all || series.cases.contains(&case))
}

/// Every kernel with KVM's defaults, then every kernel with its other sets of parameters.
fn matrix(rarely: bool) -> impl Iterator<Item = (&'static Series, &'static str)> {
    let defaults = kernels::all().iter().map(|series| (series, ""));
    let others = kernels::all().iter().flat_map(move |series| {
        series.parameters(vendor(), rarely).map(move |parameters| (series, parameters))
    });
    defaults.chain(others)
}

/// Two CPUs where the emulator is at its steadiest, with KVM's defaults; else one.
fn cpus_for(parameters: &str) -> u32 {
    if parameters.is_empty() { 2 } else { 1 }
}
