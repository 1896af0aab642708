//! Time to read recordings, and their size on disk.

use std::{
    fs,
    io::{self, Cursor},
    path::Path,
};

use collapse_common::{Cause, Transition, abi::VmKey};
use collapse_feed::{
    Batch, Change, Coverage, Event, EventKind, Machine, Mmu, Update, VmReading,
    fixtures::{change, full_coverage},
    recording::{self, Clocks, Recorder, Replay, SizeLimits},
};
use collapse_model::{
    Model,
    player::{Order, Player},
};
use collapse_report::events::{EventFilter, EventWriter, LineFormat};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Number of batches, each of a tenth of a second of a busy host.
const BATCHES: u64 = 10;
/// Number of events in a batch.
const EACH: u64 = 100_000;
const EVENTS: u64 = BATCHES * EACH;

/// Recordings of real failed migrations, from the tests' fixtures: one with changes in runs, and
/// one with each change on its own and with stacks.
const RECORDINGS: [(&str, &[u8]); 2] = [
    ("recording/runs", include_bytes!("../tests/fixtures/recorded/failed-migration.rec")),
    ("recording/stacks", include_bytes!("../tests/fixtures/recorded/stacks.rec")),
];

/// Makes a batch of faults by 16 vCPUs of 4 VMs, each of which maps a 4 KiB page. No two of them
/// form a run.
fn batch(number: u64) -> Batch {
    let vm = |n: u64| VmKey { kvm: 0xffff_8880_0000_0000 + n * 4096, born: n + 1 };
    let event = |n: u64| {
        let n = number * EACH + n;
        let gfn = scattered(n) % (1 << 22);
        let change = Change { gfn, ..change(Cause::GuestFault, Transition::Install) };
        Event {
            ts: n * 1000 + scattered(n) % 997,
            vm: vm(n % 4),
            tid: 100 + (n % 16) as u32,
            kind: EventKind::Change(change),
        }
    };
    let reading = |n| VmReading { vm: vm(n), pages: Some([n; 3]), process: None, fd: None };
    Batch {
        at: (number + 1) * EACH * 1000,
        settled: true,
        vms: (0..4).map(reading).collect(),
        events: (0..EACH).map(event).collect(),
        ..Batch::default()
    }
}

/// Maps each number to another, without a pattern that can be compressed (`SplitMix64`).
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn coverage() -> Coverage {
    full_coverage(Mmu::Tdp)
}

fn record(path: &Path) -> &Path {
    let file = recording::create(path).expect("a file");
    let mut recorder =
        Recorder::new(file, path, Machine::default(), &coverage(), SizeLimits::default())
            .expect("a file");
    for number in 0..BATCHES {
        recorder.update(&Update::Batch(batch(number)), &coverage()).expect("a file");
    }
    recorder.finish(None).expect("a file");
    path
}

fn replay(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(record(&folder.path().join("recording"))).expect("a recording");
    print_size("recording/scattered", EVENTS, bytes.len());
    for (what, recording) in RECORDINGS {
        let mut changes = 0;
        read(recording, |update| changes += sptes(&update));
        print_size(what, changes, recording.len());
    }
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
    group.bench_function("read", |bencher| bencher.iter(|| read(&bytes, |_| ())));
    // As `collapse report --from FILE` does.
    group.bench_function("model", |bencher| {
        bencher.iter(|| {
            let mut model = Model::default();
            read(&bytes, |update| model.update(&update, &coverage()));
            model.now
        });
    });
    // As `collapse live --from FILE` does before it shows anything, and to seek backwards.
    group.bench_function("open to play", |bencher| bencher.iter(|| player(&bytes)));
    group.bench_function("seek back to the last reading but one", |bencher| {
        let mut player = player(&bytes);
        bencher.iter(|| {
            for order in [Order::To(u64::MAX), Order::PreviousReading] {
                player.perform(order).expect("memory");
                player.catch_up(usize::MAX).expect("memory");
            }
        });
    });
    // As `collapse events --from FILE --cause collapse` does; no event matches.
    group.bench_function("filter", |bencher| {
        bencher.iter(|| {
            let clocks = Clocks { monotonic: 0, wall: 0 };
            let filter =
                EventFilter { causes: vec!["collapse".to_owned()], ..EventFilter::default() };
            let lines = EventWriter::new(
                io::sink(),
                LineFormat::Json,
                clocks,
                Machine::default(),
                &coverage(),
                filter,
            );
            let (mut lines, mut model) = (lines.expect("memory"), Model::default());
            let coverage = coverage();
            read(&bytes, |update| {
                model.update_observed(&update, &coverage, &mut lines).expect("memory");
            });
            model.now
        });
    });
    group.finish();
}

/// Prints the size of a recording, bytes, and its number of SPTE changes.
fn print_size(what: &str, changes: u64, bytes: usize) {
    println!("{{\"what\":\"{what}\",\"amount\":{changes},\"bytes\":{bytes}}}");
}

/// Counts the SPTEs whose changes are in an update.
fn sptes(update: &Update) -> u64 {
    let Update::Batch(batch) = update else { return 0 };
    let counts = batch.events.iter().map(|event| match &event.kind {
        EventKind::Change(change) => change.count.into(),
        _ => 0,
    });
    counts.sum()
}

fn player(bytes: &[u8]) -> Player<Cursor<&[u8]>> {
    Player::new(Cursor::new(bytes)).expect("a recording")
}

fn read(bytes: &[u8], mut each: impl FnMut(Update)) {
    let mut replay = Replay::new(bytes).expect("a recording");
    while let Some(update) = replay.next_update().expect("a whole recording") {
        each(update);
    }
}

criterion_group!(benches, replay);
criterion_main!(benches);
