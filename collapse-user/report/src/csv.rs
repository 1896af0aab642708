//! VMs over time, a line per VM and moment. Counts grow; what is not known is empty.

use super::{
    FindingReport, Moment, Report, VmReport,
    table::{harmless, written},
};
use collapse_model::metric::METRICS;

/// Renders the timelines of a report.
pub(super) fn render(report: &Report) -> String {
    let start = report.started_ns.unwrap_or_default();
    let mut rows = vec![head()];
    for (number, vm) in (1..).zip(&report.vms) {
        rows.extend(vm.timeline.iter().map(|moment| line(number, vm, moment, start)));
    }
    written(&rows)
}

fn head() -> Vec<String> {
    let before = ["vm", "pid", "name", "time_s", "pages_4k", "pages_2m", "pages_1g"];
    let metrics = METRICS.iter().map(|metric| metric.key);
    before
        .into_iter()
        .chain(metrics)
        .chain(["dirty_logging", "findings"])
        .map(str::to_owned)
        .collect()
}

fn line(number: u64, vm: &VmReport, moment: &Moment, start: u64) -> Vec<String> {
    let known = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    let time = (moment.at_ns.saturating_sub(start)) as f64 / 1e9;
    let before = [
        number.to_string(),
        known(vm.pid.map(u64::from)),
        harmless(vm.name.as_deref().unwrap_or_default()).into_owned(),
        format!("{time:.6}"),
        known(moment.pages.map(|pages| pages.small)),
        known(moment.pages.map(|pages| pages.huge)),
        known(moment.pages.map(|pages| pages.giant)),
    ];
    let metrics = METRICS.iter().map(|metric| known(moment.value(metric.id)));
    let holds = |finding: &&FindingReport| finding.holds_at(moment.at_ns);
    let findings: Vec<_> = vm.findings.iter().filter(holds).map(|finding| &*finding.name).collect();
    let logging = known(moment.logging.map(u64::from));
    before.into_iter().chain(metrics).chain([logging, findings.join(";")]).collect()
}
