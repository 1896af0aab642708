//! Objects with a key for each metric.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use collapse_model::{
    metric::{METRICS, Metric, MetricId},
    wording::capitalized,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// A value of each metric that has such values, in the order of the table. In JSON, each is a key of
/// the object around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerMetric<T>(BTreeMap<MetricId, T>);

/// A kind of value that metrics have.
pub trait MetricValue: JsonSchema {
    /// Whether a metric has such a value.
    fn is_of(metric: &Metric) -> bool;

    /// The schema of a metric's value.
    fn schema_of(metric: &Metric, generator: &mut SchemaGenerator) -> Schema;
}

/// A number at one time; `None` if its signal is not seen.
impl MetricValue for Option<u64> {
    fn is_of(_: &Metric) -> bool {
        true
    }

    fn schema_of(metric: &Metric, generator: &mut SchemaGenerator) -> Schema {
        match metric.needs.own() {
            None => generator.subschema_for::<u64>(),
            Some(_) => generator.subschema_for::<Self>(),
        }
    }
}

impl<T: MetricValue> PerMetric<T> {
    /// A value of each metric that has one.
    pub fn new(of: impl Fn(&Metric) -> T) -> Self {
        let metrics = METRICS.iter().filter(|metric| T::is_of(metric));
        Self(metrics.map(|metric| (metric.id, of(metric))).collect())
    }
}

impl<T> PerMetric<T> {
    /// The value of one metric; `None` if it has none, or if an earlier version wrote this.
    pub fn get(&self, metric: MetricId) -> Option<&T> {
        self.0.get(&metric)
    }

    /// Metrics and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Metric, &T)> {
        self.0.iter().map(|(id, value)| (id.metric(), value))
    }
}

impl<T: Serialize> Serialize for PerMetric<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(metric, value)| (metric.key, value)))
    }
}

impl<'de, T: MetricValue + Deserialize<'de>> Deserialize<'de> for PerMetric<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// Takes the metrics among the keys of an object.
struct Keys<T>(PhantomData<T>);

impl<'de, T: MetricValue + Deserialize<'de>> Visitor<'de> for Keys<T> {
    type Value = PerMetric<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metrics as keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PerMetric<T>, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match METRICS.iter().find(|metric| metric.key == key && T::is_of(metric)) {
                Some(metric) => _ = values.insert(metric.id, map.next_value()?),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(PerMetric(values))
    }
}

impl<T: MetricValue> JsonSchema for PerMetric<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("PerMetric_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let metrics: Vec<_> = METRICS.iter().filter(|metric| T::is_of(metric)).collect();
        let properties: Map<String, Value> = metrics
            .iter()
            .map(|metric| {
                let mut schema = T::schema_of(metric, generator);
                schema.insert(
                    "description".to_owned(),
                    format!("{}.", capitalized(metric.help)).into(),
                );
                (metric.key.to_owned(), schema.into())
            })
            .collect();
        let required: Vec<_> = metrics.iter().map(|metric| metric.key).collect();
        json_schema!({ "type": "object", "properties": properties, "required": required })
    }
}
