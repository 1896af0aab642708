//! Messages to collectors: the same numbers as in the text, by the names that Prometheus makes of them.

#![cfg(feature = "otlp")]
#![allow(clippy::float_cmp, reason = "both are made of the same numbers")]

mod recorded;

use std::collections::BTreeMap;

use collapse_feed::recording::Clocks;
use collapse_metrics::{Format, Origin};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{AggregationTemporality, metric::Data, number_data_point},
};
use prost::Message as _;

use recorded::{exposition, read, samples};

fn text(attribute: &KeyValue) -> (&str, &str) {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => (&attribute.key, text),
        other => panic!("{} is {other:?}", attribute.key),
    }
}

/// A sample's name with labels, as the text formats have it.
fn named(name: &str, attributes: &[KeyValue], first: Option<(&str, &str)>) -> String {
    let labels = first.into_iter().chain(attributes.iter().map(text));
    let labels: Vec<_> = labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

/// The name of a sample, where a bound is written as Rust does.
fn canonical(sample: &str) -> String {
    let bound = sample.split_once("le=\"").and_then(|(before, rest)| {
        let (bound, after) = rest.split_once('"')?;
        Some((before, bound.parse::<f64>().ok()?, after))
    });
    match bound {
        Some((before, bound, after)) => format!("{before}le=\"{bound:?}\"{after}"),
        None => sample.to_owned(),
    }
}

/// Samples by the names that Prometheus makes of those in a message.
fn received(message: &[u8]) -> BTreeMap<String, f64> {
    let request = ExportMetricsServiceRequest::decode(message).expect("a message");
    let [resource] = &request.resource_metrics[..] else { panic!("one resource") };
    let [scope] = &resource.scope_metrics[..] else { panic!("one scope") };
    let mut samples = BTreeMap::new();
    for metric in &scope.metrics {
        assert!(!metric.description.is_empty(), "{}", metric.name);
        let unit = match metric.unit.as_str() {
            "" => "",
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            other => panic!("a unit {other}"),
        };
        let name = format!("{}{unit}", metric.name);
        let (points, suffix) = match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => (&gauge.data_points, ""),
            Data::Sum(sum) => {
                assert!(sum.is_monotonic);
                assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
                (&sum.data_points, "_total")
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let mut below = 0;
                    let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                    for (bound, n) in bounds.zip(&point.bucket_counts) {
                        below += n;
                        let bound = format!("{bound:?}");
                        let bucket = format!("{name}_bucket");
                        let bucket = named(&bucket, &point.attributes, Some(("le", &bound)));
                        samples.insert(bucket, below as f64);
                    }
                    let of = |part| named(&format!("{name}_{part}"), &point.attributes, None);
                    samples.insert(of("count"), point.count as f64);
                    samples.insert(of("sum"), point.sum.unwrap_or(f64::NAN));
                }
                continue;
            }
            other => panic!("{} is {other:?}", metric.name),
        };
        for point in points {
            let value = match point.value.expect("a value") {
                number_data_point::Value::AsInt(n) => n as f64,
                number_data_point::Value::AsDouble(n) => n,
            };
            assert!(0 < point.start_time_unix_nano);
            assert!(point.start_time_unix_nano <= point.time_unix_nano);
            let name = named(&format!("{name}{suffix}"), &point.attributes, None);
            assert!(samples.insert(name.clone(), value).is_none(), "{name} is there twice");
        }
    }
    samples
}

#[test]
fn a_message_has_the_numbers_of_the_text() {
    for name in ["four-guests.rec", "failed-migration.rec", "pml.rec", "operations.rec"] {
        let mut enough = 0;
        let (replay, model) = read(name, |model| {
            enough += usize::from(model.vms.values().any(|vm| !vm.gone));
            enough > 8
        });
        let exposition = exposition(&replay, &model, 8);
        let text = samples(&Format::OpenMetrics.write(&exposition).expect("memory"));
        let text: BTreeMap<_, _> = text.iter().map(|(name, n)| (canonical(name), *n)).collect();
        let host = Some("web7".to_owned());
        let origin = Origin { host, version: "1.2.3", clocks: replay.header().clocks };
        let received = received(&exposition.otlp(&origin));
        assert!(text.len() > 50, "{name}");
        let more = received.keys().find(|sample| !text.contains_key(*sample));
        assert_eq!(more, None, "{name}: in the message alone");
        for (sample, value) in &text {
            let received = received.get(sample).unwrap_or_else(|| panic!("{name}: no {sample}"));
            let same = received == value || received.is_nan() && value.is_nan();
            assert!(same, "{name}: {sample} is {received} and not {value}");
        }
    }
}

#[test]
fn a_message_says_whose_numbers_they_are() {
    let (replay, model) = read("failed-migration.rec", |_| false);
    let clocks = Clocks { monotonic: model.now, wall: 1_700_000_000_000_000_000 };
    let attributes = |host: Option<&str>| {
        let origin = Origin { host: host.map(str::to_owned), version: "1.2.3", clocks };
        let message = exposition(&replay, &model, 8).otlp(&origin);
        let request = ExportMetricsServiceRequest::decode(&message[..]).expect("a message");
        let resource = request.resource_metrics[0].resource.clone().expect("a resource");
        resource
            .attributes
            .iter()
            .map(|a| {
                let (key, value) = text(a);
                format!("{key}={value}")
            })
            .collect::<Vec<_>>()
    };
    let service = ["service.name=collapse", "service.version=1.2.3"];
    assert_eq!(attributes(None), service);
    let machine = ["service.instance.id=web7", "host.name=web7"];
    assert_eq!(attributes(Some("web7")), [service, machine].concat());
}
