//! The published schema of lines.

use schemars::Schema;

use super::line::{EventLine, SCHEMA};
use crate::schema::published;

/// The JSON Schema (2020-12) by which every line of `collapse events` is valid.
pub fn schema() -> Schema {
    let mut schema = published::<EventLine>(SCHEMA);
    // Kinds are distinct: a line is valid by one part only.
    if let Some(any) = schema.remove("anyOf") {
        schema.insert("oneOf".to_owned(), any);
    }
    schema
}
