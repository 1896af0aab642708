use std::{io::Cursor, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use proptest::prelude::*;
use uuid::Uuid;

use super::{block::BlockKind, *};
use crate::{
    Batch, Coverage, Mmu, Update,
    fixtures::{
        batches, key, machine, patchy_coverage as coverage, read, record, seconds, stacks, zap,
    },
};

fn recorder(path: &Path, coverage: &Coverage, limits: SizeLimits) -> Recorder {
    Recorder::new(create(path).unwrap(), path, machine(), coverage, limits).unwrap()
}

fn events(batches: &[Batch]) -> String {
    format!("{:?}", batches.iter().map(|batch| &batch.events).collect::<Vec<_>>())
}

#[test]
fn header_coverage_and_command_are_read_back() {
    let command = RecordedCommand { argv: vec!["sleep".to_owned()], status: None, signal: Some(9) };
    let bytes = record(&[], SizeLimits::default(), Some(&command));
    let mut replay = Replay::new(Cursor::new(&bytes)).unwrap();
    assert_eq!((replay.header().kernel.as_str(), replay.header().segment), ("6.12", 0));
    assert_eq!(replay.machine(), &machine());
    assert_eq!(format!("{:?}", replay.coverage()), format!("{:?}", coverage()));
    assert!(replay.next_update().unwrap().is_none());
    assert_eq!(replay.end(), Some(&RecordingEnd { command: Some(command), full: false }));
}

#[test]
fn coverage_that_changes_comes_with_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let less = Coverage { mmu: Mmu::Tdp, signals: Vec::new(), timed_faults: 0, ..coverage() };
    let mut recorder = recorder(&path, &coverage(), SizeLimits::default());
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
fn a_newer_version_is_refused_with_its_number() {
    let mut bytes = record(&seconds(1), SizeLimits::default(), None);
    bytes[MAGIC.len()] = VERSION as u8 + 1;
    let error = read(&bytes).1.unwrap_err();
    assert!(matches!(error, RecordingError::TooNew(3)), "{error}");
    for foreign in [&b""[..], b"\x89CLP", b"PK\x03\x04 something else"] {
        assert!(matches!(read(foreign).1, Err(RecordingError::NotARecording)));
    }
}

#[test]
fn a_full_recording_is_complete() {
    let batches = seconds(1000);
    let bytes = record(&batches, SizeLimits { max_size: Some(8000), keep_last: None }, None);
    assert!(bytes.len() <= 8000);
    let (read, end) = read(&bytes);
    assert!(end.unwrap().full);
    assert!(read.len() > 20 && events(&read) == events(&batches[..read.len()]));
}

#[test]
fn only_the_latest_is_kept() {
    let mut batches = seconds(100);
    batches[0].uuids = vec![(key(1), Uuid::from_u128(7))];
    let keep_last = Some(Duration::from_secs(10));
    let (kept, end) = read(&record(&batches, SizeLimits { max_size: None, keep_last }, None));
    assert!(end.is_ok());
    // The first batch is the baseline of the segment.
    assert!((11..=21).contains(&kept.len()), "{}", kept.len());
    let first = batches.len() - kept.len();
    assert_eq!(kept[0].at, batches[first].at);
    assert_eq!(format!("{:?}", kept[0].rows), format!("{:?}", batches[first].rows));
    assert_eq!(kept[0].uuids, batches[0].uuids);
    assert!(kept[0].events.is_empty());
    assert_eq!(events(&kept[1..]), events(&batches[first + 1..]));
}

#[test]
fn a_recorder_killed_with_keep_last_leaves_two_files_to_concatenate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let limits = SizeLimits { max_size: Some(6000), keep_last: Some(Duration::from_hours(1)) };
    let mut recorder = recorder(&path, &coverage(), limits);
    let batches = seconds(300);
    for batch in &batches {
        recorder.update(&Update::Batch(batch.clone()), &coverage()).unwrap();
    }
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let old = path.with_extension("old");
    assert!(size(&old) + size(&path) <= 6000);
    for part in [&old, &path] {
        let mode = std::fs::metadata(part).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", part.display());
    }
    let bytes = [std::fs::read(old).unwrap(), std::fs::read(&path).unwrap()].concat();
    let (kept, end) = read(&bytes);
    assert!(matches!(end, Err(RecordingError::Cut(_))));
    assert_eq!(events(&kept[1..]), events(&batches[batches.len() - kept.len() + 1..]));
}

#[test]
fn a_block_that_claims_to_be_long_allocates_nothing() {
    let mut bytes = record(&[], SizeLimits::default(), None);
    bytes.extend([
        BlockKind::Batch as u8,
        0xff,
        0xff,
        0xff,
        0x03,
        0xff,
        0xff,
        0xff,
        0x03,
        0,
        0,
        0,
        0,
    ]);
    assert!(matches!(read(&bytes).1, Err(RecordingError::Cut(_))));
}

#[test]
fn scattered_changes_stay_small() {
    let events = (0..10_000u64).map(|n| zap(n * 3000, n * 7919 % 100_000, 1)).collect();
    let bytes = record(&[Batch { events, ..Batch::default() }], SizeLimits::default(), None);
    assert!(bytes.len() < 100_000, "{}", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No part of a batch that the model uses is lost.
    #[test]
    fn batches_are_read_back(batches in batches()) {
        let (read, end) = read(&record(&batches, SizeLimits::default(), None));
        prop_assert_eq!(end.unwrap(), RecordingEnd { command: None, full: false });
        prop_assert_eq!(events(&read), events(&batches));
        let vms = |batches: &[Batch]| format!("{:?}", batches.iter().map(|b| (b.at, b.settled, &b.vms, &b.uuids)).collect::<Vec<_>>());
        prop_assert_eq!(vms(&read), vms(&batches));
        prop_assert!(read.iter().all(|batch| batch.stacks == stacks()));
    }

    /// A recording cut anywhere is read up to the cut, which is reported.
    #[test]
    fn a_recording_that_is_cut_short_is_read_up_to_there(batches in batches(), cut: prop::sample::Index) {
        let bytes = record(&batches, SizeLimits::default(), None);
        let cut = cut.index(bytes.len());
        let (read, end) = read(&bytes[..cut]);
        prop_assert!(end.is_err());
        prop_assert_eq!(events(&read), events(&batches[..read.len()]));
    }

    /// A changed byte anywhere is detected, and everything before it is read.
    #[test]
    fn damage_is_found(batches in batches(), at: prop::sample::Index, bits in 1..=255u8) {
        let mut bytes = record(&batches, SizeLimits::default(), None);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let (read, end) = read(&bytes);
        prop_assert!(end.is_err());
        prop_assert_eq!(events(&read), events(&batches[..read.len()]));
    }

    /// Payloads with a correct checksum are not trusted either.
    #[test]
    fn any_payload_is_survived(
        kind in prop::sample::select(&BlockKind::ALL[..]),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        batches in batches(),
    ) {
        let mut bytes = record(&batches, SizeLimits::default(), None);
        // Cuts off the end block.
        bytes.truncate(bytes.len() - block::HEAD - 2);
        block::append(kind, &payload, &mut bytes).unwrap();
        let (read, _) = read(&bytes);
        prop_assert!(read.len() >= batches.len());
    }
}
