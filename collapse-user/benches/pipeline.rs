//! Cost of user space, from a source's batches through the model to the screen and the report.

#[allow(dead_code, reason = "each benchmark uses a part")]
mod synthetic;

use std::{hint::black_box, time::Duration};

use collapse::tui::{App, DashboardData, Heading, Theme};
use collapse_feed::Batch;
use collapse_feed::Machine;
use collapse_model::Model;
use collapse_report::{Format, Report, Style};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ratatui::{buffer::Buffer, layout::Rect};

use synthetic::{Fleet, host};

/// Regions of a guest with 64 GiB.
const REGIONS: u64 = 32 << 10;
/// Regions of guests with 64 MiB, 1 GiB, 64 GiB, 1 TiB and 4 TiB.
const SIZES: [(&str, u64); 5] =
    [("64 MiB", 32), ("1 GiB", 512), ("64 GiB", REGIONS), ("1 TiB", 512 << 10), ("4 TiB", 2 << 20)];
const SCREEN: Rect = Rect { x: 0, y: 0, width: 160, height: 50 };

/// Measures the model on runs of changes, each in a region of its own.
fn ingest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(REGIONS));
    group.bench_function("runs", |bencher| {
        let batch = || {
            let mut fleet = Fleet::new(1, REGIONS);
            (fleet.begin(), fleet.split(REGIONS))
        };
        bencher.iter_batched(batch, apply, BatchSize::LargeInput);
    });
    group.finish();
}

fn apply((mut model, batch): (Model, Batch)) -> Model {
    model.apply(&batch);
    model
}

/// Measures the model on an episode from dirty logging on to recovery, by guest size.
fn episode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("episode");
    for (size, regions) in SIZES {
        group.throughput(Throughput::Elements(regions));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let batches = || {
                let mut fleet = Fleet::new(1, regions);
                (fleet.begin(), fleet.episode())
            };
            bencher.iter_batched(
                batches,
                |(mut model, batches)| {
                    for batch in batches {
                        model.apply(&batch);
                    }
                    model
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Measures a second of a fleet: applying its batch, and drawing the dashboard.
fn second(criterion: &mut Criterion) {
    let (_, coverage) = host();
    let heading = Heading::default();
    let app = App::new(Theme::detect(|_| None), Duration::from_secs(1));
    let mut group = criterion.benchmark_group("second");
    for vms in [1, 10, 100, 1000] {
        group.bench_function(BenchmarkId::new("model", vms), |bencher| {
            let mut fleet = Fleet::new(vms, REGIONS);
            let mut model = fleet.model(60);
            bencher.iter_batched(
                || fleet.next(),
                |batch| model.apply(&batch),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("dashboard", vms), |bencher| {
            let model = Fleet::new(vms, REGIONS).model(60);
            let live = DashboardData {
                model: &model,
                coverage: &coverage,
                heading: &heading,
                track: None,
            };
            let mut buffer = Buffer::empty(SCREEN);
            bencher.iter(|| app.draw(&mut buffer, SCREEN, black_box(&live)));
        });
    }
    group.finish();
}

/// Measures a tick of the dashboard. With 100 VMs and one tick per second, 10 ms are 1 % of a core.
/// The time to redraw grows with the number of VMs, and not with that of events since the last
/// tick.
fn tick(criterion: &mut Criterion) {
    let (_, coverage) = host();
    let heading = Heading::default();
    let app = App::new(Theme::detect(|_| None), Duration::from_secs(1));
    let mut buffer = Buffer::empty(SCREEN);
    let mut draw = |model: &Model| {
        let live = DashboardData { model, coverage: &coverage, heading: &heading, track: None };
        app.draw(&mut buffer, SCREEN, black_box(&live));
    };
    let mut group = criterion.benchmark_group("tick");
    group.bench_function("all of a second with 100 VMs", |bencher| {
        let mut fleet = Fleet::new(100, REGIONS);
        let mut model = fleet.model(60);
        let all = |batch| {
            model.apply(&batch);
            draw(&model);
        };
        bencher.iter_batched(|| fleet.next(), all, BatchSize::PerIteration);
    });
    for vms in [1, 10, 100, 1000] {
        let model = Fleet::calm(vms, REGIONS).model(60);
        group.bench_function(BenchmarkId::new("redraw by VMs", vms), |bencher| {
            bencher.iter(|| draw(&model));
        });
    }
    for events in [0, 1_000, 1_000_000] {
        let mut fleet = Fleet::calm(100, 1 << 20);
        let mut model = fleet.model(60);
        model.apply(&fleet.split(events));
        group.bench_function(BenchmarkId::new("redraw by events before", events), |bencher| {
            bencher.iter(|| draw(&model));
        });
    }
    group.finish();
}

/// Measures one VM by its outstanding regions, whose number must not matter.
fn outstanding(criterion: &mut Criterion) {
    let (host, coverage) = host();
    let heading = Heading::default();
    let app = App::new(Theme::detect(|_| None), Duration::from_secs(1));
    let mut group = criterion.benchmark_group("outstanding");
    for regions in [0, 1000, 1_000_000] {
        let mut fleet = Fleet::calm(1, 2 << 20);
        let mut model = fleet.begin();
        model.apply(&fleet.split(regions));
        group.bench_function(BenchmarkId::new("dashboard", regions), |bencher| {
            let live = DashboardData {
                model: &model,
                coverage: &coverage,
                heading: &heading,
                track: None,
            };
            let mut buffer = Buffer::empty(SCREEN);
            bencher.iter(|| app.draw(&mut buffer, SCREEN, black_box(&live)));
        });
        group.bench_function(BenchmarkId::new("report", regions), |bencher| {
            bencher.iter(|| Report::new(black_box(&model), &coverage, Machine::from(&host), None));
        });
        group.bench_function(BenchmarkId::new("model", regions), |bencher| {
            bencher.iter_batched(
                || fleet.next(),
                |batch| model.apply(&batch),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Measures writing a report on 100 VMs, by format.
fn report(criterion: &mut Criterion) {
    let (host, coverage) = host();
    let report =
        Report::new(&Fleet::new(100, REGIONS).model(60), &coverage, Machine::from(&host), None);
    let mut group = criterion.benchmark_group("report");
    let formats = [
        ("text", Format::Text),
        ("json", Format::Json),
        ("markdown", Format::Markdown),
        ("html", Format::Html),
        ("csv", Format::Csv),
    ];
    for (name, format) in formats {
        group.bench_function(name, |bencher| {
            bencher.iter(|| format.write(black_box(&report), Style::Plain));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = ingest, episode, second, tick, outstanding, report
}
criterion_main!(benches);
