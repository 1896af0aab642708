use proptest::prelude::*;

use collapse_feed::fixtures;

use super::*;

use Transition::{Install, Recover, RecoverReadOnly, Split, SplitRelink, Zap};

/// Regions, and the counts that their steps add up to, by episode.
#[derive(Default)]
struct Followed {
    regions: Regions,
    slots: Slots,
    told: BTreeMap<Option<NonZeroU32>, RegionCounts>,
}

impl Followed {
    fn apply(&mut self, at: u64, episode: u32, change: &Change) {
        let told = &mut self.told;
        let episode = NonZeroU32::new(episode);
        self.regions.apply(at, change, &self.slots, episode, &mut |episode, step| {
            told.entry(episode).or_default().step(step);
        });
    }

    fn slot_gone(&mut self, slot: &Slot) {
        let told = &mut self.told;
        self.regions.slot_gone(slot, slot.is_logging(), &mut |episode, step| {
            told.entry(episode).or_default().step(step);
        });
    }

    fn end(&mut self) {
        let told = &mut self.told;
        self.regions
            .end(&self.slots, &mut |episode, step| told.entry(episode).or_default().step(step));
    }

    fn counts(&self) -> RegionCounts {
        self.regions.counts()
    }
}

fn change(cause: Cause, transition: Transition, level: u32, gfn: u64, count: u32) -> Change {
    Change { level, gfn, count, ..fixtures::change(cause, transition) }
}

/// Follows changes, one per µs.
fn follow(changes: &[(Cause, Transition, u32, u64, u32)]) -> Regions {
    let mut followed = Followed::default();
    for (at, &(cause, transition, level, gfn, count)) in (1..).zip(changes) {
        followed.apply(at * 1_000, 0, &change(cause, transition, level, gfn, count));
    }
    followed.regions
}

fn slot(base_gfn: u64, npages: u64) -> Slot {
    Slot { id: 1, as_id: 0, base_gfn, npages, flags: 0, userspace_addr: None }
}

#[test]
fn zapped_and_refaulted_huge() {
    // 6.12: split, small SPTEs zapped by the collapse routine, huge again at the next touch.
    let regions = follow(&[
        (Cause::EagerSplit, Split, 2, 0x40000, 32),
        (Cause::Collapse, Zap, 1, 0x40000, 16384),
        (Cause::GuestFault, Install, 2, 0x40000, 30),
    ]);
    let counts = regions.counts();
    assert_eq!((counts.lost, counts.recovered, counts.untouched), (32, 30, 2));
    assert_eq!((counts.refaulted_small, counts.recovered_in_place), (0, 0));
    assert_eq!((counts.recovered_by_refault, counts.still_split), (30, 0));
    assert_eq!(regions.time_to_refault().sum(), Some(30 * 1_000));
    assert_eq!(regions.time_to_recover().sum(), Some(30 * 2_000));
    assert_eq!(regions.lost_by_cause(), &BTreeMap::from([(Cause::EagerSplit, 32)]));
}

#[test]
fn rebuilt_in_place() {
    let regions = follow(&[
        (Cause::EagerSplit, Split, 2, 0, 8),
        (Cause::Collapse, Recover, 2, 0, 5),
        (Cause::Collapse, RecoverReadOnly, 2, 5 * 512, 3),
    ]);
    let counts = regions.counts();
    assert_eq!((counts.recovered, counts.recovered_in_place), (8, 8));
    assert_eq!((counts.recovered_read_only, counts.recovered_by_promotion), (3, 0));
    assert_eq!((regions.time_to_refault().count(), regions.time_to_recover().count()), (0, 8));
}

#[test]
fn promoted_at_a_fault() {
    // 5.10: the collapse routine leaves an empty page table, which a fault replaces.
    let regions = follow(&[
        (Cause::LoggedFault, Zap, 2, 0, 1),
        (Cause::LoggedFault, SplitRelink, 2, 0, 1),
        (Cause::LoggedFault, Install, 1, 0, 512),
        (Cause::Collapse, Zap, 1, 0, 512),
        (Cause::RacingFault, Recover, 2, 0, 1),
    ]);
    let counts = regions.counts();
    assert_eq!((counts.recovered_in_place, counts.recovered_by_promotion), (1, 1));
    assert_eq!(regions.time_to_refault().sum(), Some(1_000));
}

#[test]
fn two_step_split_is_one_loss_and_no_refault() {
    let regions = follow(&[
        (Cause::LoggedFault, Zap, 2, 512, 1),
        (Cause::LoggedFault, SplitRelink, 2, 512, 1),
        (Cause::LoggedFault, Install, 1, 600, 1),
    ]);
    let counts = regions.counts();
    assert_eq!((counts.lost, counts.outstanding, counts.refaulted_small), (1, 1, 1));
    assert_eq!(regions.time_to_refault().count(), 0);
    let (region, lost) = regions.outstanding().next().unwrap();
    assert_eq!((region.as_id(), region.gfn()), (0, 512));
    assert_eq!((lost.at, lost.split, lost.small), (1_000, true, 1));
    assert_eq!(lost.refaulted.map(u64::from), Some(3_000));
}

#[test]
fn a_zap_of_one_page_leaves_the_rest_mapped() {
    let mut changes =
        vec![(Cause::EagerSplit, Split, 2, 0, 1), (Cause::NotifierClear, Zap, 1, 7, 1)];
    assert_eq!(follow(&changes).counts().still_split, 1);
    changes.push((Cause::NotifierClear, Zap, 1, 8, 600));
    assert_eq!(follow(&changes).counts().still_split, 1);
    changes.push((Cause::NotifierClear, Zap, 1, 0, 7));
    let zapped = follow(&changes);
    assert_eq!((zapped.counts().still_split, zapped.counts().untouched), (0, 1));
    let (_, lost) = zapped.outstanding().next().unwrap();
    assert_eq!(lost.zapped.map(u64::from), Some(4_000));
    changes.push((Cause::GuestFault, Install, 1, 0, 1));
    assert_eq!(follow(&changes).time_to_refault().max(), Some(1_000));
}

#[test]
fn a_zap_recorded_late_takes_nothing_back() {
    let regions = follow(&[
        (Cause::EagerSplit, Split, 2, 0, 1),
        (Cause::RacingFault, Install, 2, 0, 1),
        (Cause::Collapse, Zap, 1, 0, 512),
    ]);
    assert_eq!((regions.counts().recovered, regions.counts().outstanding), (1, 0));
    assert_eq!(regions.time_to_refault().max(), Some(0));
}

#[test]
fn refaults_are_what_is_installed_in_lost_regions() {
    let regions = follow(&[
        (Cause::GuestFault, Install, 2, 0x40000, 4),
        (Cause::EagerSplit, Split, 2, 0x40000, 3),
        (Cause::Collapse, Zap, 1, 0x40000, 3 * 512),
        (Cause::RacingFault, Install, 2, 0x40000, 2),
        (Cause::GuestFault, Install, 1, 0x40400, 5),
        (Cause::GuestFault, Install, 1, 0x40600, 7),
    ]);
    let refaults = regions.refaults();
    assert_eq!([1, 2, 3].map(|level| refaults.of_level(level)), [5, 2, 0]);
    let by_cause = BTreeMap::from([(Cause::GuestFault, 5), (Cause::RacingFault, 2)]);
    assert_eq!(refaults.by_cause(), by_cause);
    assert_eq!(regions.refaults_after(), &BTreeMap::from([(Cause::EagerSplit, 7)]));
}

#[test]
fn a_giant_leaf_refaults_once() {
    let regions = follow(&[
        (Cause::NotifierClear, Zap, 3, 0, 2),
        (Cause::GuestFault, Install, 3, 0, 1),
        (Cause::GuestFault, Install, 3, 1 << 18, 1),
    ]);
    assert_eq!([1, 2, 3].map(|level| regions.refaults().of_level(level)), [0, 0, 2]);
}

#[test]
fn first_touch_is_no_recovery() {
    let regions = follow(&[(Cause::GuestFault, Install, 2, 0, 32)]);
    assert_eq!(regions.counts(), RegionCounts::default());
}

#[test]
fn a_giant_leaf_is_every_region_in_it() {
    let split = (Cause::EagerSplit, Split, 3, 0, 1);
    assert_eq!(follow(&[split]).counts().lost, 0);
    let lost = [split, (Cause::EagerSplit, Split, 2, 0, 512)];
    assert_eq!(follow(&lost).counts().lost, 512);
    let back = [lost[0], lost[1], (Cause::Collapse, Recover, 3, 0, 1)];
    assert_eq!(follow(&back).counts().recovered, 512);
}

#[test]
fn an_ended_vm_leaves_nothing_outstanding() {
    let mut followed = Followed::default();
    followed.apply(1, 0, &change(Cause::NotifierClear, Zap, 2, 0, 4));
    followed.apply(2, 0, &change(Cause::GuestFault, Install, 1, 0, 1));
    followed.end();
    let counts = followed.counts();
    assert_eq!((counts.gone, counts.outstanding, counts.small_to_the_end), (3, 0, 1));
}

#[test]
fn a_deleted_slot_takes_its_own_regions_only() {
    // All mappings of the VM are zapped when one of its slots is deleted.
    let mut followed = Followed::default();
    followed.apply(1, 0, &change(Cause::SlotGone, Zap, 2, 0, 6));
    assert_eq!(followed.counts().lost, 0);
    followed.slot_gone(&slot(512, 3 * 512 + 1));
    let counts = followed.counts();
    assert_eq!((counts.lost, counts.taken_away, counts.outstanding), (3, 3, 3));
    assert_eq!(counts.gone, 0);
    let mut left: Vec<_> = followed.regions.outstanding().map(|(region, _)| region.gfn()).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 4 * 512, 5 * 512]);
    followed.slot_gone(&Slot { as_id: 1, ..slot(0, 1 << 20) });
    assert_eq!(followed.counts().outstanding, 3);
}

#[test]
fn what_the_guest_touches_was_not_taken_away() {
    let mut followed = Followed::default();
    followed.apply(1, 0, &change(Cause::SlotGone, Zap, 2, 0, 3));
    followed.apply(2, 0, &change(Cause::GuestFault, Install, 2, 0, 1));
    followed.apply(3, 0, &change(Cause::GuestFault, Install, 1, 512, 1));
    followed.slot_gone(&slot(1024, 512));
    let counts = followed.counts();
    assert_eq!((counts.lost, counts.recovered, counts.refaulted_small), (2, 1, 1));
    assert_eq!(counts.taken_away, 1);
}

#[test]
fn mapped_small_when_taken_away_is_not_recovered() {
    let lose = [
        (Cause::NotifierProtect, Zap, 2, 0, 4),
        (Cause::GuestFault, Install, 1, 0, 512),
        // Of region 2 nothing is touched, region 3 is huge again.
        (Cause::GuestFault, Install, 1, 512, 1),
        (Cause::GuestFault, Install, 2, 3 * 512, 1),
    ];
    let mut followed = Followed { regions: follow(&lose), ..Followed::default() };
    let ended = |mut followed: Followed| {
        followed.end();
        followed.counts()
    };
    let takes = |cause| {
        let mut followed = Followed { regions: followed.regions.clone(), ..Followed::default() };
        for (level, gfn, count) in [(1, 0, 513), (2, 3 * 512, 1)] {
            followed.apply(9, 0, &change(cause, Zap, level, gfn, count));
        }
        followed
    };
    let mut deleted = takes(Cause::SlotGone);
    deleted.slot_gone(&slot(0, 4 * 512));
    let deleted = deleted.counts();
    let unmapped = ended(takes(Cause::NotifierUnmap));
    for counts in [deleted, unmapped] {
        assert_eq!((counts.lost, counts.recovered, counts.outstanding), (4, 1, 0));
        assert_eq!((counts.small_to_the_end, counts.gone, counts.taken_away), (2, 1, 1));
        assert_eq!(counts.standing(false), Standing::Bad);
    }
    followed.end();
    let counts = followed.counts();
    assert_eq!((counts.small_to_the_end, counts.gone, counts.taken_away), (2, 1, 0));
}

#[test]
fn under_dirty_logging_nothing_could_come_back() {
    let mut followed = Followed::default();
    let logged = Slot { flags: 1, ..slot(0, 8 * 512) };
    followed.slots.insert((0, 1), logged);
    followed.apply(1, 0, &change(Cause::EagerSplit, Split, 2, 0, 8));
    assert_eq!(followed.counts().standing(true), Standing::Waiting);
    followed.end();
    let counts = followed.counts();
    assert_eq!((counts.lost, counts.gone, counts.small_to_the_end), (8, 8, 0));
    assert_eq!(counts.standing(false), Standing::Unaffected);
}

/// A guest that was under dirty logging before it was watched, and to its end.
#[test]
fn logging_that_was_on_before_is_known_by_its_faults() {
    for (cause, expected) in [(Cause::LoggedFault, (2, 0)), (Cause::NotifierProtect, (0, 2))] {
        let mut followed = Followed::default();
        followed.apply(1, 0, &change(cause, Zap, 2, 0, 2));
        followed.apply(2, 0, &change(cause, SplitRelink, 2, 0, 2));
        followed.apply(3, 0, &change(Cause::LoggedFault, Install, 1, 0, 1024));
        followed.end();
        let counts = followed.counts();
        assert_eq!((counts.gone, counts.small_to_the_end), expected, "{cause:?}");
    }
}

#[test]
fn the_teardown_takes_what_is_huge() {
    let mut regions = follow(&[(Cause::GuestFault, Install, 2, 0, 8)]);
    regions.teardown(9_000, &change(Cause::Teardown, Zap, 2, 0, 8));
    regions.teardown(9_000, &change(Cause::Teardown, Zap, 1, 9 * 512, 8));
    let counts = regions.counts();
    assert_eq!((counts.taken_away_with_vm, counts.taken_away, counts.lost), (8, 0, 0));
}

#[test]
fn time_to_recover_counts_from_log_off() {
    let mut followed = Followed::default();
    followed.apply(1_000, 0, &change(Cause::EagerSplit, Split, 2, 0, 4));
    followed.regions.log_off(&slot(0, 4 * 512), 24_000);
    followed.apply(25_000, 0, &change(Cause::Collapse, Zap, 1, 0, 4 * 512));
    followed.apply(26_000, 0, &change(Cause::GuestFault, Install, 2, 0, 4));
    // Lost later, and so could come back at once.
    followed.apply(30_000, 0, &change(Cause::NotifierClear, Zap, 2, 0, 1));
    followed.apply(37_000, 0, &change(Cause::GuestFault, Install, 2, 0, 1));
    let regions = &followed.regions;
    assert_eq!(regions.time_to_recover().sum(), Some(4 * 2_000 + 7_000));
    assert_eq!(regions.time_to_recover_from_loss().sum(), Some(4 * 25_000 + 7_000));
    assert_eq!(regions.returned().get(Region::of(0, 512)).map(|back| back.since), Some(24_000));
}

#[test]
fn small_from_the_start_and_huge_later_is_a_gain() {
    let gained = |changes: &[_]| {
        let regions = follow(changes);
        assert_eq!(regions.counts().recovered, 0);
        regions.became_huge().clone()
    };
    let small = (Cause::LoggedFault, Install, 1, 0, 1024);
    let zap = (Cause::Collapse, Zap, 1, 0, 1024);
    let huge = (Cause::GuestFault, Install, 2, 0, 4);
    assert_eq!(gained(&[small, zap, huge]), BTreeMap::from([(Cause::GuestFault, 2)]));
    assert_eq!(gained(&[huge]), BTreeMap::new());
    // Small before we watched.
    let rebuilt = (Cause::Collapse, Recover, 2, 0, 3);
    assert_eq!(gained(&[rebuilt]), BTreeMap::from([(Cause::Collapse, 3)]));
    // Other memory than before.
    let unmapped = (Cause::NotifierUnmap, Zap, 1, 0, 1024);
    assert_eq!(gained(&[small, unmapped, huge]), BTreeMap::new());
}

#[derive(Clone, Debug)]
enum Happening {
    Change(Change),
    SlotGone(u64, u64),
    End,
}

fn happening() -> impl Strategy<Value = Happening> {
    let transition = prop::sample::select(Transition::ALL.to_vec());
    let cause = prop::sample::select(Cause::ALL.to_vec());
    let change = (transition, cause, 1u32..=3, 0u64..20_000, 1u32..2_000);
    prop_oneof![
        20 => change.prop_map(|(transition, cause, level, gfn, count)| Happening::Change(change_at(
            cause, transition, level, gfn, count
        ))),
        1 => (0u64..20_000, 0u64..5_000).prop_map(|(base, n)| Happening::SlotGone(base, n)),
        1 => Just(Happening::End),
    ]
}

fn change_at(cause: Cause, transition: Transition, level: u32, gfn: u64, count: u32) -> Change {
    let count = if level == 3 { count % 3 + 1 } else { count };
    change(cause, transition, level, gfn & !(frames(level) - 1), count)
}

proptest! {
    /// Whatever happens, in whatever order it is recorded, every loss is accounted for, in all and
    /// by episode.
    #[test]
    fn losses_add_up(
        happenings in prop::collection::vec((happening(), 0u64..1_000, 0u32..4), 0..40),
    ) {
        let mut followed = Followed::default();
        for (happening, at, episode) in happenings {
            match happening {
                Happening::Change(change) => followed.apply(at, episode, &change),
                Happening::SlotGone(base, n) => followed.slot_gone(&slot(base, n)),
                Happening::End => followed.end(),
            }
            let counts = followed.counts();
            let regions = &followed.regions;
            let kept = counts.outstanding + counts.gone + counts.small_to_the_end;
            prop_assert_eq!(counts.lost, counts.recovered + kept);
            prop_assert_eq!(counts.recovered, counts.recovered_by_refault + counts.recovered_in_place);
            prop_assert!(counts.recovered_by_promotion <= counts.recovered_in_place);
            prop_assert!(counts.recovered_read_only <= counts.recovered_in_place);
            prop_assert_eq!(counts.outstanding, counts.untouched + counts.refaulted_small);
            prop_assert_eq!(counts.lost, regions.lost_by_cause().values().sum::<u64>());
            prop_assert_eq!(counts.recovered, regions.time_to_recover().count());
            prop_assert_eq!(counts.recovered, regions.time_to_recover_from_loss().count());
            prop_assert!(regions.time_to_recover().sum() <= regions.time_to_recover_from_loss().sum());
            let mapped = |mapping| {
                regions.outstanding().filter(|(_, lost)| lost.mapping() == mapping).count() as u64
            };
            prop_assert_eq!(counts.outstanding, regions.outstanding().count() as u64);
            prop_assert_eq!(counts.refaulted_small, mapped(Mapping::Small));
            prop_assert_eq!(counts.still_split, mapped(Mapping::StillSplit));
            prop_assert_eq!(counts.untouched, mapped(Mapping::StillSplit) + mapped(Mapping::None));
            let told = followed.told.values();
            prop_assert_eq!(counts.lost, told.clone().map(|told| told.lost).sum::<u64>());
            prop_assert_eq!(counts.outstanding, told.clone().map(|told| told.outstanding).sum::<u64>());
            prop_assert_eq!(counts.still_split, told.map(|told| told.still_split).sum::<u64>());
        }
    }

    /// A region keeps its address space and first frame.
    #[test]
    fn regions_are_what_they_were_made_of(as_id in 0u32..2, gfn in 0u64..1 << 52) {
        let region = Region::of(as_id, gfn);
        prop_assert_eq!((region.as_id(), region.gfn()), (as_id, gfn / 512 * 512));
    }
}

#[test]
fn what_came_back_is_remembered_until_it_is_lost_again() {
    let mut changes = vec![
        (Cause::EagerSplit, Split, 2, 0, 2),
        (Cause::Collapse, Zap, 1, 0, 1024),
        (Cause::GuestFault, Install, 2, 0, 2),
    ];
    let regions = follow(&changes);
    let returned = regions.returned().get(Region::of(0, 512)).unwrap();
    assert_eq!(
        (returned.at, returned.how, returned.cause),
        (3_000, Recovery::Refault, Cause::GuestFault)
    );
    assert_eq!((returned.lost.at, returned.lost.cause), (1_000, Cause::EagerSplit));
    changes.push((Cause::EagerSplit, Split, 2, 512, 1));
    let regions = follow(&changes);
    let left: Vec<_> = regions.returned().iter().map(|(region, _)| region.gfn()).collect();
    assert_eq!(left, [0]);
}

#[test]
fn what_is_gone_did_not_come_back() {
    let mut followed = Followed::default();
    followed.apply(1, 0, &change(Cause::EagerSplit, Split, 2, 0, 2));
    followed.apply(2, 0, &change(Cause::GuestFault, Install, 2, 0, 2));
    followed.slot_gone(&slot(0, 512));
    let left: Vec<_> = followed.regions.returned().iter().map(|(region, _)| region.gfn()).collect();
    assert_eq!(left, [512]);
}

#[test]
fn executing_again_undoes_the_nx_worker() {
    let split = (Cause::GuestFault, Split, 2, 0, 1);
    let zap = (Cause::NxRecovery, Zap, 1, 0, 512);
    let huge = (Cause::GuestFault, Install, 2, 0, 1);
    let small = (Cause::GuestFault, Install, 1, 7, 1);
    let nx = |changes: &[_]| {
        let regions = follow(changes);
        (regions.nx_recovery().zapped(), regions.nx_recovery().undone())
    };
    assert_eq!(nx(&[split, zap, huge]), (1, 0));
    assert_eq!(nx(&[split, zap, huge, split]), (1, 1));
    assert_eq!(nx(&[split, zap, small, small]), (1, 1));
    assert_eq!(nx(&[split, zap, small, zap, small]), (2, 2));
}
