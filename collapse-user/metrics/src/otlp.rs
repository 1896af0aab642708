//! Expositions as the messages of OTLP, which collectors of `OpenTelemetry` take.
//!
//! Names are those of the text formats without the unit, which is a field of its own, and without `_total`: whoever makes
//! Prometheus' names of them, as the specification says how, has the same again.

use collapse_feed::recording::Clocks;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message as _;

use crate::{
    Exposition, Kind, Measure,
    family::{Family, Series, Value},
    format::PREFIX,
};

/// Whose numbers they are.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The machine's name, if it has one.
    pub host: Option<String>,
    /// Version of the program.
    pub version: &'static str,
    /// Both of the machine's clocks at one moment: messages have times of the wall clock.
    pub clocks: Clocks,
}

/// The times of all points of an exposition, ns since 1970.
#[derive(Clone, Copy)]
struct Times {
    /// Since when it is counted.
    since: u64,
    /// When the numbers were read.
    at: u64,
}

impl Exposition {
    /// An `ExportMetricsServiceRequest` with every series.
    pub fn otlp(&self, origin: &Origin) -> Vec<u8> {
        let (since, at) = self.span;
        let [since, at] = [since, at].map(|time| origin.clocks.wall_at(time));
        let times = Times { since, at };
        let metrics = self.families().map(|(family, series)| metric(self, family, series, times));
        let scope = InstrumentationScope {
            name: PREFIX.to_owned(),
            version: origin.version.to_owned(),
            ..InstrumentationScope::default()
        };
        let scope = ScopeMetrics {
            scope: Some(scope),
            metrics: metrics.collect(),
            ..ScopeMetrics::default()
        };
        let resource = Resource { attributes: resource(origin), ..Resource::default() };
        let all = ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope],
            ..ResourceMetrics::default()
        };
        ExportMetricsServiceRequest { resource_metrics: vec![all] }.encode_to_vec()
    }
}

fn resource(origin: &Origin) -> Vec<KeyValue> {
    let mut attributes =
        vec![attribute("service.name", PREFIX), attribute("service.version", origin.version)];
    if let Some(host) = &origin.host {
        attributes.extend(["service.instance.id", "host.name"].map(|key| attribute(key, host)));
    }
    attributes
}

fn metric(exposition: &Exposition, family: &Family, series: &[Series], times: Times) -> Metric {
    let temporality = AggregationTemporality::Cumulative.into();
    let data = match family.kind {
        Kind::Histogram(_) => {
            let points = series.iter().filter_map(|series| histogram(exposition, series, times));
            Data::Histogram(Histogram {
                data_points: points.collect(),
                aggregation_temporality: temporality,
            })
        }
        kind => {
            let points = series.iter().filter_map(|series| number(exposition, series, times));
            let data_points = points.collect();
            match kind {
                Kind::Counter => Data::Sum(Sum {
                    data_points,
                    aggregation_temporality: temporality,
                    is_monotonic: true,
                }),
                _ => Data::Gauge(Gauge { data_points }),
            }
        }
    };
    let suffix = if family.kind == Kind::Info { family.kind.suffix() } else { "" };
    Metric {
        name: format!("{PREFIX}_{}{suffix}", family.name),
        description: family.help.clone().into_owned(),
        unit: unit(family.unit).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// The unit by the code (UCUM) that OTLP has it in; none for a number of things.
fn unit(measure: Measure) -> &'static str {
    match measure {
        Measure::Count => "",
        Measure::Seconds => "s",
        Measure::Bytes => "By",
        Measure::Ratio => "1",
    }
}

fn number(exposition: &Exposition, series: &Series, times: Times) -> Option<NumberDataPoint> {
    use number_data_point::Value::{AsDouble, AsInt};
    let value = match series.value {
        Value::Integer(n) => i64::try_from(n).map_or(AsDouble(n as f64), AsInt),
        Value::Signed(n) => AsInt(n),
        Value::Float(n) => AsDouble(n),
        Value::Facts => AsInt(1),
        Value::Histogram { .. } => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(exposition, series),
        start_time_unix_nano: times.since,
        time_unix_nano: times.at,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(exposition: &Exposition, series: &Series, times: Times) -> Option<HistogramDataPoint> {
    let Value::Histogram { sum, count, buckets } = &series.value else { return None };
    let (bounds, bucket_counts): (Vec<f64>, Vec<u64>) = buckets.iter().copied().unzip();
    Some(HistogramDataPoint {
        attributes: attributes(exposition, series),
        start_time_unix_nano: times.since,
        time_unix_nano: times.at,
        count: *count,
        // Not a number where it is not known.
        sum: Some(*sum).filter(|sum| !sum.is_nan()),
        bucket_counts,
        // The last bucket has no bound.
        explicit_bounds: bounds.into_iter().filter(|bound| bound.is_finite()).collect(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(exposition: &Exposition, series: &Series) -> Vec<KeyValue> {
    exposition.labels(series).map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}
