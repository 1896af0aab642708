use collapse_common::{
    Cause, Transition,
    abi::{Pages, Row, VmKey},
    counter::index,
    latency::{NO_LATENCIES, Outcome, bucket},
};

use super::*;
use collapse_feed::fixtures::{self, process};
use collapse_feed::{Change, EventKind, Slot, SlotChange, VmReading};

fn key(number: u64) -> VmKey {
    VmKey { kvm: 0x1000 + number, born: number }
}

fn reading(vm: VmKey, pages: Option<Pages>) -> VmReading {
    VmReading { vm, pages, process: None, fd: None }
}

fn installs(vm: VmKey, huge: u64) -> (VmKey, Cause, Box<Row>) {
    (vm, Cause::GuestFault, fixtures::row(&[(index(Transition::Install, 2), huge)]))
}

fn batch(at: u64, settled: bool) -> Batch {
    Batch { at, settled, ..Batch::default() }
}

fn event(ts: u64, vm: VmKey, kind: EventKind) -> Event {
    Event { ts, vm, tid: 1, kind }
}

#[test]
fn counts_and_gauges_are_compared_at_each_reading() {
    let mut model = Model::default();
    let mut read = |at, settled, installed, huge| {
        let rows = vec![installs(key(1), installed)];
        let vms = vec![reading(key(1), Some([0, huge, 0]))];
        model.apply(&Batch { vms, rows, ..batch(at, settled) });
        let vm = &model.vms[&key(1)];
        (vm.reconciliation.grade(), vm.residual())
    };
    assert_eq!(read(10, true, 0, 100), (Grade::Exact, Some([0; 3])));
    assert_eq!(read(20, true, 5, 105), (Grade::Exact, Some([0; 3])));
    assert_eq!(read(30, false, 5, 106), (Grade::Moving, Some([0, 1, 0])));
    assert_eq!(read(40, true, 6, 106), (Grade::Exact, Some([0; 3])));
    assert_eq!(read(50, true, 6, 107), (Grade::Moving, Some([0, 1, 0])));
    for at in 51..54 {
        assert_eq!(read(at, true, 6, 107), (Grade::Moving, Some([0, 1, 0])));
    }
    assert_eq!(read(60, true, 6, 107), (Grade::Off, Some([0, 1, 0])));
    let reconciliation = model.vms[&key(1)].reconciliation;
    assert_eq!((reconciliation.intervals, reconciliation.off), (3, 1));
}

#[test]
fn a_vm_without_gauges_is_not_judged() {
    let mut model = Model::default();
    model.apply(&Batch { vms: vec![reading(key(1), None)], ..batch(10, true) });
    assert_eq!(model.vms[&key(1)].reconciliation.grade(), Grade::Unknown);
}

#[test]
fn a_vm_that_ended_is_judged_once_more() {
    let mut model = Model::default();
    model.apply(&batch(1, true));
    let created = EventKind::VmCreated { pages: Some([0; 3]), process: process(1) };
    let events = vec![
        event(2, key(2), created),
        event(3, key(2), EventKind::VmDestroyed { pages: Some([0, 4, 0]) }),
        event(4, key(2), EventKind::VmFlushed { pages: Some([0; 3]) }),
    ];
    let (vm, cause, mut row) = installs(key(2), 4);
    row[index(Transition::Zap, 2)] = 4;
    // Other VMs go on, but this one does not move any more.
    model.apply(&Batch { events, rows: vec![(vm, cause, row)], ..batch(10, false) });
    model.apply(&batch(20, true));
    let reconciliation = model.vms[&key(2)].reconciliation;
    assert_eq!((reconciliation.grade(), reconciliation.intervals), (Grade::Exact, 1));
}

#[test]
fn the_host_is_all_vms_together() {
    let mut model = Model::default();
    let mut read = |at, rows: [u64; 2]| {
        let vms = [1, 2].map(|vm| reading(key(vm), Some([0, rows[vm as usize - 1], 0]))).to_vec();
        let rows = [1, 2].map(|vm| installs(key(vm), rows[vm as usize - 1])).to_vec();
        model.apply(&Batch { vms, rows, ..batch(at, true) });
        let last = *model.history.last().unwrap();
        (last.at, last.pages, last.values[MetricId::Installs])
    };
    // What was there before we watched does not count.
    assert_eq!(read(10, [5, 7]), (10, Some([0, 12, 0]), 0));
    assert_eq!(read(20, [6, 9]), (20, Some([0, 15, 0]), 3));
    let end = vec![event(25, key(2), EventKind::VmFlushed { pages: Some([0; 3]) })];
    model.apply(&Batch { events: end, vms: vec![reading(key(1), None)], ..batch(30, true) });
    model.apply(&batch(40, true));
    let last = model.history.last().unwrap();
    assert_eq!((last.pages, last.values[MetricId::Installs]), (None, 3));
    assert_eq!(model.vms[&key(2)].history.last().unwrap().at, 30);
}

#[test]
fn latencies_count_from_the_first_reading_on() {
    let mut model = Model::default();
    let mut read = |at, n| {
        let mut row = Box::new(NO_LATENCIES);
        row[Outcome::Fast as usize][bucket(900)] = n;
        let latencies = vec![(key(1), Cause::LoggedFault, row)];
        model.apply(&Batch { latencies, vms: vec![reading(key(1), None)], ..batch(at, true) });
        model.vms[&key(1)].timed_faults(1).estimate(Cause::LoggedFault, Outcome::Fast)
    };
    assert_eq!([read(10, 40), read(20, 42)], [0, 2]);
}

#[test]
fn dirty_logging_that_was_on_before_is_an_episode() {
    use collapse_feed::{Slot, SlotChange};
    let slot = Slot { id: 3, as_id: 0, base_gfn: 0, npages: 512, flags: 1, userspace_addr: None };
    let changed =
        |slot, change| EventKind::SlotChanged { slot, change, logging: slot.flags & 1 != 0 };
    let mut model = Model::default();
    // While hooks were being attached.
    let events = vec![event(5, key(1), changed(slot, SlotChange::LogOn))];
    model.apply(&Batch { events, ..batch(10, true) });
    let off = changed(Slot { flags: 0, ..slot }, SlotChange::LogOff);
    model.apply(&Batch { events: vec![event(15, key(1), off)], ..batch(20, true) });
    let vm = &model.vms[&key(1)];
    let episode = vm.episodes.kept().next().unwrap();
    assert_eq!((vm.episodes.count(), episode.began_before), (1, true));
    assert_eq!((episode.start, episode.log_off), (10, Some(15)));
}

#[test]
fn a_deleted_slot_does_not_leave_its_regions_outstanding() {
    use collapse_feed::{Slot, SlotChange};
    let zap = Change { level: 2, count: 8, ..fixtures::change(Cause::SlotGone, Transition::Zap) };
    let slot =
        Slot { id: 3, as_id: 0, base_gfn: 0, npages: 5 * 512, flags: 0, userspace_addr: None };
    let mut model = Model::default();
    model.apply(&batch(1, true));
    let deleted = EventKind::SlotChanged { slot, change: SlotChange::Deleted, logging: false };
    let events = vec![event(2, key(1), EventKind::Change(zap)), event(3, key(1), deleted)];
    model.apply(&Batch { events, ..batch(10, true) });
    let counts = model.vms[&key(1)].regions.counts();
    assert_eq!((counts.lost, counts.taken_away, counts.outstanding), (3, 5, 3));
}

#[test]
fn only_so_many_vms_that_ended_are_kept() {
    let mut model = Model::default();
    model.apply(&batch(1, true));
    let ends = |numbers: std::ops::Range<u64>| {
        let end = |number| event(number, key(number), EventKind::VmDestroyed { pages: None });
        numbers.map(end).collect::<Vec<_>>()
    };
    model.apply(&Batch { vms: vec![reading(key(1), None)], ..batch(2, true) });
    model.apply(&Batch { events: ends(10..1_510), ..batch(2_000, true) });
    // Their last counts come once more.
    let rows = vec![installs(key(10), 3)];
    model.apply(&Batch { rows, events: ends(2_010..2_012), ..batch(3_000, true) });
    model.apply(&batch(4_000, true));
    assert_eq!((model.vms.len(), model.ended()), (GONE_KEPT + 1, 1_502));
    assert_eq!(model.forgotten, 1_502 - GONE_KEPT as u64);
    assert!(model.vms.contains_key(&key(1)) && !model.vms.contains_key(&key(10)));
}

#[test]
fn counts_go_on_from_where_they_were_when_kvm_comes_back() {
    let mut model = Model::default();
    let losses = |n| vec![("ring_full_changes", n)];
    let rows = vec![installs(VmKey::default(), 7), installs(key(1), 3)];
    model.apply(&Batch { vms: vec![reading(key(1), None)], ..batch(10, true) });
    model.apply(&Batch { rows, losses: losses(2), ..batch(20, true) });
    model.detached(30, "gone".to_owned());
    assert!(model.vms[&key(1)].gone && model.unwatched.is_some());
    assert_eq!((model.window(), model.ended(), model.reloads), (20, 1, 0));

    model.reattached();
    let created = EventKind::VmCreated { pages: Some([0; 3]), process: process(1) };
    // While hooks were still being attached: not all that it did was counted.
    let early = event(35, key(34), created.clone());
    model.apply(&Batch { events: vec![early], losses: losses(0), ..batch(40, true) });
    let events = vec![event(45, key(45), created)];
    let rows = vec![installs(VmKey::default(), 1), installs(key(45), 4)];
    model.apply(&Batch { events, rows, losses: losses(1), ..batch(50, true) });
    assert_eq!((model.reloads, model.unwatched.as_deref(), model.window()), (1, None, 40));
    assert_eq!(model.losses["ring_full_changes"], 3);
    assert_eq!(model.unattributed.transitions(Transition::Install, 2), 8);
    assert_eq!(model.vms[&key(1)].totals().transitions(Transition::Install, 2), 3);
    assert_eq!(model.vms[&key(45)].totals().transitions(Transition::Install, 2), 4);
    assert!(model.vms[&key(45)].created && !model.vms[&key(34)].created);
}

#[test]
fn dirty_logging_of_a_vm_that_was_there_before_is_known_once_it_is_switched() {
    let slot = Slot { id: 1, as_id: 0, base_gfn: 0, npages: 512, flags: 0, userspace_addr: None };
    let switched = |at, change, logging| {
        let mut model = Model::default();
        model.apply(&Batch { vms: vec![reading(key(1), None)], ..batch(10, true) });
        let vm = &model.vms[&key(1)];
        assert_eq!((vm.is_logging(), vm.logging_was_known()), (None, false));
        let kind = EventKind::SlotChanged { slot, change, logging };
        model.apply(&Batch { events: vec![event(at, key(1), kind)], ..batch(20, true) });
        let vm = &model.vms[&key(1)];
        (vm.is_logging(), vm.logging_was_known())
    };
    assert_eq!(switched(15, SlotChange::LogOff, false), (Some(false), false));
    assert_eq!(switched(15, SlotChange::LogOn, true), (Some(true), true));
    assert_eq!(switched(15, SlotChange::Other, false), (None, false));
    assert_eq!(switched(5, SlotChange::LogOn, true), (Some(true), true));
}
