//! JSON Schemas, derived from the types that are serialized.

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Value, json};

use super::{Report, SCHEMA};

/// The JSON Schema (2020-12) of a report, with definitions for what is used more than once.
pub fn schema() -> Schema {
    published::<Report>(SCHEMA)
}

/// The schema of a format of this name and version.
pub(crate) fn published<T: JsonSchema>(format: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    say_null(&mut schema);
    schema.insert("$id".to_owned(), format!("urn:{}", format.replace('/', ":")).into());
    schema.insert("title".to_owned(), format.into());
    schema
}

/// Says null for `None` in descriptions, which are written for readers of the source.
fn say_null(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("`None`", "null");
    }
    transform_subschemas(&mut (say_null as fn(&mut Schema)), schema);
}

/// The schema of a format with everything in its place, to follow paths in.
pub(crate) fn inlined<T: JsonSchema>() -> Schema {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<T>()
}

/// Keyword of the schema for values of all VMs together: `false` where they cannot be added up, an object
/// where they are ratios of sums. Without it, numbers are added up.
pub(crate) const SUM: &str = "x-sum";

/// Keyword of the schema for the unit of a map's numbers, where keys do not end with it: [`NS`].
pub(crate) const UNIT: &str = "x-unit";

/// The value of [`UNIT`] for nanoseconds.
pub(crate) const NS: &str = "ns";

/// Keyword of the schema for lists whose elements are counted by this key of theirs: a path ends at the list, or goes
/// on with one of the key's values.
pub(crate) const COUNT_BY: &str = "x-count-by";

/// The value of [`SUM`] at the ratio of the metric at path `part` to the sum of those at `whole`.
pub(crate) fn ratio_of_sums(part: &str, whole: &[&str]) -> Value {
    json!({ "part": part, "whole": whole })
}
