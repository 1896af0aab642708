//! What the host does to guest memory, and what vCPUs wait for.

use collapse_common::{
    Counter,
    latency::{NO_LATENCIES, SUMS, Timed},
};

use super::*;

/// A region that the host took `times` times, and that the guest faulted back each time.
fn thrashed(cause: Cause, times: u32, regions: u32) -> Bench {
    let mut bench = Bench::new();
    bench.change(Cause::GuestFault, Transition::Install, 2, regions);
    for _ in 0..times {
        bench.change(cause, Transition::Zap, 2, regions);
        bench.change(Cause::GuestFault, Transition::Install, 2, regions);
    }
    bench
}

#[test]
fn memory_that_the_host_takes_again_and_again() {
    // Twice may be chance; from then on each time counts.
    assert_eq!(thrashed(Cause::NotifierProtect, 2, 32).found(0), [""; 0]);
    let often = thrashed(Cause::NotifierProtect, 3, 32);
    assert_eq!(often.found(0), ["host_thrashes"]);
    assert_eq!(often.found(90), [""; 0], "it is over");
    assert_eq!(thrashed(Cause::NotifierProtect, 3, 31).found(0), [""; 0]);
    assert_eq!(thrashed(Cause::NotifierNuma, 3, 32).found(0), ["numa_balancing"]);
    // khugepaged gives more than it takes, and munmap takes for good.
    assert_eq!(thrashed(Cause::NotifierThp, 9, 32).found(0), [""; 0]);
    assert_eq!(thrashed(Cause::NotifierUnmap, 9, 32).found(0), [""; 0]);
}

#[test]
fn memory_that_goes_in_small_pages() {
    assert_eq!(thrashed(Cause::NotifierDiscardSmall, 1, 8).found(0), ["given_back_small"]);
    assert_eq!(thrashed(Cause::NotifierDiscardSmall, 1, 7).found(0), [""; 0]);
    assert_eq!(thrashed(Cause::NotifierDiscard, 1, 32).found(0), [""; 0]);
    assert_eq!(thrashed(Cause::NotifierKsm, 1, 8).found(0), ["ksm_merges"]);
    assert_eq!(thrashed(Cause::NotifierUserfault, 1, 8).found(0), ["userfaultfd"]);
    assert_eq!(thrashed(Cause::NotifierUserfault, 1, 7).found(0), [""; 0]);
}

/// KVM is told the same of a write to a merged page as of any other copy-on-write.
#[test]
fn writes_to_merged_pages() {
    let mut bench = thrashed(Cause::NotifierKsm, 1, 8);
    let found = |bench: &Bench| {
        let vm = &bench.model.vms[&KEY];
        let found = findings(vm, sight(Mmu::Tdp), bench.now, &Thresholds::default());
        found.into_iter().next().expect("ksm_merges")
    };
    let merged = found(&bench);
    assert!(!merged.sentence.contains("wrote"), "{}", merged.sentence);
    let zaps = vec![(Cause::NotifierCow, Transition::Zap, 1, 5)];
    bench.apply(vec![change(Cause::NotifierCow, Transition::Zap, 1, 5)], zaps);
    let broken = found(&bench);
    assert_eq!(broken.name, "ksm_merges");
    assert!(broken.sentence.contains("5 SPTEs went as the guest wrote"), "{}", broken.sentence);
    let copies = broken.evidence.iter().find(|number| number.name == "copied_on_write");
    assert_eq!(copies.map(|number| number.value), Some(5));
}

/// Compaction moves a page now and then.
#[test]
fn memory_that_is_reclaimed_or_moved() {
    for (cause, finding) in
        [(Cause::NotifierReclaim, "host_reclaims"), (Cause::NotifierMigrate, "host_migrates")]
    {
        assert_eq!(thrashed(cause, 1, 32).found(0), [finding]);
        assert_eq!(thrashed(cause, 1, 31).found(0), [""; 0]);
    }
}

/// A VM with faults, of which some are retried, and with waits for `mmu_lock` of one cause.
fn waiting(faults: u64, retried: u64, waits: (Cause, u64)) -> Bench {
    let mut bench = Bench::new();
    let counts = [(Counter::Fault as usize, faults), (Counter::Retried as usize, retried)];
    let (cause, ns) = waits;
    let mut latencies = Box::new(NO_LATENCIES);
    let [number, time, longest] = Timed::LOCK_WAITS.positions();
    (latencies[SUMS][number], latencies[SUMS][time], latencies[SUMS][longest]) = (2, ns + 1, ns);
    bench.now += S;
    bench.model.apply(&Batch {
        at: bench.now,
        settled: true,
        rows: vec![(KEY, Cause::GuestFault, fixtures::row(&counts))],
        latencies: vec![(KEY, cause, latencies)],
        ..Batch::default()
    });
    bench
}

#[test]
fn faults_that_come_to_nothing() {
    let found = |faults, retried| waiting(faults, retried, (Cause::GuestFault, 0)).found(0);
    assert_eq!(found(2_000, 1_000), ["faults_retried"]);
    assert_eq!(found(2_001, 1_000), [""; 0], "few of them");
    assert_eq!(found(999, 999), [""; 0], "few");
}

#[test]
fn faults_that_wait_for_the_lock() {
    let found = |cause, ns| waiting(0, 0, (cause, ns)).found(0);
    assert_eq!(found(Cause::LoggedFault, 100_000_000), ["lock_contended"]);
    assert_eq!(found(Cause::LoggedFault, 99_999_999), [""; 0]);
    assert_eq!(found(Cause::GetDirtyLog, S), [""; 0], "no vCPU waits");
}

#[test]
fn memslots_that_come_and_go() {
    let churn = |times, regions| {
        let mut bench = Bench::new();
        let other = Slot { id: 2, base_gfn: 1 << 20, ..slot(0) };
        for _ in 0..times {
            if regions > 0 {
                bench.change(Cause::GuestFault, Transition::Install, 2, regions);
                bench.change(Cause::SlotGone, Transition::Zap, 2, regions);
            }
            let change = SlotChange::Deleted;
            let gone = EventKind::SlotChanged { slot: other, change, logging: false };
            bench.apply(vec![gone], vec![]);
        }
        bench.found(0)
    };
    assert_eq!(churn(8, 8), ["memslot_churn"]);
    assert_eq!(churn(7, 8), [""; 0]);
    assert_eq!(churn(8, 0), [""; 0], "nothing of other slots went");
}
