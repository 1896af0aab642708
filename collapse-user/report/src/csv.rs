//! VMs over time, a line per VM and moment. Counts grow; what is not known is empty.

use super::{
    Moment, Report, VmReport,
    table::{harmless, written},
};

/// Names of the columns.
const HEAD: &str = "vm,pid,name,time_s,pages_4k,pages_2m,pages_1g,splits,zaps,installs,lost,recovered,\
    outstanding,faults,fast_faults,stall_ns,dirty_logging";

/// Renders the timelines of a report.
pub(super) fn render(report: &Report) -> String {
    let start = report.started_ns.unwrap_or_default();
    let mut rows = vec![HEAD.split(',').map(str::to_owned).collect()];
    for (number, vm) in (1..).zip(&report.vms) {
        rows.extend(vm.timeline.iter().map(|moment| line(number, vm, moment, start)));
    }
    written(&rows)
}

fn line(number: u64, vm: &VmReport, moment: &Moment, start: u64) -> Vec<String> {
    let known = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    let time = (moment.at_ns.saturating_sub(start)) as f64 / 1e9;
    vec![
        number.to_string(),
        known(vm.pid.map(u64::from)),
        harmless(vm.name.as_deref().unwrap_or_default()).into_owned(),
        format!("{time:.6}"),
        known(moment.pages.map(|pages| pages.small)),
        known(moment.pages.map(|pages| pages.huge)),
        known(moment.pages.map(|pages| pages.giant)),
        moment.splits.to_string(),
        moment.zaps.to_string(),
        moment.installs.to_string(),
        moment.lost.to_string(),
        moment.recovered.to_string(),
        moment.outstanding.to_string(),
        known(moment.faults),
        known(moment.fast_faults),
        known(moment.stall_ns),
        known(moment.logging.map(u64::from)),
    ]
}
