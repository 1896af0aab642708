//! What a stranger reads first, on recordings of real runs (6.12): the first lines of a VM, and the numbers
//! behind them.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped fails the test")]

use std::path::PathBuf;

use collapse_feed::recording::Replay;
use collapse_model::{Model, Outcome};
use collapse_report::{
    Format, Report, Style, VmReport,
    gate::{Budget, Demands},
};

/// The report on a recording.
fn report(name: &str) -> Report {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recorded");
    let mut replay = Replay::open(&folder.join(format!("{name}.rec"))).unwrap();
    let mut model = Model::default();
    while let Some(update) = replay.next_update().unwrap() {
        model.update(&update, replay.coverage());
    }
    Report::new(&model, replay.coverage(), replay.machine().clone(), None)
}

fn only(report: &Report) -> &VmReport {
    assert_eq!(report.vms.len(), 1);
    &report.vms[0]
}

fn text(report: &Report) -> String {
    Format::Text.write(report, Style::Plain).unwrap()
}

/// The line below the name of the first VM.
fn verdict(report: &Report) -> String {
    text(report).lines().nth(3).unwrap().trim().to_owned()
}

fn holds(report: &Report, budget: &str) -> bool {
    let budgets = vec![budget.parse::<Budget>().unwrap()];
    let demands = Demands { budgets, baseline: None, coverage: None };
    demands.judge(report).budgets[0].ok
}

/// How the HTML colours the verdict.
fn colour(report: &Report) -> String {
    let html = Format::Html.write(report, Style::Plain).unwrap();
    let (_, list) = html.split_once("<ul class=\"verdicts\"><li class=\"").unwrap();
    list.split_once('"').unwrap().0.to_owned()
}

/// The guest's memory is moved about by its firmware, and then it ends.
#[test]
fn a_guest_that_boots_and_quits_has_lost_nothing() {
    let report = report("boot");
    let line = "no region lost its huge page; 8 taken away by the VMM or with their slot, which is no loss";
    assert_eq!(verdict(&report), line);
    let vm = only(&report);
    let counts = vm.regions.counts;
    assert_eq!((counts.lost, counts.gone, counts.outstanding), (0, 0, 0));
    assert_eq!((counts.taken_away, counts.taken_away_with_vm), (8, 8));
    assert_eq!((vm.recovery_rate, vm.recovery_rate_of_all_lost), (None, Some(0.0)));
    assert_eq!(colour(&report), "none");
}

/// `touch; fork-cow; touch; fork-end; touch`: all is mapped small from then on.
#[test]
fn what_a_fork_leaves_small_is_not_recovered() {
    let report = report("fork");
    let line =
        "huge pages: 8 lost, 0 recovered (0.0 %); 8 NOT recovered: mapped small until taken away";
    assert_eq!(verdict(&report), line);
    let vm = only(&report);
    assert_eq!((vm.recovery_rate, vm.recovery_rate_touched), (Some(0.0), Some(0.0)));
    assert_eq!((vm.regions.counts.gone, vm.regions.counts.small_to_the_end), (0, 8));
    assert!(!holds(&report, "recovery_rate > 0") && holds(&report, "total.recovery_rate == 0"));
    assert!(!holds(&report, "regions.gone_refaulted_small == 0"));
    assert_eq!(colour(&report), "bad");
}

#[test]
fn what_was_never_touched_again_is_no_failure() {
    let report = report("quarter-untouched");
    assert_eq!(
        verdict(&report),
        "huge pages: 8 lost, 6 recovered, all that could come back; \
         2 taken away before they could come back"
    );
    assert!(holds(&report, "recovery_rate == 1") && holds(&report, "total.recovery_rate == 1"));
    assert!(holds(&report, "recovery_rate_of_all_lost == 0.75"));
    let vm = only(&report);
    let episode = &vm.episodes.as_ref().unwrap()[0];
    assert_eq!(episode.outcome, Outcome::RecoveredTouched);
    assert!(text(&report).contains("6 of 6 touched recovered (the last 9.5 ms after log-off)"));
    assert_eq!(colour(&report), "good");
}

/// A cancelled migration of QEMU, which has twelve slots: the largest is back before the last one is switched off, and
/// took what it took from its own log-off.
#[test]
fn what_comes_back_while_slots_are_switched_off_counts_from_its_slots_log_off() {
    let report = report("qemu-in-place");
    let (vm, text) = (only(&report), text(&report));
    let episode = &vm.episodes.as_ref().unwrap()[0];
    assert_eq!((episode.slots, episode.outcome), (12, Outcome::Recovered));
    assert!(episode.last_recovery_ns < episode.log_off_ns);
    assert_eq!(episode.recovery_duration_ns, vm.time_to_recover.max_ns);
    let story = "70 lost, 70 recovered while logging went off, each within 116.3 ms, ";
    assert!(text.contains(story), "{text}");
}

#[test]
fn a_slot_deleted_in_mid_episode_takes_its_regions_along() {
    let report = report("slot-deleted");
    let line = "huge pages: 12 lost, 8 recovered, all that could come back; \
                4 taken away before they could come back";
    assert_eq!(verdict(&report), line);
    let episode = &only(&report).episodes.as_ref().unwrap()[0];
    assert_eq!((episode.regions.gone, episode.outcome), (4, Outcome::RecoveredTouched));
    assert!(holds(&report, "recovery_rate == 1"));
    // The one run had nothing left to do.
    assert!(text(&report).contains("\n    1 that found nothing to do, in 292.1 µs\n"));
}

#[test]
fn lost_not_touched_and_taken_away_is_in_no_denominator() {
    let report = report("gone");
    let line = "huge pages: 8 lost, 0 recovered; 8 taken away before they could come back";
    assert_eq!(verdict(&report), line);
    let vm = only(&report);
    assert_eq!((vm.recovery_rate, vm.recovery_rate_touched), (None, None));
    assert_eq!(vm.recovery_rate_of_all_lost, Some(0.0));
    assert_eq!(colour(&report), "none");
}

#[test]
fn time_to_recover_is_from_when_it_could() {
    let report = report("failed-migration");
    assert_eq!(verdict(&report), "huge pages: 32 lost, 32 recovered (100.0 %)");
    let vm = only(&report);
    let (could, lost) = (&vm.time_to_recover, &vm.time_to_recover_from_loss);
    assert_eq!((could.count, lost.count), (32, 32));
    assert!(could.max_ns < Some(50_000_000) && lost.min_ns > Some(1_000_000_000));
    let off = vm.episodes.as_ref().unwrap()[0].recovery_duration_ns;
    assert_eq!(could.max_ns, off);
    assert!(holds(&report, "time_to_recover.p99 < 100ms"));
    assert!(!holds(&report, "time_to_recover_from_loss.p99 < 100ms"));
    assert_eq!(colour(&report), "good");
}

#[test]
fn regions_that_were_small_from_the_start_are_gains() {
    let report = report("gains");
    let vm = only(&report);
    assert_eq!((vm.became_huge.total, vm.became_huge.by_cause["guest_fault"]), (8, 8));
    assert_eq!((vm.recoveries.total, vm.regions.counts.lost), (0, 0));
    assert!(
        holds(&report, "became_huge.by_cause.guest_fault == 8")
            && holds(&report, "became_huge == 8")
    );
    let line = "  became huge             8   regions small from the start: guest_fault 8";
    assert!(text(&report).contains(line));
}

/// Four guests that were being torn down as the window ended.
#[test]
fn no_residual_contradicts_the_sentence_about_it() {
    let report = report("four-guests");
    for vm in &report.vms {
        let residual: [i64; 3] = vm.pages.residual.unwrap().into();
        assert_eq!((residual, vm.in_teardown), ([0; 3], true));
        assert!(vm.pages.compared_ns.is_some());
    }
    let text = text(&report);
    let line = "counts add up with KVM's own gauges (4 VMs were in teardown at the end, and were compared before)";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("created in this window, being torn down at its end"));
}

/// The most effective run first, and none of them cut to nothing.
#[test]
fn collapse_runs_are_by_what_they_did() {
    let mut report = report("four-guests");
    let spans = report.vms[0].collapse_spans.as_mut().unwrap();
    let mut idle = spans[0].clone();
    idle.work = collapse_model::Work::default();
    idle.slot.npages = 16;
    idle.duration_ns = 2_000;
    for _ in 0..9 {
        spans.insert(0, idle.clone());
    }
    let mut small = idle;
    small.work.zapped_4k = 3;
    spans.insert(0, small);
    let text = text(&report);
    let from = text.find("collapse runs").unwrap();
    let lines: Vec<_> = text[from..].lines().skip(1).take(5).map(str::trim).collect();
    let zapped = ["zapped 32768 × 4K", "zapped 18944 × 4K", "zapped 15360 × 4K", "zapped 3 × 4K"];
    assert!(lines.iter().zip(zapped).all(|(line, zapped)| line.contains(zapped)), "{lines:?}");
    assert!(lines[3].contains("(64 KiB at gfn"), "{}", lines[3]);
    assert_eq!(lines[4], "9 that found nothing to do, in 18.0 µs");
}
