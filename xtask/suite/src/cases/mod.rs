//! The cases of the lab.

mod budget;
mod compare;
mod container;
mod dashboard;
mod each;
mod explained;
mod failed_migration;
mod hardship;
mod host_work;
mod life;
mod lockdown;
mod metrics;
mod observed;
mod oracle;
mod otlp;
mod privileges;
mod progress;
mod qemu;
mod qemu_states;
mod readme;
mod ready;
mod recordings;
mod reload;
mod reports;
mod rights;
mod scenarios;
mod selftest;
mod soak;
mod stacks;
mod states;
mod streams;
mod switched_off;
mod timeline;
mod unprobed;

use lab::{
    Series,
    kernels::{self, CpuVendor, SelectCase},
};

use crate::case::LabCase;

/// All cases, in the order in which they start; with `rarely`, those of `--all`, too.
pub fn all(rarely: bool) -> Vec<LabCase> {
    let mut cases = streams::cases(rarely);
    cases.extend(failed_migration::cases(rarely));
    cases.extend(scenarios::cases(rarely));
    cases.extend(host_work::cases(rarely));
    cases.extend(states::cases(rarely));
    cases.extend(qemu::cases(rarely));
    cases.extend(hardship::cases());
    cases.extend(unprobed::cases());
    cases.extend(switched_off::cases());
    cases.extend(life::cases());
    cases.extend(budget::cases(rarely));
    cases.extend(recordings::cases(rarely));
    cases.extend(each::cases(rarely));
    cases.extend(stacks::cases(rarely));
    cases.extend(selftest::cases());
    cases.extend(reload::cases(rarely));
    cases.extend(readme::cases());
    cases.extend(ready::cases());
    cases.extend(metrics::cases());
    cases.extend(otlp::cases());
    cases.extend(privileges::cases(rarely));
    cases.extend(progress::cases(rarely));
    cases.extend(rights::cases());
    cases.extend(container::cases());
    cases.extend(compare::cases(rarely));
    cases.extend(lockdown::cases(rarely));
    cases.extend(soak::cases(rarely));
    cases.extend(reports::cases());
    cases.extend(dashboard::cases(rarely));
    cases
}

/// The kernels for a group of cases: those that the list has it on, or all.
fn on(case: SelectCase, all: bool) -> impl Iterator<Item = &'static Series> {
    kernels::all().iter().filter(move |series| all || series.cases.contains(&case))
}

/// Every kernel with KVM's defaults, then every kernel with its other sets of parameters.
fn matrix(cpu: CpuVendor, rarely: bool) -> impl Iterator<Item = (&'static Series, &'static str)> {
    let mut sets: Vec<(_, &str)> = Vec::new();
    for series in kernels::all() {
        sets.extend(series.parameters(cpu, rarely).map(|parameters| (series, parameters)));
    }
    sets.sort_by_key(|(_, parameters)| !parameters.is_empty());
    sets.into_iter()
}

/// Two CPUs where the emulator is at its steadiest, with AMD's and KVM's defaults; else one.
fn cpus_for(cpu: CpuVendor, parameters: &str) -> u32 {
    if cpu == CpuVendor::Amd && parameters.is_empty() { 2 } else { 1 }
}
