//! Parts of the recording of a real run.

use std::path::PathBuf;

use collapse_feed::recording::{Excerpt, Replay};
use collapse_model::Model;
use collapse_report::Report;

/// The report on what happened in the recording's seconds from `since` to `until`, and the moments at which it
/// begins and ends.
fn report(since: u64, until: u64) -> Report {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recorded");
    let replay = Replay::open(&folder.join("four-guests.rec"));
    let (mut replay, mut model) = (replay.expect("a recording"), Model::default());
    let mut excerpt = None;
    while let Some(update) = replay.next_update().expect("a whole recording") {
        let at = |seconds: u64| update.at().saturating_add(seconds.saturating_mul(1_000_000_000));
        let excerpt = excerpt.get_or_insert_with(|| Excerpt::new(at(since), at(until)));
        if excerpt.is_before(&update) {
            break;
        }
        for update in excerpt.take(update) {
            model.update(&update, replay.coverage());
        }
    }
    Report::new(&model, replay.coverage(), replay.machine().clone(), None)
}

/// Counts of each VM, by its name.
fn counts(report: &Report) -> Vec<(String, [u64; 5])> {
    let mut counts: Vec<_> = report
        .vms
        .iter()
        .map(|vm| {
            let total = |key: &str| {
                let mut metrics = vm.changes.iter();
                metrics.find(|(metric, _)| metric.key == key).map_or(0, |(_, counts)| counts.total)
            };
            let faults = vm.faults.map_or(0, |faults| faults.total);
            let stall = vm.stall.as_ref().map_or(0, |stall| stall.total_ns);
            let name = vm.name.clone().expect("a name");
            (name, [total("splits"), total("zaps"), total("installs"), faults, stall])
        })
        .collect();
    counts.sort();
    counts
}

#[test]
fn parts_add_up_to_the_whole() {
    const END: u64 = u64::MAX;
    let whole = counts(&report(0, END));
    assert_eq!(whole.len(), 4);
    let parts = [(0, 11), (11, 30), (30, 52), (52, END)].map(|(since, until)| report(since, until));
    for (name, all) in &whole {
        let of_part = |part| {
            let counts = counts(part);
            counts.into_iter().find(|(other, _)| other == name).map_or([0; 5], |(_, n)| n)
        };
        let sum = parts.iter().map(of_part).reduce(|a, b| std::array::from_fn(|at| a[at] + b[at]));
        assert_eq!(sum.as_ref(), Some(all), "{name}");
    }
    // Each begins where the one before ends, and adds up with KVM's gauges.
    for (part, next) in parts.iter().zip(&parts[1..]) {
        let end = part.started_ns.expect("a beginning") + part.window_ns;
        assert_eq!(Some(end), next.started_ns);
    }
    let exact = |vm: &collapse_report::VmReport| vm.reconciliation.off == 0;
    assert!(parts.iter().flat_map(|part| &part.vms).all(exact));
    assert!(parts[1].vms.iter().all(|vm| !vm.created && vm.name.is_some()));
}
