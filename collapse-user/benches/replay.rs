//! What it takes to read a recording again, and what one takes on disk.

use std::{
    fs,
    io::{self, Cursor},
    path::Path,
};

use collapse::{
    events::{EventWriter, Filter, Lines},
    model::Model,
    plan::{Coverage, Mmu},
    player::{Order, Player},
    source::{
        Batch, Change, Event, EventKind, Update, VmReading,
        recording::{self, Clocks, Limits, Recorder, Replay},
    },
};
use collapse_common::{Cause, SpteLayout, Transition, abi::VmKey};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Batches, and events in each: a second of a busy host.
const BATCHES: u64 = 10;
const EACH: u64 = 100_000;
const EVENTS: u64 = BATCHES * EACH;

/// Faults of 16 vCPUs of 4 VMs, each of which maps a 4 KiB page where a huge one was split before; none
/// can be joined with another.
fn batch(number: u64) -> Batch {
    let vm = |n: u64| VmKey { kvm: 0xffff_8880_0000_0000 + n * 4096, born: n + 1 };
    let event = |n: u64| {
        let n = number * EACH + n;
        let change = Change {
            cause: Cause::GuestFault,
            transition: Transition::Install,
            level: 1,
            as_id: 0,
            gfn: n * 7919 % (1 << 22),
            count: 1,
            read_only: false,
            sptes: None,
        };
        Event {
            ts: n * 1000 + n * 31 % 997,
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

fn coverage() -> Coverage {
    Coverage { mmu: Mmu::Tdp, signals: Vec::new(), timed_faults: 0, spte: SpteLayout::NPT }
}

fn record(path: &Path) -> &Path {
    let file = recording::create(path).expect("a file");
    let mut recorder =
        Recorder::new(file, path, String::new(), &coverage(), Limits::default()).expect("a file");
    for number in 0..BATCHES {
        recorder.update(&Update::Batch(batch(number)), &coverage()).expect("a file");
    }
    recorder.finish(None).expect("a file");
    path
}

fn replay(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(record(&folder.path().join("recording"))).expect("a recording");
    let each = bytes.len() as f64 / EVENTS as f64;
    println!("{EVENTS} changes that none other goes with: {each:.2} bytes each");
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
    group.bench_function("read", |bencher| bencher.iter(|| read(&bytes, |_| ())));
    // As `collapse report --from FILE` does.
    group.bench_function("model", |bencher| {
        bencher.iter(|| {
            let mut model = Model::default();
            read(&bytes, |update| model.update(update));
            model.now
        });
    });
    // What `collapse live --from FILE` does before it shows anything, and to go back to the end.
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
    // As `collapse events --from FILE --cause collapse` does; the filter leaves all out.
    group.bench_function("filter", |bencher| {
        bencher.iter(|| {
            let clocks = Clocks { monotonic: 0, wall: 0 };
            let filter = Filter { causes: vec!["collapse".to_owned()], ..Filter::default() };
            let lines = EventWriter::new(
                io::sink(),
                Lines::Json,
                clocks,
                String::new(),
                &coverage(),
                filter,
            );
            let (mut lines, mut model) = (lines.expect("memory"), Model::default());
            read(&bytes, |update| {
                lines.update(update, &mut model).expect("memory");
            });
            model.now
        });
    });
    group.finish();
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
