//! Exports of recordings of real runs, beside their reports.

#![allow(clippy::float_cmp, reason = "counts are whole numbers")]

mod recorded;

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::Arc};

use collapse_metrics::{Exposition, Format, Options, Scene, catalogue, markdown};
use collapse_model::Model;
use collapse_report::Report;
use recorded::{exposition, read, samples};
use uuid::Uuid;

#[test]
fn operations_are_those_of_the_report() {
    // Before the VM ends, of which nothing is exported any more then.
    let (replay, model) =
        read("operations.rec", |model| model.vms.values().any(|vm| vm.operations().count() > 3));
    let report = Report::new(&model, replay.coverage(), replay.machine().clone(), None);
    let text = Format::OpenMetrics.write(&exposition(&replay, &model, 8)).expect("memory");
    let samples = samples(&text);
    let sum = |family: &str| -> f64 {
        let of_family = samples.iter().filter(|(name, _)| name.starts_with(family));
        of_family.map(|(_, value)| value).sum()
    };
    let operations = || report.vms.iter().flat_map(|vm| vm.operations.values());
    let calls: u64 = operations().map(|time| time.calls).sum();
    assert!(calls > 0);
    assert_eq!(sum("collapse_vm_operations_total{"), calls as f64);
    let seconds = |ns: u64| ns as f64 / 1e9;
    let time: u64 = operations().map(|time| time.total_ns).sum();
    let difference = sum("collapse_vm_operations_time_seconds_total{") - seconds(time);
    assert!(difference.abs() < 1e-6);
    let longest: u64 = operations().filter_map(|time| time.longest_ns).sum();
    let difference = sum("collapse_vm_operations_longest_seconds{") - seconds(longest);
    assert!(longest > 0 && difference.abs() < 1e-6);
}

#[test]
fn the_host_s_numbers_are_those_of_the_report() {
    for name in ["failed-migration.rec", "four-guests.rec", "nx-undone.rec", "pml.rec"] {
        let (replay, model) = read(name, |_| false);
        let report = Report::new(&model, replay.coverage(), replay.machine().clone(), None);
        let text = Format::OpenMetrics.write(&exposition(&replay, &model, 8)).expect("memory");
        let samples = samples(&text);
        let report = serde_json::to_value(&report).expect("JSON");
        for (metric, path) in [
            ("collapse_host_splits_total", "splits.total"),
            ("collapse_host_zaps_total", "zaps.total"),
            ("collapse_host_installs_total", "installs.total"),
            ("collapse_host_refaults_small_total", "refaults_small.total"),
            ("collapse_host_regions_lost_total", "regions.lost"),
            ("collapse_host_regions_recovered_total", "recoveries.total"),
            ("collapse_host_regions_taken_away_total", "regions.taken_away"),
            ("collapse_host_dirty_clears_total", "dirty_clears.total"),
            ("collapse_host_faults_total", "faults.total"),
        ] {
            let path = format!("/{}", path.replace('.', "/"));
            let vms = report["vms"].as_array().expect("VMs");
            let numbers = vms.iter().filter_map(|vm| vm.pointer(&path)?.as_f64());
            assert_eq!(samples[metric], numbers.sum::<f64>(), "{metric} of {name}");
        }
        assert!(samples["collapse_host_splits_total"] > 0.0, "{name} is a run with splits");
        assert_eq!(samples["collapse_lost_total{way=\"ring_full_changes\"}"], 0.0);
        assert_eq!(samples["collapse_build_info{version=\"1.2.3\"}"], 1.0);
    }
}

#[test]
fn series_end_with_their_vm_and_are_bounded() {
    let alive = |model: &Model| model.vms.values().filter(|vm| !vm.gone).count();
    let (replay, model) = read("four-guests.rec", |model| alive(model) == 4);
    let all = Format::Prometheus.write(&exposition(&replay, &model, 8)).expect("memory");
    let named = |text: &str| {
        let info = text.lines().filter(|line| line.starts_with("collapse_vm_info{"));
        info.count()
    };
    assert_eq!(named(&all), 4);
    let some = Format::Prometheus.write(&exposition(&replay, &model, 3)).expect("memory");
    assert_eq!(named(&some), 3);
    let some = samples(&some);
    assert_eq!((some["collapse_vms"], some["collapse_vms_left_out"]), (4.0, 1.0));
    let host = |samples: &BTreeMap<String, f64>| samples["collapse_host_installs_total"];
    assert_eq!(host(&some), host(&samples(&all)), "the host's numbers include all");

    let (replay, model) = read("failed-migration.rec", |_| false);
    assert!(alive(&model) == 0, "the guest ends in this recording");
    let ended = Format::Prometheus.write(&exposition(&replay, &model, 8)).expect("memory");
    assert!(!ended.contains("collapse_vm_"), "{ended}");
    assert_eq!(samples(&ended)["collapse_vms_ended_total"], 1.0);
}

#[test]
fn a_vm_s_uuid_is_a_label_where_it_is_known() {
    let alive = |model: &Model| model.vms.values().any(|vm| !vm.gone);
    let (replay, mut model) = read("failed-migration.rec", alive);
    let info = |model: &Model| {
        let text = Format::OpenMetrics.write(&exposition(&replay, model, 8)).expect("memory");
        text.lines().find(|line| line.starts_with("collapse_vm_info{")).map(str::to_owned)
    };
    assert!(info(&model).is_some_and(|line| !line.contains("uuid=")));
    for vm in model.vms.values_mut() {
        vm.uuid = Some(Uuid::from_u128(0x4f1a_6c52_9d3e_4b7a_8c15_0e2d_3f4a_5b6c));
    }
    let label = "uuid=\"4f1a6c52-9d3e-4b7a-8c15-0e2d3f4a5b6c\"";
    assert!(info(&model).is_some_and(|line| line.contains(label)));
}

#[test]
fn what_a_vm_s_numbers_say_by_cause_adds_up() {
    let logged = |model: &Model| model.vms.values().any(|vm| vm.log_off > 0 && !vm.gone);
    let (replay, model) = read("failed-migration.rec", logged);
    let text = Format::Prometheus.write(&exposition(&replay, &model, 8)).expect("memory");
    let samples = samples(&text);
    for metric in ["splits", "zaps", "installs", "faults", "write_protects"] {
        let of = |prefix: String| {
            let picked = samples.iter().filter(|(name, _)| name.starts_with(&prefix));
            picked.map(|(_, value)| value).sum::<f64>()
        };
        let total = of(format!("collapse_vm_{metric}_total{{"));
        assert_eq!(total, of(format!("collapse_vm_{metric}_by_cause_total{{")), "{metric}");
        assert!(total > 0.0, "{metric}");
    }
}

#[test]
fn what_is_not_seen_has_no_series() {
    let (replay, model) = read("failed-migration.rec", |model| model.vms.len() == 1);
    let mut coverage = replay.coverage().clone();
    coverage.lose(collapse_feed::Signal::Faults, "a test");
    let kernel = replay.machine().kernel.as_str();
    let scene = Scene { model: &model, coverage: &coverage, kernel, version: "1.2.3" };
    let exposition = Arc::new(Exposition::new(&scene, Options::default()));
    let text = Format::OpenMetrics.write(&exposition).expect("memory");
    assert!(!text.contains("collapse_vm_faults") && !text.contains("collapse_host_faults"));
    assert!(text.contains("collapse_vm_fast_faults_total{"));
    assert!(text.contains("collapse_signal_seen{signal=\"faults\"} 0\n"));
}

/// The title of the document's list.
const TITLE: &str = "\n## Every metric\n\n";

/// `GOLDEN=write` writes it again.
#[test]
fn the_document_lists_every_metric() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = fs::read_to_string(&path).expect("the document");
    let (before, _) = text.split_once(TITLE).expect("the list's title");
    let expected = format!("{before}{TITLE}{}", markdown());
    if env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&path, &expected).expect("writing it");
    } else {
        assert!(text == expected, "{} is not up to date", path.display());
    }
}

#[test]
fn both_formats_say_the_same() {
    let (replay, model) = read("four-guests.rec", |model| model.vms.len() == 4);
    let exposition = exposition(&replay, &model, 8);
    let [prometheus, open] = Format::ALL.map(|format| format.write(&exposition).expect("memory"));
    assert!(open.ends_with("\n# EOF\n") && !prometheus.contains("# EOF"));
    assert!(open.contains("# UNIT collapse_vm_mapped_bytes bytes\n"));
    // Bounds of buckets are spelt in two ways.
    let plain = |text: &str| {
        let samples = samples(text).into_iter();
        samples.filter(|(name, _)| !name.contains("le=")).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(format!("{:?}", plain(&prometheus)), format!("{:?}", plain(&open)));
    let names: Vec<_> = catalogue().into_iter().map(|entry| entry.name).collect();
    for line in prometheus.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().expect("a name");
        assert!(names.iter().any(|known| known == name), "{name} is in no catalogue");
    }
}
