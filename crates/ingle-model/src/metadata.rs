//! Typed key/value metadata: what a GGUF header carries, in the file's order.

use crate::error::{Error, Result};
use crate::string_list::StringList;

/// One metadata value. Arrays are homogeneous and typed, as in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unsigned integers of 8 to 64 bits, widened.
    Unsigned(u64, IntegerWidth),
    /// Signed integers of 8 to 64 bits, widened.
    Signed(i64, IntegerWidth),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// Truth value.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Array of unsigned integers.
    Unsigneds(Vec<u64>, IntegerWidth),
    /// Array of signed integers.
    Signeds(Vec<i64>, IntegerWidth),
    /// Array of 32-bit floats.
    F32s(Vec<f32>),
    /// Array of 64-bit floats.
    F64s(Vec<f64>),
    /// Array of truth values.
    Bools(Vec<bool>),
    /// Array of UTF-8 text.
    Strings(StringList),
    /// Array of arrays. Never seen in a published model, legal in the format.
    Nested(Vec<Value>),
}

/// The width an integer is stored with, so that a file written back is the file that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerWidth {
    /// 8 bits.
    W8,
    /// 16 bits.
    W16,
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// Ordered metadata with unique keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: std::collections::HashMap<String, usize>,
    /// Keys of a JSON document that are there and `null`.
    nulls: std::collections::HashSet<String>,
}

impl Metadata {
    /// A JSON document with nested objects flattened to dotted keys (`rope_scaling.factor`), so that a `config.json`
    /// reads like a GGUF header. `null` has no value, but see [`Metadata::is_null`]; an array that is not of one plain
    /// type is there, but readable as nothing.
    pub fn from_json(document: &serde_json::Value) -> Metadata {
        let mut metadata = Metadata::default();
        flatten(&mut metadata, "", document, 0);
        metadata
    }

    /// Adds or replaces a value; a replaced one keeps its place.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.index.get(&key) {
            Some(&at) => self.entries[at].1 = value,
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// The value of a key, if present.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    /// True for a key that a JSON document holds as `null`: it says "none", where a missing key says nothing.
    pub fn is_null(&self, key: &str) -> bool {
        self.nulls.contains(key)
    }

    /// Entries in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value a required key must have.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::metadata(key, "is missing; the file cannot be used without it"))
    }

    /// A string, `None` when absent, an error when of another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An unsigned integer that fits `usize`, `None` when absent. Signed values are accepted when not negative.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a non-negative integer", |value| match value {
            Value::Unsigned(number, _) => usize::try_from(*number).ok(),
            Value::Signed(number, _) => usize::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A 32- or 64-bit float (or an integer, as some writers store one), `None` when absent.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            Value::Unsigned(number, _) => Some(*number as f64),
            Value::Signed(number, _) => Some(*number as f64),
            _ => None,
        })
    }

    /// A truth value, `None` when absent.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a truth value", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// An array of strings, `None` when absent.
    pub fn strings(&self, key: &str) -> Result<Option<&StringList>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Strings(list) => Some(list),
            _ => None,
        })
    }

    /// An array of 32-bit floats, `None` when absent.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of floats", |value| match value {
            Value::F32s(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// An array of integers, widened; `None` when absent.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Signeds(list, _) => Some(list.clone()),
            Value::Unsigneds(list, _) => list.iter().map(|&n| i64::try_from(n).ok()).collect(),
            Value::Strings(list) if list.is_empty() => Some(Vec::new()), // how an empty JSON array is held
            _ => None,
        })
    }

    /// An array of truth values, `None` when absent.
    pub fn flags(&self, key: &str) -> Result<Option<&[bool]>> {
        self.typed(key, "an array of truth values", |value| match value {
            Value::Bools(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// An integer given once for all `layers`, or once per layer; `None` when absent.
    pub fn count_per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigneds(..) | Value::Signeds(..)) => {
                let list = self.integers(key)?.unwrap_or_default();
                let list: Option<Vec<usize>> = list.iter().map(|&n| usize::try_from(n).ok()).collect();
                match list {
                    Some(list) if list.len() >= layers => Ok(Some(list[..layers].to_vec())),
                    _ => Err(Error::metadata(key, format!("must hold {layers} non-negative integers"))),
                }
            }
            Some(_) => Ok(self.count(key)?.map(|count| vec![count; layers])),
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => {
                read(value).map(Some).ok_or_else(|| Error::metadata(key, format!("must be {wanted}")))
            }
        }
    }
}

/// Objects nested deeper than any published configuration are left out.
const DEEPEST: usize = 8;

fn flatten(metadata: &mut Metadata, prefix: &str, document: &serde_json::Value, depth: usize) {
    use serde_json::Value as Json;
    let number = |number: &serde_json::Number| match (number.as_u64(), number.as_i64()) {
        (Some(unsigned), _) => Value::Unsigned(unsigned, IntegerWidth::W64),
        (_, Some(signed)) => Value::Signed(signed, IntegerWidth::W64),
        _ => Value::F64(number.as_f64().unwrap_or(f64::NAN)),
    };
    let value = match document {
        Json::Null => {
            metadata.nulls.insert(prefix.to_owned());
            return;
        }
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(plain) => number(plain),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => {
            let mut list = StringList::default();
            let all = items.iter().all(|item| item.as_str().is_some_and(|text| list.push(text)));
            let strings = all.then_some(list);
            let integers: Option<Vec<i64>> = items.iter().map(Json::as_i64).collect();
            let floats: Option<Vec<f64>> = items.iter().map(Json::as_f64).collect();
            let flags: Option<Vec<bool>> = items.iter().map(Json::as_bool).collect();
            match (strings, integers, floats, flags) {
                (Some(list), ..) => Value::Strings(list),
                (_, Some(list), ..) => Value::Signeds(list, IntegerWidth::W64),
                (_, _, Some(list), _) => Value::F64s(list),
                (.., Some(list)) => Value::Bools(list),
                _ => Value::Nested(Vec::new()),
            }
        }
        Json::Object(fields) => {
            if depth < DEEPEST {
                for (name, field) in fields {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    flatten(metadata, &key, field, depth + 1);
                }
            }
            return;
        }
    };
    metadata.insert(prefix, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_like_a_header() {
        let config = serde_json::json!({
            "hidden_size": 64, "rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0},
            "sliding_window": null, "eos_token_id": [1, 2], "tie_word_embeddings": true
        });
        let keys = Metadata::from_json(&config);
        assert_eq!(keys.count("hidden_size").unwrap(), Some(64));
        assert_eq!(keys.float("rope_theta").unwrap(), Some(1e6));
        assert_eq!(keys.string("rope_scaling.type").unwrap(), Some("yarn"));
        assert_eq!(keys.integers("eos_token_id").unwrap(), Some(vec![1, 2]));
        assert_eq!(keys.count("sliding_window").unwrap(), None);
        assert!(keys.count("rope_scaling.type").unwrap_err().to_string().contains("rope_scaling.type"));
    }

    #[test]
    fn one_number_serves_every_layer_and_a_short_list_is_refused() {
        let mut keys = Metadata::default();
        keys.insert("a", Value::Unsigned(8, IntegerWidth::W32));
        keys.insert("b", Value::Unsigneds(vec![1, 2], IntegerWidth::W32));
        assert_eq!(keys.count_per_layer("a", 3).unwrap(), Some(vec![8, 8, 8]));
        assert_eq!(keys.count_per_layer("b", 2).unwrap(), Some(vec![1, 2]));
        assert!(keys.count_per_layer("b", 3).is_err());
    }
}
