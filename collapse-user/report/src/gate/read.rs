//! Reading single values out of anything that serializes, without making JSON of all of it: a report has
//! hundreds of moments and cells for each VM, of which no demand asks.

use std::fmt::Display;

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};
use serde_json::{Error, Value};

use super::path::PathStep;

/// The values at the end of a path: one, or one for each element of the lists on the way. Null is
/// unknown.
pub(super) fn read(from: &(impl Serialize + ?Sized), path: &[PathStep]) -> Vec<Value> {
    // Only a hand-written `Serialize` could refuse.
    values(from, path).unwrap_or_else(|_| vec![Value::Null])
}

fn values(from: &(impl Serialize + ?Sized), path: &[PathStep]) -> Result<Vec<Value>, Error> {
    match path {
        [] => Ok(elements(serde_json::to_value(from)?, &|value| value)),
        [PathStep::Sum] => Ok(elements(serde_json::to_value(from)?, &sum)),
        [PathStep::Count { by, of }] => {
            let Value::Array(list) = serde_json::to_value(from)? else {
                return Ok(vec![Value::Null]);
            };
            let counts = |value: &&Value| of.as_ref().is_none_or(|of| value[by] == **of);
            Ok(vec![list.iter().filter(counts).count().into()])
        }
        [step, rest @ ..] => from.serialize(Reader { step, rest }),
    }
}

/// Whatever a list and the lists in it hold, each passed through `each`.
fn elements(value: Value, each: &dyn Fn(Value) -> Value) -> Vec<Value> {
    match value {
        Value::Array(values) => {
            values.into_iter().flat_map(|value| elements(value, each)).collect()
        }
        value => vec![each(value)],
    }
}

/// The sum of a map's numbers.
fn sum(map: Value) -> Value {
    let Value::Object(map) = map else { return Value::Null };
    map.values().try_fold(0_u64, |sum, n| sum.checked_add(n.as_u64()?)).into()
}

/// A serializer that takes one step and leaves out everything else.
struct Reader<'a> {
    step: &'a PathStep,
    rest: &'a [PathStep],
}

impl Reader<'_> {
    /// The values where the step leads nowhere.
    fn missing(&self) -> Vec<Value> {
        match self.step {
            // What is not listed counted 0; there are no times of 0 events.
            PathStep::Entry(_) if self.rest.is_empty() => vec![0.into()],
            _ => vec![Value::Null],
        }
    }

    fn is_at(&self, key: &str) -> bool {
        self.step.key() == Some(key)
    }
}

/// The values of a list's elements, each of which takes the step.
struct ListReader<'a> {
    reader: Reader<'a>,
    found: Vec<Value>,
}

/// The values under the step's key, once it was met.
struct MapReader<'a> {
    reader: Reader<'a>,
    is_at: bool,
    found: Option<Vec<Value>>,
}

impl<'a> ListReader<'a> {
    fn new(reader: Reader<'a>) -> Self {
        Self { reader, found: Vec::new() }
    }

    fn element(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let Reader { step, rest } = self.reader;
        self.found.extend(value.serialize(Reader { step, rest })?);
        Ok(())
    }
}

impl<'a> MapReader<'a> {
    fn new(reader: Reader<'a>) -> Self {
        Self { reader, is_at: false, found: None }
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        if self.is_at {
            self.found = Some(values(value, self.reader.rest)?);
        }
        Ok(())
    }

    fn end(self) -> Vec<Value> {
        self.found.unwrap_or_else(|| self.reader.missing())
    }
}

impl ser::SerializeSeq for ListReader<'_> {
    type Ok = Vec<Value>;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<Vec<Value>, Error> {
        Ok(self.found)
    }
}

impl ser::SerializeTuple for ListReader<'_> {
    type Ok = Vec<Value>;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<Vec<Value>, Error> {
        Ok(self.found)
    }
}

impl ser::SerializeMap for MapReader<'_> {
    type Ok = Vec<Value>;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let key = serde_json::to_value(key)?;
        self.is_at = key.as_str().is_some_and(|key| self.reader.is_at(key));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<Vec<Value>, Error> {
        Ok(self.end())
    }
}

impl ser::SerializeStruct for MapReader<'_> {
    type Ok = Vec<Value>;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.is_at = self.reader.is_at(key);
        self.value(value)
    }

    fn end(self) -> Result<Vec<Value>, Error> {
        Ok(self.end())
    }
}

/// Scalars, in which no step leads anywhere.
macro_rules! scalars {
    ($($method:ident($type:ty))*) => {$(
        fn $method(self, _: $type) -> Result<Vec<Value>, Error> {
            Ok(self.missing())
        }
    )*};
}

impl<'a> Serializer for Reader<'a> {
    type Ok = Vec<Value>;
    type Error = Error;
    type SerializeSeq = ListReader<'a>;
    type SerializeTuple = ListReader<'a>;
    type SerializeTupleStruct = Impossible<Vec<Value>, Error>;
    type SerializeTupleVariant = Impossible<Vec<Value>, Error>;
    type SerializeMap = MapReader<'a>;
    type SerializeStruct = MapReader<'a>;
    type SerializeStructVariant = Impossible<Vec<Value>, Error>;

    scalars! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_f32(f32) serialize_f64(f64) serialize_unit_struct(&'static str)
    }

    fn serialize_none(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::Null])
    }

    fn serialize_unit(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::Null])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<Value>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Vec<Value>, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ListReader<'a>, Error> {
        Ok(ListReader::new(self))
    }

    fn serialize_tuple(self, _: usize) -> Result<ListReader<'a>, Error> {
        Ok(ListReader::new(self))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<MapReader<'a>, Error> {
        Ok(MapReader::new(self))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapReader<'a>, Error> {
        Ok(MapReader::new(self))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Vec<Value>, Error> {
        Ok(self.missing())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<Vec<Value>, Error> {
        Err(no_variants(variant))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(no_variants(name))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(no_variants(variant))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(no_variants(variant))
    }
}

/// No metric is inside a variant or a tuple struct: their schema is not that of an object.
fn no_variants(name: &(impl Display + ?Sized)) -> Error {
    ser::Error::custom(format_args!("no path leads into {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tests::report, *};

    /// Values at `path` in JSON, list elements one by one.
    fn leaves(json: &Value, path: &[&str]) -> Vec<Value> {
        match (json, path) {
            (Value::Array(list), _) => list.iter().flat_map(|one| leaves(one, path)).collect(),
            (json, []) => vec![json.clone()],
            (json, [key, rest @ ..]) => leaves(&json[key], rest),
        }
    }

    /// Every path that JSON has, lists left out.
    fn paths<'a>(json: &'a Value, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) {
        found.push(before.to_vec());
        match json {
            Value::Array(list) => list.iter().for_each(|one| paths(one, before, found)),
            Value::Object(map) => {
                for (key, json) in map {
                    paths(json, &[before, &[key.as_str()]].concat(), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn values_are_those_of_the_json() {
        let counts = json!({"total": 3, "by_level": {"2m": 3}, "by_cause": {"zap_all": 3}});
        let moment = json!({"at_ns": 1, "splits": 0, "zaps": 0, "installs": 0, "lost": 0,
            "recovered": 0, "outstanding": 2, "pages": {"4k": 1, "2m": 2, "1g": 3}});
        let vm = json!({"name": "a", "splits": counts, "timeline": [moment, moment]});
        let report = report(vec![vm.clone(), vm]);
        let json = serde_json::to_value(&report).unwrap();
        let mut all = Vec::new();
        paths(&json, &[], &mut all);
        assert!(all.len() > 100, "{}", all.len());
        for path in all {
            let steps: Vec<_> = path.iter().map(|key| PathStep::Key((*key).to_owned())).collect();
            let expected = leaves(&json, &path);
            assert_eq!(read(&report, &steps), expected, "{path:?}");
            assert_eq!(read(&json, &steps), expected, "{path:?}");
        }
    }

    #[test]
    fn what_is_not_listed_is_none_and_has_no_times() {
        let [map, entry, key] = [PathStep::Key, PathStep::Entry, PathStep::Key];
        let at = |path: &[PathStep]| read(&json!({"m": {"a": {"n": 1}, "b": 2}}), path);
        let (m, a, c) = (map("m".into()), entry("a".into()), entry("c".into()));
        assert_eq!(at(&[m.clone(), a, key("n".into())]), [json!(1)]);
        assert_eq!(at(&[m.clone(), c.clone()]), [json!(0)]);
        assert_eq!(at(&[m, c, key("n".into())]), [Value::Null]);
    }

    #[test]
    fn maps_are_summed_unless_a_part_is_unknown() {
        let sum = |json: Value| read(&json, &[PathStep::Sum]);
        assert_eq!(sum(json!({"a": 1, "b": 2})), [json!(3)]);
        assert_eq!(sum(json!({})), [json!(0)]);
        assert_eq!(sum(json!([{"a": 1}, {"a": 2}])), [json!(1), json!(2)]);
        assert_eq!(sum(json!({"a": 1, "b": null})), [Value::Null]);
        assert_eq!(sum(json!({"a": u64::MAX, "b": 1})), [Value::Null]);
        assert_eq!(sum(Value::Null), [Value::Null]);
    }
}
