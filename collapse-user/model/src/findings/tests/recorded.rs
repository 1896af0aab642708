//! What is found in recordings of real runs.

use std::collections::BTreeSet;

use collapse_common::{Cause, Transition};
use collapse_feed::recording::Replay;

use super::S;
use crate::{Model, Vm, findings::Thresholds};

/// What was found at any time in the recording of a real run.
fn found_in(recording: &[u8]) -> Vec<&'static str> {
    found_by(recording, &Thresholds::default())
}

fn found_by(recording: &[u8], thresholds: &Thresholds) -> Vec<&'static str> {
    let found: BTreeSet<_> =
        model_of(recording, thresholds).vms.values().flat_map(kinds_of).collect();
    found.into_iter().collect()
}

fn kinds_of(vm: &Vm) -> Vec<&'static str> {
    vm.findings.kinds().map(|found| found.finding.name).collect()
}

fn model_of(recording: &[u8], thresholds: &Thresholds) -> Model {
    let mut replay = Replay::new(recording).unwrap();
    let mut model = Model { thresholds: *thresholds, ..Model::default() };
    while let Some(update) = replay.next_update().unwrap() {
        model.update(&update, replay.coverage());
    }
    model
}

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $name, ".rec"))
    };
}

/// `nx_huge_pages=force` splits what is executed, and the worker gives it back: to be executed again, or
/// to be written to and huge.
#[test]
fn nx_recovery_on_real_runs() {
    assert_eq!(found_in(recorded!("nx-undone")), ["nx_recovery_undone", "split_by_nx"]);
    assert_eq!(found_in(recorded!("nx-kept")), ["split_by_nx"]);
}

/// Hugetlb memory behind a slot at a guest address that is 4 KiB beyond a multiple of 2 MiB, and behind
/// one that is aligned.
#[test]
fn hugetlb_memory_on_real_runs() {
    assert_eq!(found_in(recorded!("hugetlb-small")), ["hugetlb_mapped_small"]);
    assert_eq!(found_in(recorded!("hugetlb-huge")), [""; 0]);
}

#[test]
fn failed_migrations_on_real_runs() {
    assert_eq!(found_in(recorded!("four-guests")), ["regions_stuck_small"]);
    assert_eq!(found_in(recorded!("failed-migration")), [""; 0]);
    let strict = Thresholds { logging_ns: S, ..Thresholds::default() };
    let found = found_by(recorded!("failed-migration"), &strict);
    assert_eq!(found, ["dirty_logging_on_for_long"]);
}

/// With `eager_page_split=N`; on 7.3 without a write while dirty logging was on; and with vCPUs whose
/// faults map pages while the collapse routine runs, huge ones or, as the guest executes them under
/// `nx_huge_pages=force`, small ones.
#[test]
fn other_failed_migrations_on_real_runs() {
    assert_eq!(found_in(recorded!("eager-off")), ["eager_split_off"]);
    assert_eq!(found_in(recorded!("read-only")), ["recovered_read_only"]);
    assert_eq!(found_in(recorded!("raced")), [""; 0]);
    assert_eq!(found_in(recorded!("raced-small")), ["collapse_raced"]);
}

/// A vCPU writes to memory that the VMM gives back meanwhile, 512 MiB of small pages, by `MADV_NOHUGEPAGE`, in one call: each of its faults is
/// retried until the call is over.
#[test]
fn a_vcpu_that_gets_nowhere_on_a_real_run() {
    assert_eq!(found_in(recorded!("stuck")), ["never_huge", "vcpu_without_progress"]);
    let patient = Thresholds { stuck_ns: S, ..Thresholds::default() };
    assert_eq!(found_by(recorded!("stuck"), &patient), ["never_huge"]);
}

/// Calls that read the log, which took 10 ms at most.
#[test]
fn reading_the_log_on_a_real_run() {
    let strict = Thresholds { dirty_log_ns: 1_000_000, ..Thresholds::default() };
    let found =
        |thresholds| found_by(recorded!("operations"), thresholds).contains(&"slow_dirty_log");
    assert_eq!([found(&strict), found(&Thresholds::default())], [true, false]);
}

/// Memory that the VMM gives back once, 4 KiB of each huge page or all of it; pages that the host migrates once;
/// and memory that is protected and unprotected again and again.
#[test]
fn work_of_the_host_on_real_runs() {
    assert_eq!(found_in(recorded!("balloon")), ["given_back_small"]);
    assert_eq!(found_in(recorded!("give-back")), [""; 0]);
    assert_eq!(found_in(recorded!("migrated")), [""; 0]);
    assert_eq!(found_in(recorded!("thrash")), ["host_thrashes"]);
}

/// Memory that NUMA balancing takes and that the guest faults back; that `migrate_pages` moves to another node, reclaim
/// takes to swap, ksmd merges, and userfaultfd protects; and that the VMM gives back while two vCPUs write to it.
#[test]
fn management_by_the_host_on_real_runs() {
    assert_eq!(found_in(recorded!("balanced")), ["numa_balancing"]);
    assert_eq!(found_in(recorded!("moved")), ["host_migrates"]);
    assert_eq!(found_in(recorded!("reclaimed")), ["host_reclaims"]);
    assert_eq!(found_in(recorded!("merged")), ["ksm_merges"]);
    assert_eq!(found_in(recorded!("protected")), ["userfaultfd"]);
    assert_eq!(found_in(recorded!("retried")), ["faults_retried", "host_thrashes"]);
}

/// A slot beside the guest's memory that comes and goes twelve times, and the guest's own, once.
#[test]
fn memslots_on_real_runs() {
    assert_eq!(found_in(recorded!("churn")), ["memslot_churn"]);
    assert_eq!(found_in(recorded!("slot-deleted")), [""; 0]);
}

/// A VM that was logged before we watched, one whose slot is at other offsets in guest and host memory, and their twin.
#[test]
fn states_on_a_real_run() {
    let model = model_of(recorded!("states"), &Thresholds::default());
    let kinds: Vec<_> = model.vms.values().map(|vm| (vm.name(), kinds_of(vm))).collect();
    assert!(kinds.contains(&("logged-since-boot", vec!["logged_since_before"])), "{kinds:?}");
    assert!(kinds.contains(&("misaligned", vec!["slot_misaligned"])), "{kinds:?}");
    assert!(kinds.contains(&("huge", vec![])), "{kinds:?}");
}

/// Guests on a host whose `transparent_hugepage/enabled` went to `never` after the first of them: one that was there
/// before and is huge, one that was there before, and one that is new.
#[test]
fn guests_that_were_never_huge_on_a_real_run() {
    let model = model_of(recorded!("never-huge"), &Thresholds::default());
    let kinds = model.vms.values().map(|vm| (vm.name(), kinds_of(vm)));
    let never = vec!["never_huge"];
    let expected = [("huge", vec![]), ("new", never.clone()), ("small", never)];
    assert_eq!(kinds.collect::<BTreeSet<_>>(), expected.into());
    let lax = Thresholds { never_huge_share: 1.1, ..Thresholds::default() };
    assert_eq!(found_by(recorded!("never-huge"), &lax), [""; 0]);
}

/// A GiB of hugetlbfs that dirty logging splits to 4 KiB, and that a fault maps as one again afterwards.
#[test]
fn a_1g_page_on_a_real_run() {
    let model = model_of(recorded!("gib"), &Thresholds::default());
    let vm = model.vms.values().next().unwrap();
    let counts = vm.regions.giants().counts();
    assert_eq!((counts.lost, counts.recovered, counts.outstanding), (1, 1, 0));
    assert_eq!(vm.regions.giants().lost_by_cause(), &[(Cause::EagerSplit, 1)].into());
    assert_eq!(kinds_of(vm), [""; 0]);
}

/// Real kernels map nothing huge in what is logged: not even for a moment, but while a switch is under way.
#[test]
fn no_dirty_pages_are_at_risk_on_real_runs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recorded");
    let (mut logged, mut huge) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rec") {
            continue;
        }
        let recording = std::fs::read(&path).unwrap();
        let mut replay = Replay::new(&recording[..]).unwrap();
        let mut model = Model::default();
        while let Some(update) = replay.next_update().unwrap() {
            model.update(&update, replay.coverage());
            let waits = model.vms.values().any(|vm| vm.at_risk.is_undecided());
            assert!(!waits, "{}", path.display());
        }
        for vm in model.vms.values() {
            assert_eq!(vm.at_risk.certain(), [], "{}", path.display());
            logged += u64::from(vm.at_risk.could_be());
            huge += vm.totals().changes(|change| change == Transition::Install);
        }
    }
    assert!(logged > 10 && huge > 100, "{logged} VMs were logged, {huge} leaves installed");
}

#[test]
fn dirty_logging_by_the_clock_on_a_real_run() {
    assert_eq!(found_in(recorded!("periodic")), ["logged_periodically"]);
    let patient = Thresholds { periodic: 5, ..Thresholds::default() };
    assert_eq!(found_by(recorded!("periodic"), &patient), [""; 0]);
}

/// A sentence about regions that stay small names what was seen to keep them so, and claims nothing of what could
/// not be seen: here memory of the host that is split while it is mapped for the guest, and while it is not.
#[test]
fn what_is_not_seen_is_not_denied() {
    let sentence = |recording: &[u8]| {
        let model = model_of(recording, &Thresholds::default());
        let vm = model.vms.values().next().unwrap();
        let found: Vec<_> = vm.findings.kinds().map(|found| &found.finding).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "regions_stuck_small");
        found[0].sentence.clone()
    };
    let mapped = sentence(recorded!("split-mapped"));
    assert!(mapped.contains("small pages given back 4096"), "{mapped}");
    assert!(!mapped.contains("neither"), "{mapped}");
    let unmapped = sentence(recorded!("split-unmapped"));
    assert!(unmapped.contains("not mapped for the guest (small pages given back 16"), "{unmapped}");
    assert!(unmapped.contains("whether it was guest memory is not seen"), "{unmapped}");
}
