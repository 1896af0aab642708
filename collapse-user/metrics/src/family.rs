//! Metric families: a name, a meaning and a type for many series.

use std::borrow::Cow;

use prometheus_client::metrics::MetricType;
use serde::Serialize;

use crate::histogram::Octaves;

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows; its samples end in `_total`.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Facts as labels, with the value 1; its samples end in `_info`.
    Info,
    /// Durations by bucket.
    Histogram(Octaves),
}

impl Kind {
    /// The type in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
            Self::Histogram(_) => "histogram",
        }
    }

    /// What samples have at the end of their name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram(_) => "",
        }
    }

    pub(crate) fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Info => MetricType::Info,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }
}

/// Base unit of a family, which is a part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of one.
    Ratio,
}

impl Measure {
    /// The unit as names have it; `None` for a number of things.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
            Self::Ratio => Some("ratio"),
        }
    }
}

/// A family.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// Name without prefix, unit and suffix. Never changed: dashboards and alerts of others have it.
    pub name: Cow<'static, str>,
    /// Meaning, as part of a sentence.
    pub help: Cow<'static, str>,
    pub kind: Kind,
    pub unit: Measure,
    /// Labels beside those of the VM.
    pub labels: &'static [&'static str],
}

/// A label's name and its value.
pub(crate) type Label = (&'static str, Cow<'static, str>);

/// A value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(u64),
    Signed(i64),
    Float(f64),
    /// Facts, which are labels of their own.
    Facts,
    /// A sum, a count and the buckets: upper bounds and counts, not added up.
    Histogram {
        sum: f64,
        count: u64,
        buckets: Vec<(f64, u64)>,
    },
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Integer(n)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Signed(n)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Float(n)
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        Self::Integer(holds.into())
    }
}

/// A duration in ns as seconds.
pub(crate) fn seconds(ns: u64) -> Value {
    Value::Float(ns as f64 / 1e9)
}

/// The word that JSON has for a value, as label values are the same words.
pub(crate) fn word(value: impl Serialize) -> Cow<'static, str> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.into(),
        _ => Cow::Borrowed(""),
    }
}

/// A series of a family.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// The VM that it is about, by its place in the exposition.
    pub vm: Option<usize>,
    pub labels: Vec<Label>,
    pub value: Value,
}

/// Takes the series of one family about one subject.
pub(crate) struct Out<'a> {
    pub vm: Option<usize>,
    pub series: &'a mut Vec<Series>,
}

impl Out<'_> {
    /// Takes a number.
    pub fn number(&mut self, value: impl Into<Value>) {
        self.labelled(Vec::new(), value);
    }

    /// Takes a number with one label.
    pub fn by(
        &mut self,
        name: &'static str,
        label: impl Into<Cow<'static, str>>,
        value: impl Into<Value>,
    ) {
        self.labelled(vec![(name, label.into())], value);
    }

    /// Takes a number with labels.
    pub fn labelled(&mut self, labels: Vec<Label>, value: impl Into<Value>) {
        self.series.push(Series { vm: self.vm, labels, value: value.into() });
    }
}

/// What families are about: VMs or the host.
pub(crate) trait Subject {
    /// One of them, as rows see it.
    type Scene<'a>;
}

/// A row of a table of families: a family and how its series are read off a subject.
pub(crate) struct Row<S: Subject> {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub unit: Measure,
    /// Labels beside those of the VM.
    pub labels: &'static [&'static str],
    pub read: for<'a> fn(&S::Scene<'a>, &mut Out),
}

impl<S: Subject> Row<S> {
    pub fn family(&self) -> Family {
        let &Self { name, help, kind, unit, labels, read: _ } = self;
        Family { name: name.into(), help: help.into(), kind, unit, labels }
    }
}
