use std::{io::Cursor, path::Path, time::Duration};

use collapse_common::{Cause, Transition, abi::VmKey, counter::COUNTERS};
use proptest::prelude::*;

use super::{
    any::{batches, key, stacks},
    block::Kind,
    *,
};
use crate::{
    events::{EventWriter, Filter, Lines, Sample},
    export::{Folded, Perfetto},
    kernel::Machine,
    model::Model,
    plan::{Coverage, Mmu, SIGNALS, SignalStatus},
    report::{Format, Report, Style},
    source::{Batch, Change, Event, EventKind, Slot, SlotChange, Update, VmReading},
};

fn coverage() -> Coverage {
    let signals = SIGNALS.iter().enumerate().map(|(at, signal)| SignalStatus {
        signal,
        way: (at % 3 > 0).then(|| signal.ways[0]),
        reason: (at % 3 == 0).then(|| format!("reason {at}")),
    });
    Coverage {
        mmu: Mmu::Rmap,
        signals: signals.collect(),
        timed_faults: 8,
        spte: collapse_common::SpteLayout::NPT,
    }
}

fn machine() -> Machine {
    Machine { name: Some("web7".to_owned()), kernel: "6.12".to_owned() }
}

/// Everything that is made of updates.
fn show(updates: impl IntoIterator<Item = Update>) {
    let clocks = Clocks { monotonic: 5, wall: 7 };
    let filter = Filter { sample: Some(Sample(2)), ..Filter::default() };
    let lines = EventWriter::new(io::sink(), Lines::Csv, clocks, machine(), &coverage(), filter);
    let mut lines = lines.unwrap();
    let mut trace = Perfetto::new(io::sink(), clocks).unwrap();
    let mut folded = Folded::new(io::sink());
    let mut model = Model::default();
    for update in updates {
        folded.update(update.clone(), &mut Model::default());
        lines.update(update.clone(), &mut model).unwrap();
        trace.update(&update, &model).unwrap();
    }
    trace.finish(&model).unwrap();
    folded.finish().unwrap();
    let report = Report::of_recording(&model, &coverage(), machine(), None);
    for format in [Format::Text, Format::Json, Format::Html, Format::Csv] {
        format.write(&report, Style::Plain).unwrap();
    }
}

fn recorder(path: &Path, coverage: &Coverage, limits: Limits) -> Recorder {
    Recorder::new(create(path).unwrap(), path, machine(), coverage, limits).unwrap()
}

/// A recording of these batches.
fn record(batches: &[Batch], limits: Limits, command: Option<&Command>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let mut recorder = recorder(&path, &coverage(), limits);
    for batch in batches {
        recorder.update(&Update::Batch(batch.clone()), &coverage()).unwrap();
    }
    recorder.finish(command).unwrap();
    std::fs::read(path).unwrap()
}

/// All batches of a recording, and how it ended.
fn read(bytes: &[u8]) -> (Vec<Batch>, Result<End, RecordingError>) {
    let mut batches = Vec::new();
    let mut replay = match Replay::new(Cursor::new(bytes)) {
        Ok(replay) => replay,
        Err(error) => return (batches, Err(error)),
    };
    loop {
        match replay.next_update() {
            Ok(Some(Update::Batch(batch))) => batches.push(batch),
            Ok(Some(_)) => {}
            Ok(None) => return (batches, Ok(replay.end().unwrap().clone())),
            Err(error) => return (batches, Err(error)),
        }
    }
}

fn events(batches: &[Batch]) -> String {
    format!("{:?}", batches.iter().map(|batch| &batch.events).collect::<Vec<_>>())
}

fn change(ts: u64, gfn: u64, count: u32) -> Event {
    let change = Change {
        cause: Cause::Collapse,
        transition: Transition::Zap,
        level: 1,
        as_id: 0,
        gfn,
        count,
        read_only: false,
        sptes: None,
        stack: None,
    };
    Event { ts, vm: key(1), tid: 7, kind: EventKind::Change(change) }
}

/// A batch a second.
fn seconds(n: u64) -> Vec<Batch> {
    let batch = |at: u64| {
        let mut row = Box::new([0; COUNTERS]);
        row[13] = at * 512;
        Batch {
            at: at * 1_000_000_000,
            settled: true,
            vms: vec![VmReading { vm: key(1), pages: Some([at, 2, 3]), process: None, fd: None }],
            rows: vec![(key(1), Cause::Collapse, row)],
            events: vec![change(at * 1_000_000_000 - 5, at * 512, 512)],
            ..Batch::default()
        }
    };
    (1..=n).map(batch).collect()
}

#[test]
fn header_coverage_and_command_come_back() {
    let command = Command { argv: vec!["sleep".to_owned()], status: None, signal: Some(9) };
    let bytes = record(&[], Limits::default(), Some(&command));
    let mut replay = Replay::new(Cursor::new(&bytes)).unwrap();
    assert_eq!((replay.header().kernel.as_str(), replay.header().segment), ("6.12", 0));
    assert_eq!(replay.machine(), &machine());
    assert_eq!(format!("{:?}", replay.coverage()), format!("{:?}", coverage()));
    assert!(replay.next_update().unwrap().is_none());
    assert_eq!(replay.end(), Some(&End { command: Some(command), full: false }));
}

#[test]
fn coverage_that_changes_comes_with_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let less = Coverage {
        mmu: Mmu::Tdp,
        signals: Vec::new(),
        timed_faults: 0,
        spte: collapse_common::SpteLayout::NPT,
    };
    let mut recorder = recorder(&path, &coverage(), Limits::default());
    let batch = Update::Batch(Batch::default());
    recorder.update(&batch, &coverage()).unwrap();
    recorder.update(&batch, &less).unwrap();
    let mut replay = Replay::open(&path).unwrap();
    replay.next_update().unwrap();
    assert_eq!(replay.coverage().mmu, Mmu::Rmap);
    replay.next_update().unwrap();
    assert_eq!(replay.coverage().mmu, Mmu::Tdp);
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut bytes = record(&seconds(1), Limits::default(), None);
    bytes[MAGIC.len()] = VERSION as u8 + 1;
    let error = read(&bytes).1.unwrap_err();
    assert!(matches!(error, RecordingError::TooNew(2)), "{error}");
    for foreign in [&b""[..], b"\x89CLP", b"PK\x03\x04 something else"] {
        assert!(matches!(read(foreign).1, Err(RecordingError::NotARecording)));
    }
}

/// What a model looks like that took these updates one after the other.
fn modelled(updates: impl IntoIterator<Item = Update>) -> Model {
    let mut model = Model::default();
    for update in updates {
        model.update(update);
    }
    model
}

/// KVM goes after every third batch and comes back, each time with programs that count from zero.
fn reloaded(seconds: Vec<Batch>) -> Vec<Update> {
    let second = 1_000_000_000;
    let mut updates = Vec::new();
    for (at, mut batch) in seconds.into_iter().enumerate() {
        let (now, part) = (batch.at, at as u64 / 3);
        // Totals of the unknown VM do not change, and are the same again after a reload.
        batch.rows.push((VmKey::default(), Cause::Unknown, Box::new([7; COUNTERS])));
        batch.losses = vec![("ring_full_changes", 5)];
        for (vm, ..) in &mut batch.rows[..1] {
            vm.born += part;
        }
        batch.vms[0].vm.born += part;
        batch.events[0].vm.born += part;
        updates.push(Update::Batch(batch));
        if at % 3 == 2 {
            let why = "no KVM".to_owned();
            updates.push(Update::Detached { at: now + second / 4, why });
            updates.push(Update::Blind { at: now + second / 3 });
            updates.push(Update::Attached { at: now + second / 2 });
        }
    }
    updates
}

#[test]
fn a_reload_of_kvm_adds_up_to_the_same() {
    let updates = reloaded(seconds(9));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    for keep_last in [None, Some(Duration::from_secs(2))] {
        let mut recorder = recorder(&path, &coverage(), Limits { max_size: None, keep_last });
        for update in &updates {
            recorder.update(update, &coverage()).unwrap();
        }
        recorder.finish(None).unwrap();
        let mut replay = Replay::open(&path).unwrap();
        let mut read = Vec::new();
        while let Some(update) = replay.next_update().unwrap() {
            read.push(update);
        }
        assert_eq!(replay.machine(), &machine());
        if keep_last.is_none() {
            let (read, told) = (modelled(read), modelled(updates.clone()));
            assert_eq!(format!("{read:#?}"), format!("{told:#?}"));
        } else {
            let model = modelled(read);
            // Of the last programs, and of those before that are still in it.
            assert!(model.reloads > 0 && model.losses["ring_full_changes"] >= 5);
        }
    }
}

#[test]
fn a_full_recording_is_complete() {
    let batches = seconds(1000);
    let bytes = record(&batches, Limits { max_size: Some(8000), keep_last: None }, None);
    assert!(bytes.len() <= 8000);
    let (read, end) = read(&bytes);
    assert!(end.unwrap().full);
    assert!(read.len() > 20 && events(&read) == events(&batches[..read.len()]));
}

#[test]
fn only_the_latest_is_kept() {
    let batches = seconds(100);
    let keep_last = Some(Duration::from_secs(10));
    let (kept, end) = read(&record(&batches, Limits { max_size: None, keep_last }, None));
    assert!(end.is_ok());
    // The first is where everything stood.
    assert!((11..=21).contains(&kept.len()), "{}", kept.len());
    let first = batches.len() - kept.len();
    assert_eq!(kept[0].at, batches[first].at);
    assert_eq!(format!("{:?}", kept[0].rows), format!("{:?}", batches[first].rows));
    assert!(kept[0].events.is_empty());
    assert_eq!(events(&kept[1..]), events(&batches[first + 1..]));
}

#[test]
fn what_is_killed_while_it_forgets_leaves_two_files_to_concatenate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let limits = Limits { max_size: Some(6000), keep_last: Some(Duration::from_hours(1)) };
    let mut recorder = recorder(&path, &coverage(), limits);
    let batches = seconds(300);
    for batch in &batches {
        recorder.update(&Update::Batch(batch.clone()), &coverage()).unwrap();
    }
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let old = path.with_extension("old");
    assert!(size(&old) + size(&path) <= 6000);
    let bytes = [std::fs::read(old).unwrap(), std::fs::read(&path).unwrap()].concat();
    let (kept, end) = read(&bytes);
    assert!(matches!(end, Err(RecordingError::Cut(_))));
    assert_eq!(events(&kept[1..]), events(&batches[batches.len() - kept.len() + 1..]));
}

#[test]
fn what_held_before_the_latest_is_known() {
    let slot = Slot { id: 3, as_id: 0, base_gfn: 0, npages: 512, flags: 1 };
    let on = EventKind::SlotChanged { slot, change: SlotChange::LogOn, logging: true };
    let mut batches = seconds(50);
    batches[0].events.push(Event { ts: 999_999_999, vm: key(1), tid: 1, kind: on });
    let keep_last = Some(Duration::from_secs(5));
    let (kept, _) = read(&record(&batches, Limits { max_size: None, keep_last }, None));
    let model = modelled(kept.into_iter().map(Update::Batch));
    let vm = &model.vms[&key(1)];
    assert!(vm.logging && vm.episodes.kept().next().unwrap().began_before);
}

#[test]
fn a_block_that_claims_to_be_long_allocates_nothing() {
    let mut bytes = record(&[], Limits::default(), None);
    bytes.extend([Kind::Batch as u8, 0xff, 0xff, 0xff, 0x03, 0xff, 0xff, 0xff, 0x03, 0, 0, 0, 0]);
    assert!(matches!(read(&bytes).1, Err(RecordingError::Cut(_))));
}

#[test]
fn scattered_changes_stay_small() {
    let events = (0..10_000u64).map(|n| change(n * 3000, n * 7919 % 100_000, 1)).collect();
    let bytes = record(&[Batch { events, ..Batch::default() }], Limits::default(), None);
    assert!(bytes.len() < 100_000, "{}", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing that the model could see is lost.
    #[test]
    fn batches_come_back(batches in batches()) {
        let (read, end) = read(&record(&batches, Limits::default(), None));
        prop_assert_eq!(end.unwrap(), End { command: None, full: false });
        prop_assert_eq!(events(&read), events(&batches));
        let vms = |batches: &[Batch]| format!("{:?}", batches.iter().map(|b| (b.at, b.settled, &b.vms)).collect::<Vec<_>>());
        prop_assert_eq!(vms(&read), vms(&batches));
        prop_assert!(read.iter().all(|batch| batch.stacks == stacks()));
    }

    /// Cut anywhere, what is before is read, and the cut is told.
    #[test]
    fn a_recording_that_is_cut_short_is_read_up_to_there(batches in batches(), cut: prop::sample::Index) {
        let bytes = record(&batches, Limits::default(), None);
        let cut = cut.index(bytes.len());
        let (read, end) = read(&bytes[..cut]);
        prop_assert!(end.is_err());
        prop_assert_eq!(events(&read), events(&batches[..read.len()]));
    }

    /// A changed byte anywhere is found, and what is before it is read.
    #[test]
    fn damage_is_found(batches in batches(), at: prop::sample::Index, bits in 1..=255u8) {
        let mut bytes = record(&batches, Limits::default(), None);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let (read, end) = read(&bytes);
        prop_assert!(end.is_err());
        prop_assert_eq!(events(&read), events(&batches[..read.len()]));
    }

    /// Payloads that a checksum vouches for are not trusted either.
    #[test]
    fn any_payload_is_survived(
        kind in 1..=10u8,
        payload in prop::collection::vec(any::<u8>(), 0..300),
        batches in batches(),
    ) {
        let mut bytes = record(&batches, Limits::default(), None);
        // Without the end.
        bytes.truncate(bytes.len() - block::HEAD - 2);
        let kind = [Kind::Header, Kind::Coverage, Kind::Baseline, Kind::Events, Kind::Batch, Kind::End, Kind::Sight, Kind::Hugetlb, Kind::Overhead, Kind::Stacks]
            [usize::from(kind) - 1];
        block::append(kind, &payload, &mut bytes).unwrap();
        let (read, _) = read(&bytes);
        prop_assert!(read.len() >= batches.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever counts and places a recording claims, they can be modelled and shown.
    #[test]
    fn what_is_read_can_be_shown(batches in batches()) {
        let (read, _) = read(&record(&batches, Limits::default(), None));
        prop_assert_eq!(read.len(), batches.len());
        show(read.into_iter().map(Update::Batch));
    }
}
