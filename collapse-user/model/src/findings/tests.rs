mod host;
mod recorded;

use collapse_common::{
    Cause, Transition,
    abi::{LOG_DIRTY_PAGES, VmKey},
    counter::index,
};

use super::*;
use crate::{Model, fit::GUEST_MEMFD};
use collapse_feed::{
    Batch, Change, Collapse, Event, EventKind, Mmu, Slot, SlotChange, VmReading, fixtures,
};

const S: u64 = 1_000_000_000;
const KEY: VmKey = VmKey { kvm: 1, born: 1 };

fn sight(mmu: Mmu) -> Sight {
    (&fixtures::full_coverage(mmu)).into()
}

/// A VM with one slot of 32 regions.
struct Bench {
    model: Model,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { model: Model::default(), now: S };
        bench.apply(Vec::new(), Vec::new());
        bench
    }

    fn apply(&mut self, events: Vec<EventKind>, counts: Vec<(Cause, Transition, u32, u64)>) {
        let (from, at) = (self.now, self.now + S);
        let event = |(n, kind)| Event { ts: from + n, vm: KEY, tid: 1, kind };
        let events = (1..).zip(events).map(event).collect();
        let row = |(cause, transition, level, n)| {
            (KEY, cause, fixtures::row(&[(index(transition, level), n)]))
        };
        let rows = counts.into_iter().map(row).collect();
        self.model.apply(&Batch { at, settled: true, events, rows, ..Batch::default() });
        self.now = at;
    }

    fn logging(&mut self, on: bool) {
        let flags = if on { LOG_DIRTY_PAGES } else { 0 };
        let change = if on { SlotChange::LogOn } else { SlotChange::LogOff };
        self.apply(vec![EventKind::SlotChanged { slot: slot(flags), change, logging: on }], vec![]);
    }

    fn change(&mut self, cause: Cause, transition: Transition, level: u32, count: u32) {
        self.apply(vec![change(cause, transition, level, count)], vec![]);
    }

    fn collapse(&mut self) {
        self.apply(vec![collapse()], vec![]);
    }

    /// Names of what is found this many seconds later.
    fn found(&self, seconds: u64) -> Vec<&'static str> {
        let vm = &self.model.vms[&KEY];
        let found = findings(vm, sight(Mmu::Tdp), self.now + seconds * S, &Thresholds::default());
        found.into_iter().map(|finding| finding.name).collect()
    }

    /// A failed migration, up to the end of the collapse routine.
    fn failed_migration() -> Self {
        let mut bench = Self::new();
        bench.logging(true);
        bench.change(Cause::EagerSplit, Transition::Split, 2, 32);
        bench.logging(false);
        bench.change(Cause::Collapse, Transition::Zap, 1, 32 * 512);
        bench.collapse();
        bench
    }
}

fn slot(flags: u32) -> Slot {
    Slot { id: 1, as_id: 0, base_gfn: 0, npages: 16384, flags, userspace_addr: None }
}

fn change(cause: Cause, transition: Transition, level: u32, count: u32) -> EventKind {
    EventKind::Change(Change { level, count, ..fixtures::change(cause, transition) })
}

fn collapse() -> EventKind {
    EventKind::Collapse(Collapse {
        slot: slot(0),
        start: 0,
        pages_before: None,
        pages_after: None,
        yields: None,
    })
}

#[test]
fn dirty_logging_for_long() {
    let mut bench = Bench::new();
    bench.logging(true);
    assert_eq!(bench.found(500), [""; 0]);
    assert_eq!(bench.found(700), ["dirty_logging_on_for_long"]);
    bench.logging(false);
    bench.collapse();
    assert_eq!(bench.found(700), [""; 0]);
}

#[test]
fn regions_that_stay_small() {
    let mut bench = Bench::failed_migration();
    // Not touched since is no failure.
    assert_eq!(bench.found(60), [""; 0]);
    bench.change(Cause::GuestFault, Transition::Install, 1, 8 * 512);
    assert_eq!(bench.found(1), [""; 0]);
    assert_eq!(bench.found(60), ["regions_stuck_small"]);
    bench.change(Cause::NotifierThp, Transition::Zap, 1, 8 * 512);
    bench.change(Cause::GuestFault, Transition::Install, 2, 32);
    assert_eq!(bench.found(60), [""; 0]);
}

#[test]
fn splits_by_guest_faults() {
    let splits = |cause, n| {
        let mut bench = Bench::new();
        bench.apply(vec![], vec![(cause, Transition::Split, 2, n)]);
        bench.found(0)
    };
    assert_eq!(splits(Cause::LoggedFault, 32), ["eager_split_off"]);
    assert_eq!(splits(Cause::LoggedFault, 7), [""; 0]);
    assert_eq!(splits(Cause::EagerSplit, 32), [""; 0]);
    assert_eq!(splits(Cause::GuestFault, 32), ["split_by_nx"]);
}

#[test]
fn the_rmap_mmu_always_splits_at_faults() {
    let mut bench = Bench::new();
    bench.apply(vec![], vec![(Cause::LoggedFault, Transition::SplitRelink, 2, 32)]);
    let vm = &bench.model.vms[&KEY];
    assert_eq!(findings(vm, sight(Mmu::Rmap), bench.now, &Thresholds::default()), []);
}

#[test]
fn zaps_by_the_nx_worker() {
    let mut bench = Bench::new();
    bench.apply(vec![], vec![(Cause::NxRecovery, Transition::Zap, 1, 40)]);
    assert_eq!(bench.found(0), ["split_by_nx"]);
}

#[test]
fn recovered_write_protected() {
    let recovered = |transition| {
        let mut bench = Bench::new();
        bench.logging(true);
        bench.change(Cause::EagerSplit, Transition::Split, 2, 32);
        bench.logging(false);
        bench.change(Cause::Collapse, transition, 2, 32);
        bench.collapse();
        bench.found(60)
    };
    assert_eq!(recovered(Transition::RecoverReadOnly), ["recovered_read_only"]);
    assert_eq!(recovered(Transition::Recover), [""; 0]);
}

#[test]
fn small_pages_behind_the_routines_back() {
    let raced = |count| {
        let mut bench = Bench::new();
        bench.logging(true);
        bench.logging(false);
        bench.change(Cause::RacingFault, Transition::Install, 1, count);
        bench.collapse();
        bench.found(0)
    };
    assert_eq!(raced(600), ["collapse_raced"]);
    assert_eq!(raced(10), [""; 0]);
}

#[test]
fn the_nx_worker_and_faults_undo_each_other() {
    let undone = |regions: u32| {
        let mut bench = Bench::new();
        bench.change(Cause::GuestFault, Transition::Split, 2, regions);
        // Zapped, huge again at a read, split again at the next execution.
        bench.change(Cause::NxRecovery, Transition::Zap, 1, regions * 512);
        bench.change(Cause::GuestFault, Transition::Install, 2, regions);
        assert_eq!(bench.found(0), [""; 0]);
        bench.change(Cause::GuestFault, Transition::Split, 2, regions);
        bench.found(0)
    };
    assert_eq!(undone(8), ["nx_recovery_undone"]);
    assert_eq!(undone(7), [""; 0]);
}

#[test]
fn hugetlb_memory_that_is_mapped_small() {
    let found = |hugetlb, small, logging| {
        let mut bench = Bench::new();
        if logging {
            bench.logging(true);
        }
        let reading = VmReading { vm: KEY, pages: Some([small, 0, 0]), process: None, fd: None };
        bench.model.apply(&Batch {
            at: bench.now,
            vms: vec![reading],
            hugetlb: vec![(KEY, hugetlb)],
            ..Batch::default()
        });
        bench.found(0)
    };
    assert_eq!(found(1 << 30, 100_000, false), ["hugetlb_mapped_small"]);
    // Little of it, no hugetlb at all, or dirty logging, which maps small by design.
    assert_eq!(found(1 << 40, 100_000, false), ["never_huge"]);
    assert_eq!(found(1 << 30, 4_000, false), [""; 0]);
    assert_eq!(found(0, 100_000, false), ["never_huge"]);
    assert_eq!(found(1 << 30, 100_000, true), [""; 0]);
}

#[test]
fn dirty_logging_by_the_clock() {
    let mut bench = Bench::new();
    bench.change(Cause::GuestFault, Transition::Install, 2, 32);
    for time in 1..=4 {
        assert_eq!(bench.found(0), [""; 0], "{time}");
        bench.logging(true);
        bench.change(Cause::EagerSplit, Transition::Split, 2, 32);
        bench.logging(false);
        bench.collapse();
        bench.change(Cause::GuestFault, Transition::Install, 2, 32);
    }
    assert_eq!(bench.found(0), ["logged_periodically"]);
}

#[test]
fn thresholds_are_the_users() {
    let mut bench = Bench::new();
    bench.logging(true);
    let vm = &bench.model.vms[&KEY];
    let strict = Thresholds { logging_ns: S, ..Thresholds::default() };
    assert_eq!(findings(vm, sight(Mmu::Tdp), bench.now + 2 * S, &strict).len(), 1);
}

/// A VM that was there before, with memslots of 64 MiB, and what is mapped of it.
fn earlier(slots: &[Slot], pages: [u64; 3]) -> Bench {
    let mut bench = Bench::new();
    let reading = VmReading { vm: KEY, pages: Some(pages), process: None, fd: None };
    bench.model.apply(&Batch {
        at: bench.now + S,
        vms: vec![reading],
        slots: vec![(KEY, slots.to_vec())],
        ..Batch::default()
    });
    bench.now += S;
    bench
}

#[test]
fn logged_since_before() {
    let logged = slot(LOG_DIRTY_PAGES);
    let mut bench = earlier(&[logged], [16384, 0, 0]);
    assert_eq!(bench.model.vms[&KEY].is_logging(), Some(true));
    assert_eq!(bench.found(1), ["logged_since_before"]);
    // In a later reading, nothing is known to have changed.
    bench.logging(false);
    assert_eq!(bench.found(1), [""; 0]);
    assert_eq!(bench.model.vms[&KEY].episodes.kept().next().map(|e| e.began_before), Some(true));

    assert_eq!(earlier(&[logged], [0, 32, 0]).found(1), [""; 0], "huge pages are still there");
    let plain = earlier(&[slot(0)], [16384, 0, 0]);
    assert_eq!(plain.model.vms[&KEY].is_logging(), Some(false));
    assert_eq!(plain.found(1), ["never_huge"]);
    let display = Slot { id: 2, npages: 4096, base_gfn: 1 << 20, ..logged };
    assert_eq!(earlier(&[slot(0), display], [16384, 0, 0]).found(1), ["never_huge"], "a display");
}

#[test]
fn misaligned_slots() {
    let at = |userspace_addr| Slot { userspace_addr, ..slot(0) };
    let found = |at| earlier(&[at], [16384, 0, 0]).found(1);
    assert_eq!(found(at(Some(0x7f00_0010_0000))), ["slot_misaligned"]);
    assert_eq!(found(at(Some(0x7f00_0020_0000))), ["never_huge"]);
    assert_eq!(found(at(None)), ["never_huge"], "not known");
    let small = Slot { npages: 512, ..at(Some(4096)) };
    assert_eq!(found(small), ["never_huge"], "too little to matter");
}

/// What is mapped small from the start, of a guest of 64 MiB, and what says more about it.
#[test]
fn memory_that_was_never_huge() {
    let mapped = |pages| earlier(&[slot(0)], pages).found(1);
    assert_eq!(mapped([16384, 0, 0]), ["never_huge"]);
    assert_eq!(mapped([8192, 16, 0]), ["never_huge"], "half of it");
    assert_eq!(mapped([8191, 16, 0]), [""; 0]);
    assert_eq!(mapped([4095, 0, 0]), [""; 0], "hardly anything is mapped");
    assert_eq!(mapped([4096, 0, 1]), [""; 0], "nothing beside a GiB");

    // Regions that were huge and are small now are lost, whatever took them.
    let went = |cause, regions| {
        let mut bench = earlier(&[slot(0)], [16384, 0, 0]);
        bench.apply(vec![], vec![(cause, Transition::Zap, 2, regions)]);
        bench.found(1)
    };
    assert_eq!(went(Cause::NotifierUnmap, 17), [""; 0]);
    assert_eq!(went(Cause::NotifierUnmap, 16), ["never_huge"]);
    assert_eq!(went(Cause::Teardown, 17), ["never_huge"]);

    // A slot that is misaligned, and one that is not.
    let two = |small| {
        let other = Slot { id: 2, base_gfn: 1 << 20, userspace_addr: Some(4096), ..slot(0) };
        earlier(&[slot(0), other], [small, 0, 0]).found(1)
    };
    assert_eq!(two(16384), ["slot_misaligned"]);
    assert_eq!(two(32768), ["slot_misaligned", "never_huge"]);
}

/// Dirty logging keeps memory small, and it takes a moment to come back.
#[test]
fn memory_under_dirty_logging_is_not_never_huge() {
    let mut bench = earlier(&[slot(0)], [16384, 0, 0]);
    bench.logging(true);
    assert_eq!(bench.found(1), [""; 0]);
    bench.logging(false);
    assert_eq!(bench.found(5), [""; 0]);
    assert_eq!(bench.found(20), ["never_huge"]);
}

/// It says what it knows of the largest slot, and that of SMM is none of its own.
#[test]
fn never_huge_says_what_the_largest_slot_is_like() {
    let sentence = |largest: Slot| {
        let smm = Slot { id: 3, as_id: 1, npages: 1 << 20, ..slot(0) };
        let bench = earlier(&[largest, smm, Slot { id: 2, npages: 1, ..slot(0) }], [16384, 0, 0]);
        let vm = &bench.model.vms[&KEY];
        let found = findings(vm, sight(Mmu::Tdp), bench.now, &Thresholds::default());
        found.into_iter().next().unwrap().sentence
    };
    let mapped = "of 64 MiB that are mapped, 64 MiB are mapped by 4 KiB SPTEs that were not huge while watched";
    assert_eq!(sentence(slot(0)), mapped);
    let known = |more: &str| format!("{mapped}; the largest slot, 1, has {more}");
    let aligned = Slot { userspace_addr: Some(2 << 20), ..slot(0) };
    assert_eq!(
        sentence(aligned),
        known("64 MiB: KVM may map it huge where the memory behind it is")
    );
    let private = Slot { flags: GUEST_MEMFD, ..aligned };
    assert_eq!(sentence(private), known("64 MiB: its memory is a guest_memfd"));
    assert_eq!(
        sentence(Slot { npages: 511, ..aligned }),
        known("1 MiB: it holds no aligned 2 MiB")
    );
}

/// A GiB that a failed migration split, and that comes back as 512 regions or as itself.
#[test]
fn a_1g_page_that_is_512_regions() {
    let migrated = |level, count| {
        let mut bench = Bench::new();
        bench.change(Cause::GuestFault, Transition::Install, 3, 1);
        bench.logging(true);
        bench.change(Cause::EagerSplit, Transition::Split, 3, 1);
        bench.change(Cause::EagerSplit, Transition::Split, 2, 512);
        assert_eq!(bench.found(20), [""; 0], "dirty logging keeps it small");
        bench.logging(false);
        bench.change(Cause::Collapse, Transition::Recover, level, count);
        bench.collapse();
        assert_eq!(bench.found(1), [""; 0]);
        bench.found(20)
    };
    assert_eq!(migrated(2, 512), ["pages_1g_lost"]);
    assert_eq!(migrated(3, 1), [""; 0]);
}

fn sight_with(mmu: Mmu, pml: Option<bool>) -> Sight {
    let mut sight = sight(mmu);
    sight.pml = pml;
    sight
}

fn on_amd(mmu: Mmu) -> Sight {
    sight_with(mmu, Some(false))
}

/// No kernel of ours does this: a huge leaf that the guest may write to is mapped while its slot is logged.
#[test]
fn dirty_pages_at_risk() {
    let mut bench = Bench::new();
    bench.logging(true);
    bench.change(Cause::GuestFault, Transition::Install, 2, 1);
    let at = |bench: &Bench, sight| {
        let vm = &bench.model.vms[&KEY];
        let found = findings(vm, sight, bench.now, &Thresholds::default());
        let found = found.into_iter().next().map(|finding| (finding.name, finding.sentence));
        (found, undecided("dirty_pages_at_risk", vm, sight))
    };
    let (found, why) = at(&bench, on_amd(Mmu::Tdp));
    assert!(found.is_none() && why.is_some_and(|why| why.contains("10.0 s")), "too early to tell");
    (0..11).for_each(|_| bench.apply(vec![], vec![]));
    let (found, why) = at(&bench, on_amd(Mmu::Rmap));
    let (name, sentence) = found.unwrap();
    assert_eq!((name, why), ("dirty_pages_at_risk", None));
    assert_eq!(
        sentence,
        "1 × 2M at gfn 0x0 was installed writable in slot 1, whose dirty logging had been on for 1.0 s: what the guest \
         writes to these 2 MiB is not in the log"
    );
    // Where it is not certain, it is not known.
    for unsure in [
        on_amd(Mmu::Shadow),
        on_amd(Mmu::Unknown),
        sight_with(Mmu::Tdp, Some(true)),
        sight_with(Mmu::Tdp, None),
        Sight::default(),
    ] {
        let (found, why) = at(&bench, unsure);
        let found = found.map(|(name, _)| name).filter(|name| *name == "dirty_pages_at_risk");
        assert!(found.is_none() && why.is_some(), "{unsure:?}");
    }
    // What is small, or was huge before, is at no risk.
    let mut twin = Bench::new();
    twin.change(Cause::GuestFault, Transition::Install, 2, 1);
    twin.logging(true);
    twin.change(Cause::LoggedFault, Transition::Install, 1, 512);
    (0..11).for_each(|_| twin.apply(vec![], vec![]));
    assert_eq!(at(&twin, on_amd(Mmu::Tdp)), (None, None));
    // A loss may have hidden a switch.
    twin.model.apply(&Batch { at: twin.now + S, losses: vec![("marks", 1)], ..Batch::default() });
    let (_, why) = at(&twin, on_amd(Mmu::Tdp));
    assert!(why.is_some_and(|why| why.contains("lost")));
}
