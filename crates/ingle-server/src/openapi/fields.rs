//! How a field of a body is described.

use super::object;
use serde_json::{Value, json};

/// A field of a body.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(super) name: &'static str,
    /// Its JSON schema without the words.
    pub(super) schema: Value,
    pub(super) about: String,
    pub(super) needed: bool,
}

impl Field {
    /// One that has to be there.
    pub(super) fn needed(self) -> Field {
        Field { needed: true, ..self }
    }
}

pub(super) fn field(name: &'static str, schema: Value, about: &str) -> Field {
    Field { name, schema, about: about.to_owned(), needed: false }
}

pub(super) fn text(name: &'static str, about: &str) -> Field {
    field(name, json!({"type": "string"}), about)
}

pub(super) fn truth(name: &'static str, about: &str) -> Field {
    field(name, json!({"type": "boolean"}), about)
}

/// A whole number of `least` or more.
pub(super) fn whole(name: &'static str, least: i64, about: &str) -> Field {
    field(name, json!({"type": "integer", "minimum": least}), about)
}

/// A whole number from `least` to `most`.
pub(super) fn within(name: &'static str, least: i64, most: u64, about: &str) -> Field {
    field(name, json!({"type": "integer", "minimum": least, "maximum": most}), about)
}

pub(super) fn number(name: &'static str, least: f64, most: f64, about: &str) -> Field {
    field(name, json!({"type": "number", "minimum": least, "maximum": most}), about)
}

/// One of some words.
pub(super) fn word(name: &'static str, words: &[&str], about: &str) -> Field {
    field(name, json!({"type": "string", "enum": words}), about)
}

pub(super) fn list(name: &'static str, items: Value, about: &str) -> Field {
    field(name, json!({"type": "array", "items": items}), about)
}

/// An object of whose fields another standard speaks.
pub(super) fn open(name: &'static str, about: &str) -> Field {
    field(name, json!({"type": "object"}), about)
}

/// An object with these fields.
pub(super) fn closed(name: &'static str, fields: &[Field], about: &str) -> Field {
    field(name, object(fields), about)
}

/// One of several types.
pub(super) fn either(name: &'static str, types: &[&str], about: &str) -> Field {
    field(name, json!({"type": types}), about)
}

/// Fields that are taken and do nothing.
pub(super) fn without_effect(names: &[&'static str]) -> Vec<Field> {
    names.iter().map(|name| field(name, json!({}), "Has no effect here, which the answer says")).collect()
}
