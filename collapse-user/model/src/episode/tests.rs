use collapse_common::{
    Cause,
    abi::{LOG_DIRTY_PAGES, VmKey},
    counter::COUNTERS,
    latency::{NO_LATENCIES, SUMS, Sum},
};
use proptest::prelude::*;

use super::*;
use crate::{Race, Vm, Work};
use collapse_feed::{Collapse, Event, EventKind, fixtures};

use collapse_common::{Counter, Transition};

const MS: u64 = 1_000_000;

/// A slot of 32 regions, one behind the other by id.
fn slot(id: u16, logging: bool) -> Slot {
    let flags = if logging { LOG_DIRTY_PAGES } else { 0 };
    Slot {
        id,
        as_id: 0,
        base_gfn: u64::from(id) * 16_384,
        npages: 16_384,
        flags,
        userspace_addr: None,
    }
}

fn vm() -> Vm {
    Vm::new(VmKey { kvm: 1, born: MS })
}

fn tell(vm: &mut Vm, at: u64, kind: EventKind) {
    vm.event(&Event { ts: at, vm: vm.key, tid: 1, kind });
}

/// All slots have the same size: any that is logged concerns the VM as a whole.
fn slot_changed(vm: &mut Vm, at: u64, slot: Slot, change: SlotChange) {
    let others = vm.slots.iter().filter(|(key, _)| **key != (slot.as_id, slot.id));
    let on = change != SlotChange::Deleted && slot.is_logging();
    let logging = on || others.map(|(_, slot)| slot).any(Slot::is_logging);
    tell(vm, at, EventKind::SlotChanged { slot, change, logging });
}

fn log_on(vm: &mut Vm, at: u64, id: u16) {
    slot_changed(vm, at, slot(id, true), SlotChange::LogOn);
}

fn log_off(vm: &mut Vm, at: u64, id: u16) {
    slot_changed(vm, at, slot(id, false), SlotChange::LogOff);
}

fn change(vm: &mut Vm, at: u64, cause: Cause, transition: Transition, level: u32, count: u32) {
    let change = Change { level, gfn: 16_384, count, ..fixtures::change(cause, transition) };
    tell(vm, at, EventKind::Change(change));
}

fn collapse(vm: &mut Vm, start: u64, at: u64, id: u16) {
    let slot = slot(id, false);
    let collapse = Collapse { slot, start, pages_before: None, pages_after: None, yields: Some(2) };
    tell(vm, at, EventKind::Collapse(collapse));
}

fn only(vm: &Vm) -> &Episode {
    assert_eq!(vm.episodes.count(), 1);
    vm.episodes.kept().next().unwrap()
}

/// A failed migration on 6.12 until the collapse routine is through.
fn failed_migration() -> Vm {
    let mut vm = vm();
    log_on(&mut vm, 10 * MS, 1);
    change(&mut vm, 11 * MS, Cause::EagerSplit, Transition::Split, 2, 30);
    change(&mut vm, 12 * MS, Cause::LoggedFault, Transition::Split, 2, 32);
    log_off(&mut vm, 20 * MS, 1);
    change(&mut vm, 21 * MS, Cause::Collapse, Transition::Zap, 1, 16_384);
    collapse(&mut vm, 20 * MS, 24 * MS, 1);
    vm
}

#[test]
fn a_failed_migration_on_6_12() {
    let mut vm = failed_migration();
    let episode = only(&vm);
    assert_eq!((episode.phase, episode.outcome()), (Phase::Recovering, Outcome::Untouched));
    assert_eq!((episode.splits, episode.split), (62, Some((11 * MS, 12 * MS))));
    assert_eq!(episode.slots, BTreeMap::from([((0, 1), 16_384)]));
    let sums = CollapseSums {
        runs: 1,
        duration: 4 * MS,
        work: Work { zapped_4k: 16_384, ..Work::default() },
        race: Some(Race::default()),
        yields: Some(2),
    };
    assert_eq!(episode.collapse, sums);

    change(&mut vm, 30 * MS, Cause::GuestFault, Transition::Install, 2, 32);
    let episode = only(&vm);
    assert_eq!((episode.phase, episode.outcome()), (Phase::Ended, Outcome::Recovered));
    assert_eq!((episode.end, episode.regions.recovered), (Some(30 * MS), 32));
    assert_eq!(episode.logging_duration(), Some(10 * MS));
    assert_eq!(episode.recovery_duration(), Some(10 * MS));
}

#[test]
fn recovered_in_place_ends_with_the_collapse_run() {
    let mut vm = vm();
    log_on(&mut vm, 10 * MS, 1);
    change(&mut vm, 11 * MS, Cause::EagerSplit, Transition::Split, 2, 32);
    log_off(&mut vm, 20 * MS, 1);
    assert_eq!((only(&vm).phase, only(&vm).outcome()), (Phase::Collapsing, Outcome::Running));
    change(&mut vm, 21 * MS, Cause::Collapse, Transition::Recover, 2, 32);
    assert_eq!(only(&vm).phase, Phase::Collapsing);
    collapse(&mut vm, 20 * MS, 24 * MS, 1);
    assert_eq!((only(&vm).end, only(&vm).outcome()), (Some(24 * MS), Outcome::Recovered));
    assert_eq!(only(&vm).recovery_duration(), Some(MS));
}

/// Slots whose dirty logging goes off one after the other: the first one's regions are back before the last one's log-off.
#[test]
fn recovery_counts_from_the_log_off_of_each_slot() {
    let mut vm = vm();
    log_on(&mut vm, 10 * MS, 1);
    log_on(&mut vm, 10 * MS, 2);
    change(&mut vm, 11 * MS, Cause::EagerSplit, Transition::Split, 2, 32);
    log_off(&mut vm, 20 * MS, 1);
    change(&mut vm, 23 * MS, Cause::Collapse, Transition::Recover, 2, 32);
    collapse(&mut vm, 20 * MS, 24 * MS, 1);
    assert_eq!(only(&vm).recovery_duration(), None);
    log_off(&mut vm, 30 * MS, 2);
    collapse(&mut vm, 30 * MS, 31 * MS, 2);
    assert_eq!(only(&vm).outcome(), Outcome::Recovered);
    assert_eq!(only(&vm).recovery_duration(), Some(3 * MS));
}

#[test]
fn mapped_small_again_is_not_recovered() {
    let mut vm = failed_migration();
    change(&mut vm, 30 * MS, Cause::GuestFault, Transition::Install, 1, 512);
    assert_eq!(only(&vm).outcome(), Outcome::NotRecovered);
    change(&mut vm, 31 * MS, Cause::GuestFault, Transition::Zap, 1, 512);
    change(&mut vm, 32 * MS, Cause::GuestFault, Transition::Install, 2, 31);
    assert_eq!(only(&vm).outcome(), Outcome::RecoveredTouched);
    assert_eq!(only(&vm).recovery_duration(), None);
    // What the VM takes with it stays as it was.
    let mut ended = vm.clone();
    tell(&mut ended, 40 * MS, EventKind::VmDestroyed { pages: None });
    assert_eq!(
        (only(&ended).phase, only(&ended).outcome()),
        (Phase::Ended, Outcome::RecoveredTouched)
    );
}

#[test]
fn a_migration_that_succeeds_takes_its_regions_along() {
    let mut vm = vm();
    log_on(&mut vm, 10 * MS, 1);
    change(&mut vm, 11 * MS, Cause::EagerSplit, Transition::Split, 2, 32);
    tell(&mut vm, 40 * MS, EventKind::VmDestroyed { pages: None });
    tell(&mut vm, 41 * MS, EventKind::VmFlushed { pages: None });
    let episode = only(&vm);
    assert_eq!((episode.outcome(), episode.end), (Outcome::Gone, Some(40 * MS)));
    assert_eq!((episode.regions.gone, episode.log_off), (32, None));
}

#[test]
fn all_slots_are_one_episode() {
    let mut vm = vm();
    log_on(&mut vm, 10 * MS, 1);
    slot_changed(&mut vm, 11 * MS, slot(2, true), SlotChange::Created);
    log_off(&mut vm, 20 * MS, 1);
    collapse(&mut vm, 20 * MS, 21 * MS, 1);
    assert_eq!(only(&vm).phase, Phase::Logging);
    // A slot that goes has nothing to collapse.
    slot_changed(&mut vm, 30 * MS, slot(2, true), SlotChange::Deleted);
    let episode = only(&vm);
    assert_eq!((episode.phase, episode.outcome()), (Phase::Ended, Outcome::NothingLost));
    assert_eq!((episode.slots.len(), episode.log_off), (2, Some(30 * MS)));
}

/// The slot of an emulated display is logged from boot on; a migration is an episode all the same.
#[test]
fn a_logged_display_begins_no_episode() {
    let mut vm = vm();
    let display = |on| Slot { npages: 4096, ..slot(9, on) };
    let on = SlotChange::LogOn;
    tell(
        &mut vm,
        5 * MS,
        EventKind::SlotChanged { slot: display(true), change: on, logging: false },
    );
    assert_eq!(vm.episodes.count(), 0);
    log_on(&mut vm, 10 * MS, 1);
    change(&mut vm, 11 * MS, Cause::EagerSplit, Transition::Split, 2, 32);
    let off =
        EventKind::SlotChanged { slot: slot(1, false), change: SlotChange::LogOff, logging: false };
    tell(&mut vm, 20 * MS, off);
    change(&mut vm, 21 * MS, Cause::Collapse, Transition::Recover, 2, 32);
    collapse(&mut vm, 20 * MS, 24 * MS, 1);
    let episode = only(&vm);
    assert_eq!((episode.phase, episode.outcome()), (Phase::Ended, Outcome::Recovered));
    assert_eq!((episode.start, episode.log_off), (10 * MS, Some(20 * MS)));
}

#[test]
fn the_next_episode_ends_the_one_before() {
    let mut vm = failed_migration();
    log_on(&mut vm, 50 * MS, 1);
    change(&mut vm, 51 * MS, Cause::GuestFault, Transition::Install, 2, 32);
    let episodes: Vec<_> = vm.episodes.kept().collect();
    assert_eq!((episodes[0].phase, episodes[0].end), (Phase::Ended, Some(50 * MS)));
    // Its regions stay its own.
    assert_eq!((episodes[0].regions.recovered, episodes[1].regions.lost), (32, 0));
}

#[test]
fn touched_under_the_next_logging_is_no_failure() {
    let mut vm = failed_migration();
    change(&mut vm, 30 * MS, Cause::GuestFault, Transition::Install, 2, 20);
    log_on(&mut vm, 50 * MS, 1);
    let gfn = 16_384 + 20 * 512;
    let small = fixtures::change(Cause::LoggedFault, Transition::Install);
    let small = Change { level: 1, gfn, count: 12 * 512, ..small };
    tell(&mut vm, 51 * MS, EventKind::Change(small));
    let outcome = |vm: &Vm| vm.episodes.kept().next().map(Episode::outcome);
    assert_eq!(outcome(&vm), Some(Outcome::RecoveredTouched));
    log_off(&mut vm, 60 * MS, 1);
    assert_eq!(outcome(&vm), Some(Outcome::Partly));
}

#[test]
fn a_log_off_alone_tells_of_an_episode_before() {
    let mut vm = vm();
    vm.watched = 5 * MS;
    for (at, id) in [(20, 1), (30, 2)] {
        log_off(&mut vm, at * MS, id);
        collapse(&mut vm, at * MS, (at + 1) * MS, id);
    }
    let episode = only(&vm);
    assert!(episode.began_before);
    assert_eq!((episode.start, episode.log_off), (5 * MS, Some(30 * MS)));
    assert_eq!((episode.logging_duration(), episode.collapse.runs), (None, 2));
    assert_eq!((episode.regions.lost, episode.outcome()), (0, Outcome::Unknown));
    assert_eq!(episode.cost, Err(NoCost::BeganBefore));
}

#[test]
fn a_read_only_slot_is_not_collapsed() {
    let mut vm = vm();
    log_on(&mut vm, 10 * MS, 1);
    let off = Slot { flags: READ_ONLY, ..slot(1, false) };
    slot_changed(&mut vm, 20 * MS, off, SlotChange::LogOff);
    assert_eq!(only(&vm).phase, Phase::Ended);
}

fn read(vm: &mut Vm, logged: u64, racing: u64) {
    for (cause, faults) in [(Cause::LoggedFault, logged), (Cause::RacingFault, racing)] {
        let mut row = Box::new([0; COUNTERS]);
        row[Counter::Fault as usize] = faults;
        row[Counter::Stall as usize] = faults * 1_000;
        vm.count(cause, row);
    }
    vm.close(0, true);
}

fn costs(vm: &Vm) -> Vec<Option<(u64, u64)>> {
    let faults = |cost: EpisodeCost| (cost.logging.faults, cost.collapsing.faults);
    vm.episodes.kept().map(|episode| episode.cost.ok().map(faults)).collect()
}

#[test]
fn faults_are_credited_to_the_episode_in_progress() {
    let mut vm = vm();
    read(&mut vm, 0, 0);
    // Faults counted before the events of their batch are in.
    read(&mut vm, 7, 0);
    log_on(&mut vm, 10 * MS, 1);
    read(&mut vm, 100, 0);
    log_off(&mut vm, 20 * MS, 1);
    collapse(&mut vm, 20 * MS, 24 * MS, 1);
    read(&mut vm, 130, 9);
    read(&mut vm, 130, 9);
    assert_eq!(costs(&vm), [Some((130, 9))]);
    assert_eq!(only(&vm).cost.unwrap().logging.stall_ns, 130_000);
    log_on(&mut vm, 50 * MS, 1);
    read(&mut vm, 131, 9);
    assert_eq!(costs(&vm), [Some((130, 9)), Some((1, 0))]);
}

/// The error of an episode's cost is that of its own faults.
#[test]
fn costs_have_their_error() {
    let mut vm = vm();
    let timed = |vm: &mut Vm, faults: u64, squares: u64| {
        let mut latencies = Box::new(NO_LATENCIES);
        latencies[SUMS][Sum::Timed as usize] = faults;
        latencies[SUMS][Sum::TimedNs as usize] = faults * 64_000;
        latencies[SUMS][Sum::TimedSquares as usize] = squares;
        vm.count_latencies(Cause::LoggedFault, latencies);
        read(vm, faults * 128, 0);
    };
    timed(&mut vm, 0, 0);
    log_on(&mut vm, 10 * MS, 1);
    // Two faults of 0 and 128 µs, of 1000 units of 64 ns on average.
    timed(&mut vm, 2, 2 * 2_000_000);
    let cost = only(&vm).cost.unwrap().logging;
    let error = cost.stall_error(128).unwrap();
    assert!(error.abs_diff(128 * 64_000 * 2) < 100_000, "{error}");
    assert_eq!(cost.stall_error(1), Some(0));
    log_off(&mut vm, 20 * MS, 1);
    collapse(&mut vm, 20 * MS, 24 * MS, 1);
    for _ in 0..2 {
        timed(&mut vm, 2, 2 * 2_000_000);
    }
    log_on(&mut vm, 50 * MS, 1);
    timed(&mut vm, 12, 2 * 2_000_000 + 10 * 1_000_000);
    let errors: Vec<_> =
        vm.episodes.kept().map(|episode| episode.cost.unwrap().logging.stall_error(128)).collect();
    assert_eq!(errors, [Some(error), Some(0)]);
}

#[test]
fn what_episodes_share_is_not_divided() {
    let mut vm = vm();
    for at in [10, 30] {
        log_on(&mut vm, at * MS, 1);
        log_off(&mut vm, (at + 5) * MS, 1);
        collapse(&mut vm, (at + 5) * MS, (at + 6) * MS, 1);
    }
    read(&mut vm, 100, 5);
    log_on(&mut vm, 50 * MS, 1);
    read(&mut vm, 140, 5);
    assert_eq!(costs(&vm), [None, None, Some((40, 0))]);
    let reasons: Vec<_> = vm.episodes.kept().map(|episode| episode.cost.err()).collect();
    assert_eq!(reasons, [Some(NoCost::Shared), Some(NoCost::Shared), None]);
}

#[test]
fn only_the_latest_are_kept() {
    let mut vm = vm();
    for n in 0..100 {
        log_on(&mut vm, (n * 10 + 1) * MS, 1);
        log_off(&mut vm, (n * 10 + 2) * MS, 1);
    }
    assert_eq!((vm.episodes.count(), vm.episodes.kept().len()), (100, EPISODES_KEPT));
    assert_eq!(vm.episodes.kept().next().unwrap().number.get(), 37);
}

/// Any event, of one of three slots. Whether a slot's deletion loses a region is known only later, which the
/// tests of regions are about.
fn any_event() -> impl Strategy<Value = EventKind> {
    use SlotChange::{Created, Deleted, LogOff, LogOn, Moved, Other};
    let id = 0u16..3;
    let slot_change = prop::sample::select(vec![Created, Deleted, Moved, LogOn, LogOff, Other]);
    let transition = prop::sample::select(Transition::ALL.to_vec());
    let cause = prop::sample::select(Cause::ALL.to_vec());
    let cause = cause.prop_filter("known later", |cause| *cause != Cause::SlotGone);
    prop_oneof![
        6 => (id.clone(), slot_change, any::<bool>()).prop_map(|(id, change, on)| {
            let on = match change {
                LogOn => true,
                LogOff => false,
                _ => on,
            };
            EventKind::SlotChanged { slot: slot(id, on), change, logging: on }
        }),
        8 => (cause, transition, 1u32..3, 0u64..96, 1u32..40).prop_map(
            |(cause, transition, level, region, count)| EventKind::Change(Change {
                level, gfn: region * 512, count, ..fixtures::change(cause, transition)
            })
        ),
        4 => id.prop_map(|id| EventKind::Collapse(Collapse {
            slot: slot(id, false), start: 0, pages_before: None, pages_after: None, yields: None,
        })),
        1 => Just(EventKind::VmFlushed { pages: None }),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: phases only go forward, only the latest is in progress, and
    /// no region is lost track of.
    #[test]
    fn nothing_is_lost_track_of(kinds in prop::collection::vec(any_event(), 0..60)) {
        let mut vm = vm();
        let mut phases = BTreeMap::new();
        let mut outside = 0;
        for (at, kind) in (1..).zip(kinds) {
            let (lost, losing) = (vm.regions.counts().lost, vm.episodes.losing());
            tell(&mut vm, at * MS, kind);
            if losing.is_none() {
                outside += vm.regions.counts().lost - lost;
            }
            let mut in_all = outside;
            for episode in vm.episodes.kept() {
                let before = phases.insert(episode.number, episode.phase);
                prop_assert!(before <= Some(episode.phase));
                prop_assert_eq!(episode.end.is_some(), episode.phase == Phase::Ended);
                let latest = u64::from(episode.number.get()) == vm.episodes.count();
                prop_assert!(latest || episode.phase == Phase::Ended);
                let regions = episode.regions;
                let kept = regions.outstanding + regions.gone + regions.small_to_the_end;
                prop_assert_eq!(regions.lost, regions.recovered + kept);
                let mine = |lost: &&crate::Lost| lost.episode == Some(episode.number);
                let outstanding = vm.regions.outstanding().map(|(_, lost)| lost).filter(mine);
                prop_assert_eq!(regions.outstanding, outstanding.count() as u64);
                in_all += regions.lost;
                let running = episode.phase <= Phase::Collapsing;
                prop_assert_eq!(episode.outcome() == Outcome::Running, running);
                if episode.phase == Phase::Recovering {
                    prop_assert!(regions.outstanding > 0);
                }
            }
            prop_assert_eq!(in_all, vm.regions.counts().lost);
            prop_assert_eq!(phases.len() as u64, vm.episodes.count());
        }
    }

    /// Nothing that was counted is credited twice.
    #[test]
    fn credits_never_exceed_what_was_counted(
        steps in prop::collection::vec((prop::option::of(any_event()), 0u64..50, 0u64..50), 0..40),
    ) {
        let mut vm = vm();
        let (mut logged, mut racing) = (0, 0);
        for (at, (kind, more_logged, more_racing)) in (1..).zip(steps) {
            if let Some(kind) = kind {
                tell(&mut vm, at * MS, kind);
            } else {
                (logged, racing) = (logged + more_logged, racing + more_racing);
                read(&mut vm, logged, racing);
            }
        }
        let credited = costs(&vm).into_iter().flatten();
        let (of_logged, of_racing) = credited.fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
        prop_assert!(of_logged <= logged && of_racing <= racing);
    }
}
