//! The metrics of a report: every number and word in its JSON, by path.

use std::{iter, sync::LazyLock};

use serde_json::Value;

use crate::inlined_schema;

/// The schema of a report, everything in its place.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| inlined_schema().to_value());

/// A number or word in the JSON of a VM or of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    steps: Vec<Step>,
    kind: Kind,
}

/// One step of a path. Lists take no step: a path goes through all that they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// To a key that is always there.
    Key(String),
    /// To a key of a map, which is missing where there is none.
    Entry(String),
    /// To a key of a map whose keys are not known beforehand.
    Unlisted(String),
    /// To the sum of a map.
    Sum,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How many.
    Count,
    /// A number that need not be whole.
    Ratio,
    /// A time, ns.
    Ns,
    /// A word, or true or false.
    Word,
}

/// Where a metric is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In each VM's report.
    Vm,
    /// In the report around them.
    Report,
}

impl Metric {
    /// The metric at a path, as `splits.by_cause.eager_split`; `_ns` and `total` may be left out. The
    /// error names the nearest that there is.
    pub fn find(place: Place, path: &[&str]) -> Result<Self, String> {
        let mut node = root(place);
        let mut steps = Vec::new();
        for (at, segment) in path.iter().enumerate() {
            let Some(next) = step(node, segment, &mut steps) else {
                return Err(not_found(path, at, node));
            };
            node = next;
        }
        let node = one_number(node, &mut steps);
        let name = path.join(".");
        let kind = kind(node, &steps).ok_or_else(|| {
            format!("{name} is not one number: name one of {}", keys(node).join(", "))
        })?;
        Ok(Self { steps, kind })
    }

    /// Whether a path can begin so.
    pub fn begins(place: Place, segment: &str) -> bool {
        step(root(place), segment, &mut Vec::new()).is_some()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole path, nothing left out.
    pub fn path(&self) -> String {
        let names = self.steps.iter().filter_map(|step| match step {
            Step::Key(name) | Step::Entry(name) | Step::Unlisted(name) => Some(name.as_str()),
            Step::Sum => None,
        });
        names.collect::<Vec<_>>().join(".")
    }

    /// Its values in a VM's JSON or the report's: one, or one for each element of the lists that its
    /// path goes through. Null is unknown.
    pub fn values(&self, json: &Value) -> Vec<Value> {
        values(json, &self.steps)
    }
}

fn values(json: &Value, steps: &[Step]) -> Vec<Value> {
    if let Value::Array(elements) = json {
        return elements.iter().flat_map(|element| values(element, steps)).collect();
    }
    let Some((step, rest)) = steps.split_first() else { return vec![json.clone()] };
    match step {
        _ if json.is_null() => vec![Value::Null],
        Step::Key(name) | Step::Unlisted(name) => {
            json.get(name).map_or_else(|| vec![Value::Null], |json| values(json, rest))
        }
        Step::Entry(name) => json.get(name).map_or_else(
            // Of what is not listed there is none; but none has no times.
            || vec![if rest.is_empty() { 0.into() } else { Value::Null }],
            |json| values(json, rest),
        ),
        Step::Sum => {
            let numbers = json.as_object().into_iter().flatten().map(|(_, n)| n.as_u64());
            vec![numbers.sum::<Option<u64>>().into()]
        }
    }
}

fn root(place: Place) -> &'static Value {
    let report = &*SCHEMA;
    match place {
        Place::Report => report,
        Place::Vm => &report["properties"]["vms"]["items"],
    }
}

/// What a schema says apart from being null or in a list.
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
fn step<'a>(node: &'a Value, segment: &str, steps: &mut Vec<Step>) -> Option<&'a Value> {
    let node = inner(node);
    let properties = &node["properties"];
    for name in [segment.to_owned(), format!("{segment}_ns")] {
        if let Some(found) = properties.get(&name) {
            steps.push(Step::Key(name));
            return Some(found);
        }
    }
    if let Some(entry) = node.get("additionalProperties").filter(|entry| entry.is_object()) {
        let name = segment.to_owned();
        match node["propertyNames"]["enum"].as_array() {
            None => steps.push(Step::Unlisted(name)),
            Some(names) if names.iter().any(|known| known == segment) => {
                steps.push(Step::Entry(name));
            }
            Some(_) => return None,
        }
        return Some(entry);
    }
    let total = properties.get("total")?;
    steps.push(Step::Key("total".to_owned()));
    let found = step(total, segment, steps);
    if found.is_none() {
        steps.pop();
    }
    found
}

/// Goes on to the one number that stands for all there is.
fn one_number<'a>(node: &'a Value, steps: &mut Vec<Step>) -> &'a Value {
    let node = inner(node);
    if let Some(entry) = node.get("additionalProperties").filter(|entry| has_type(entry, "integer"))
    {
        steps.push(Step::Sum);
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

fn kind(node: &Value, steps: &[Step]) -> Option<Kind> {
    let ns = matches!(steps.last(), Some(Step::Key(name)) if name.ends_with("_ns"));
    let number = if ns { Kind::Ns } else { Kind::Count };
    let words =
        || node["oneOf"].as_array()?.iter().all(|one| has_type(one, "string")).then_some(());
    if has_type(node, "integer") {
        Some(number)
    } else if has_type(node, "number") {
        Some(Kind::Ratio)
    } else if has_type(node, "boolean") || has_type(node, "string") || words().is_some() {
        Some(Kind::Word)
    } else {
        None
    }
}

/// Keys that a path can go on with.
fn keys(node: &Value) -> Vec<String> {
    let node = inner(node);
    let properties =
        node["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone());
    let names = node["propertyNames"]["enum"].as_array().into_iter().flatten();
    let names = names.filter_map(|name| name.as_str().map(str::to_owned));
    let total = node["properties"].get("total").into_iter().flat_map(keys);
    properties.chain(names).chain(total.collect::<Vec<_>>()).collect()
}

/// What is wrong with a path from its segment `at` on, where the schema is at `node`.
fn not_found(path: &[&str], at: usize, node: &Value) -> String {
    let name = path.join(".");
    let short = |key: String| key.strip_suffix("_ns").map(str::to_owned).unwrap_or(key);
    let mut known: Vec<_> = keys(node).into_iter().map(short).collect();
    if at == 0 {
        known.extend(keys(&SCHEMA).into_iter().map(short));
    }
    let near = |key: &String| strsim::damerau_levenshtein(key, path[at]);
    match known.iter().min_by_key(|key| near(key)) {
        None => format!("no metric '{name}': {} is one number", path[..at].join(".")),
        Some(nearest) => {
            let rest = path[at + 1..].iter().copied();
            let nearest: Vec<_> = path[..at]
                .iter()
                .copied()
                .chain(iter::once(nearest.as_str()))
                .chain(rest)
                .collect();
            format!("no metric '{name}': did you mean '{}'?", nearest.join("."))
        }
    }
}
