//! Paths to the numbers and words of a report, read from its JSON Schema: whatever the JSON has, a demand
//! can be made on.

use std::{iter, sync::LazyLock};

use serde::Serialize;
use serde_json::{Value, json};

use super::read::read;
use crate::{
    Report,
    explain::Explanation,
    inlined_schema,
    schema::{COUNT_BY, NS, SUM, UNIT},
};
use collapse_model::wording::duration;

/// The schema of a report, with everything in its place.
static REPORT: LazyLock<Value> = LazyLock::new(|| inlined_schema::<Report>().to_value());

/// The schema of an explanation, with everything in its place.
static EXPLANATION: LazyLock<Value> = LazyLock::new(|| inlined_schema::<Explanation>().to_value());

/// The way to a number or word in a VM's report, or in the report around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MetricPath {
    steps: Vec<PathStep>,
    kind: ValueKind,
    over_vms: OverVms,
}

/// One step of a path. Lists take no step: a path goes through all that they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    /// To a key that is always there.
    Key(String),
    /// To a key of a map that leaves out counts of zero.
    Entry(String),
    /// To a key of a map whose keys are not known beforehand.
    Unlisted(String),
    /// To the sum of a map.
    Sum,
    /// To the number of a list's elements whose key has a value, or of all of them.
    Count {
        /// The key.
        by: String,
        /// The value; `None` for any.
        of: Option<String>,
    },
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// A whole number.
    Count,
    /// A number that need not be whole.
    Ratio,
    /// A time, ns.
    Ns,
    /// A word, or true or false.
    Word,
}

/// How the values of all VMs make one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OverVms {
    /// By adding them up.
    Sum,
    /// By dividing the sum of one metric by the sums of others.
    Ratio { part: Box<MetricPath>, whole: Vec<MetricPath> },
    /// Not at all: they cannot be added up.
    Nothing,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathRoot {
    /// At each VM's report.
    Vm,
    /// At the report around them.
    Report,
    /// At each VM's explanation.
    Explained,
}

/// An error in a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A name on the path is unknown.
    #[error("no metric '{path}': did you mean '{nearest}'?")]
    Unknown {
        /// The path.
        path: String,
        /// The path with the nearest known name instead.
        nearest: String,
    },
    /// The path goes on where there is only a number.
    #[error("no metric '{path}': {number} is one number")]
    TooLong {
        /// The path.
        path: String,
        /// The part of it that is a number.
        number: String,
    },
    /// The path ends where there are several numbers.
    #[error("{path} is not one number: name one of {}", .known.join(", "))]
    TooShort {
        /// The path.
        path: String,
        /// The names that it can go on with.
        known: Vec<String>,
    },
}

impl MetricPath {
    /// Finds the metric at a path such as `splits.by_cause.eager_split`; `_ns` and `total` may be left
    /// out.
    pub(super) fn find(root: PathRoot, path: &str) -> Result<Self, PathError> {
        let segments: Vec<_> = path.split('.').collect();
        let mut node = root.schema();
        let mut steps = Vec::new();
        let (mut sum, mut unit) = (None, None);
        for (at, segment) in segments.iter().enumerate() {
            node = step(node, segment, &mut steps)
                .ok_or_else(|| not_found(root, &segments, at, node))?;
            sum = sum.or(node.get(SUM));
            unit = unit.or(node.get(UNIT));
        }
        let node = one_number(node, &mut steps);
        let kind = kind(node, &steps)
            .map(|kind| if unit.is_some_and(|unit| unit == NS) { ValueKind::Ns } else { kind })
            .ok_or_else(|| PathError::TooShort { path: path.to_owned(), known: keys(node) })?;
        let over_vms = match (kind, sum) {
            (_, Some(Value::Object(ratio))) => OverVms::ratio(&ratio["part"], &ratio["whole"])?,
            (ValueKind::Count | ValueKind::Ns, None) => OverVms::Sum,
            _ => OverVms::Nothing,
        };
        Ok(Self { steps, kind, over_vms })
    }

    /// Returns the upper bound of the metric, where it is an estimate: a limit from above is held against that.
    pub(super) fn upper(self) -> Self {
        let path = self.full();
        let by_cause = path.strip_prefix("stall.by_cause.");
        let upper = match by_cause {
            Some(cause) => format!("stall.upper_by_cause.{cause}"),
            None if path == "stall.total_ns" => "stall.upper_ns".to_owned(),
            None => return self,
        };
        Self::find(PathRoot::Vm, &upper).unwrap_or(self)
    }

    /// Whether it is the upper bound of an estimate.
    pub(super) fn is_upper(&self) -> bool {
        self.full().starts_with("stall.upper_")
    }

    /// Whether it counts elements of a list, of which there may be more than were looked for.
    pub(super) fn is_count(&self) -> bool {
        matches!(self.steps.last(), Some(PathStep::Count { .. }))
    }

    /// Whether a path can begin with `segment`.
    pub(super) fn begins(root: PathRoot, segment: &str) -> bool {
        step(root.schema(), segment, &mut Vec::new()).is_some()
    }

    /// The kind of the values.
    pub(super) fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Whether the values of all VMs make one.
    pub(super) fn is_over_vms(&self) -> bool {
        self.over_vms != OverVms::Nothing
    }

    /// The whole path, nothing left out.
    pub(super) fn full(&self) -> String {
        self.steps.iter().filter_map(PathStep::key).collect::<Vec<_>>().join(".")
    }

    /// The values in a VM's report or the one around them: one, or one for each element of the lists on
    /// the way. Null is unknown.
    pub(super) fn values(&self, of: &impl Serialize) -> Vec<Value> {
        read(of, &self.steps)
    }

    /// The value of all VMs together; null if it is unknown for any of them.
    pub(super) fn over_vms(&self, vms: &[impl Serialize]) -> Value {
        match &self.over_vms {
            OverVms::Nothing => Value::Null,
            // A sum that does not fit is unknown.
            OverVms::Sum => self.sum(vms).and_then(|sum| i64::try_from(sum).ok()).into(),
            OverVms::Ratio { part, whole } => {
                let ratio = || {
                    let whole: i128 = whole.iter().map(|path| path.sum(vms)).sum::<Option<_>>()?;
                    let part = part.sum(vms)?;
                    (whole > 0).then(|| part as f64 / whole as f64)
                };
                ratio().into()
            }
        }
    }

    /// The sum over VMs. Residuals can be negative.
    fn sum(&self, vms: &[impl Serialize]) -> Option<i128> {
        let values = vms.iter().flat_map(|vm| self.values(vm));
        values.map(|n| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from))).sum()
    }

    /// A value for people, with its unit.
    pub(super) fn shown(&self, value: &Value) -> String {
        match (self.kind, value) {
            (_, Value::Null) => "unknown".to_owned(),
            (ValueKind::Ns, value) => value.as_u64().map_or_else(|| value.to_string(), duration),
            (ValueKind::Ratio, value) => {
                value.as_f64().map_or_else(|| value.to_string(), |n| format!("{n:.4}"))
            }
            (_, Value::String(word)) => word.clone(),
            (_, value) => value.to_string(),
        }
    }
}

impl OverVms {
    fn ratio(part: &Value, whole: &Value) -> Result<Self, PathError> {
        let find = |path: &Value| MetricPath::find(PathRoot::Vm, path.as_str().unwrap_or_default());
        let whole = whole.as_array().into_iter().flatten().map(find);
        Ok(Self::Ratio { part: Box::new(find(part)?), whole: whole.collect::<Result<_, _>>()? })
    }
}

impl PathStep {
    /// The key that the step goes to.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Key(name) | Self::Entry(name) | Self::Unlisted(name) => Some(name),
            Self::Count { of, .. } => of.as_deref(),
            Self::Sum => None,
        }
    }
}

impl PathRoot {
    fn schema(self) -> &'static Value {
        match self {
            Self::Report => &REPORT,
            Self::Vm => &REPORT["properties"]["vms"]["items"],
            Self::Explained => &EXPLANATION["properties"]["vms"]["items"],
        }
    }
}

/// The schema of the value itself, whether or not it may be null or is in a list.
fn inner(mut node: &Value) -> &Value {
    loop {
        let some = node["anyOf"].as_array();
        let some = some.and_then(|any| any.iter().find(|one| one["type"] != "null"));
        let items = node.get("items").filter(|items| items.is_object());
        match some.or(items) {
            Some(inside) => node = inside,
            None => return node,
        }
    }
}

/// Goes to a key, by way of `total` if need be.
fn step<'a>(node: &'a Value, segment: &str, steps: &mut Vec<PathStep>) -> Option<&'a Value> {
    if let Some((by, mut values)) = counted(node)
        && values.any(|value| value == segment)
    {
        steps.push(PathStep::Count { by: by.to_owned(), of: Some(segment.to_owned()) });
        return Some(&NUMBER);
    }
    let node = inner(node);
    let properties = &node["properties"];
    for name in [segment.to_owned(), format!("{segment}_ns")] {
        if let Some(found) = properties.get(&name) {
            steps.push(PathStep::Key(name));
            return Some(found);
        }
    }
    if let Some(entry) = node.get("additionalProperties").filter(|entry| entry.is_object()) {
        let name = segment.to_owned();
        match node["propertyNames"]["enum"].as_array() {
            None => steps.push(PathStep::Unlisted(name)),
            Some(names) if names.iter().any(|known| known == segment) => {
                steps.push(PathStep::Entry(name));
            }
            Some(_) => return None,
        }
        return Some(entry);
    }
    let total = properties.get("total")?;
    steps.push(PathStep::Key("total".to_owned()));
    let found = step(total, segment, steps);
    if found.is_none() {
        steps.pop();
    }
    found
}

/// The schema of a count.
static NUMBER: LazyLock<Value> = LazyLock::new(|| json!({ "type": "integer" }));

/// The key by which the elements of a list are counted, and the values that it can have.
fn counted(node: &Value) -> Option<(&str, impl Iterator<Item = &Value>)> {
    let by = node.get(COUNT_BY)?.as_str()?;
    Some((by, node["items"]["properties"][by]["enum"].as_array()?.iter()))
}

/// Goes on to the one number that stands for all there is.
fn one_number<'a>(node: &'a Value, steps: &mut Vec<PathStep>) -> &'a Value {
    if let Some((by, _)) = counted(node) {
        steps.push(PathStep::Count { by: by.to_owned(), of: None });
        return &NUMBER;
    }
    let node = inner(node);
    if let Some(entry) = node.get("additionalProperties").filter(|entry| has_type(entry, "integer"))
    {
        steps.push(PathStep::Sum);
        return entry;
    }
    let mut total = Vec::new();
    match step(node, "total", &mut total) {
        Some(found) if kind(inner(found), &total).is_some() => {
            steps.append(&mut total);
            inner(found)
        }
        _ => node,
    }
}

fn has_type(node: &Value, name: &str) -> bool {
    match &node["type"] {
        Value::Array(types) => types.iter().any(|one| one == name),
        one => one == name,
    }
}

fn kind(node: &Value, steps: &[PathStep]) -> Option<ValueKind> {
    let ns = matches!(steps.last(), Some(PathStep::Key(name)) if name.ends_with("_ns"));
    let number = if ns { ValueKind::Ns } else { ValueKind::Count };
    let words =
        || node["oneOf"].as_array()?.iter().all(|one| has_type(one, "string")).then_some(());
    if has_type(node, "integer") {
        Some(number)
    } else if has_type(node, "number") {
        Some(ValueKind::Ratio)
    } else if has_type(node, "boolean") || has_type(node, "string") || words().is_some() {
        Some(ValueKind::Word)
    } else {
        None
    }
}

/// The keys that a path can go on with.
fn keys(node: &Value) -> Vec<String> {
    let counted: Vec<_> = counted(node).into_iter().flat_map(|(_, values)| values).collect();
    let counted = counted.into_iter().filter_map(|value| value.as_str().map(str::to_owned));
    let node = inner(node);
    let properties =
        node["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone());
    let names = node["propertyNames"]["enum"].as_array().into_iter().flatten();
    let names = names.filter_map(|name| name.as_str().map(str::to_owned));
    let total = node["properties"].get("total").into_iter().flat_map(keys);
    properties.chain(names).chain(counted).chain(total.collect::<Vec<_>>()).collect()
}

/// The error of a path whose segment `at` is unknown, where the schema is at `node`.
fn not_found(root: PathRoot, path: &[&str], at: usize, node: &Value) -> PathError {
    let short = |key: String| key.strip_suffix("_ns").map(str::to_owned).unwrap_or(key);
    let mut known: Vec<_> = keys(node).into_iter().map(short).collect();
    if at == 0 && root != PathRoot::Explained {
        known.extend(keys(&REPORT).into_iter().map(short));
    }
    let (before, after) = (&path[..at], &path[at + 1..]);
    let distance = |key: &&String| strsim::damerau_levenshtein(key, path[at]);
    let nearest = known.iter().min_by_key(distance);
    let path = path.join(".");
    let Some(nearest) = nearest else {
        return PathError::TooLong { path, number: before.join(".") };
    };
    let nearest = before.iter().copied().chain(iter::once(nearest.as_str()));
    let nearest: Vec<_> = nearest.chain(after.iter().copied()).collect();
    PathError::Unknown { path, nearest: nearest.join(".") }
}
