//! Keys of maps.

use std::{borrow::Cow, collections::BTreeMap};

use collapse_common::{Cause, latency::Outcome};
use serde_json::{Value, json};

use collapse_model::wording;

/// A word of this program's, or one that was read back from a file.
pub type Name = Cow<'static, str>;

/// Names of levels 1 to 3.
pub(crate) const SIZES: [&str; 3] =
    [wording::SIZES[0].key, wording::SIZES[1].key, wording::SIZES[2].key];

/// Schema of the keys of a map by cause.
pub(super) fn causes() -> Value {
    json!({ "enum": Cause::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>() })
}

/// Schema of the keys of a map by level.
pub(super) fn levels() -> Value {
    json!({ "enum": SIZES })
}

/// Schema of the keys of a map by outcome.
pub(super) fn outcomes() -> Value {
    json!({ "enum": Outcome::ALL.iter().map(|outcome| outcome.name()).collect::<Vec<_>>() })
}

/// A map by cause, with names for keys.
pub(super) fn by_name(by_cause: &BTreeMap<Cause, u64>) -> BTreeMap<Name, u64> {
    by_cause.iter().map(|(cause, n)| (cause.name().into(), *n)).collect()
}
