//! The fields of a JSON body, each of which is taken once; what is left over is refused by name.

use crate::problem::Problem;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// An object whose fields are being taken.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// What the answer has to mention.
    pub(crate) warnings: Vec<String>,
}

impl Fields {
    /// Of a body.
    ///
    /// # Errors
    /// What is no JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, Problem> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Problem::invalid(format!("the body is not JSON: {error}")))?;
        Fields::of(value, "the body")
    }

    /// Of a value that a field holds.
    pub(crate) fn of(value: Value, what: &str) -> Result<Fields, Problem> {
        match value {
            Value::Object(fields) => Ok(Fields { fields, warnings: Vec::new() }),
            other => Err(Problem::invalid(format!("{what} is {}, and an object is needed", kind(&other)))),
        }
    }

    /// A field that may be missing or null.
    ///
    /// # Errors
    /// A value of another type.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        match self.fields.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let found = kind(&value);
                serde_json::from_value(value).map(Some).map_err(|error| {
                    Problem::field(name, format!("`{name}` is {found} that cannot be used: {error}"))
                })
            }
        }
    }

    /// A field that has to be there.
    ///
    /// # Errors
    /// Nothing, null, or a value of another type.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Problem> {
        self.optional(name)?.ok_or_else(|| Problem::field(name, format!("`{name}` is missing")))
    }

    /// A number within bounds, or nothing.
    ///
    /// # Errors
    /// Another number, or none.
    pub(crate) fn number<T>(&mut self, name: &str, least: T, most: T) -> Result<Option<T>, Problem>
    where
        T: DeserializeOwned + PartialOrd + std::fmt::Display,
    {
        match self.optional::<T>(name)? {
            Some(number) if !(number >= least && number <= most) => {
                let message = format!("`{name}` is {number}, and a number from {least} to {most} is needed");
                Err(Problem::field(name, message))
            }
            number => Ok(number),
        }
    }

    /// Fields that do nothing here, which the answer says.
    pub(crate) fn without_effect(&mut self, names: &[&str]) {
        for &name in names {
            if self.fields.shift_remove(name).is_some_and(|value| !value.is_null()) {
                self.warnings.push(format!("`{name}` has no effect here"));
            }
        }
    }

    /// A field as it is, which stays to be taken.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// Whether a field is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Ends the taking; gives what the answer has to mention.
    ///
    /// # Errors
    /// A field that nobody took.
    pub(crate) fn finish(self) -> Result<Vec<String>, Problem> {
        match self.fields.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(self.warnings),
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                let message = format!("`{name}` is not known here; leave it out, or check how it is spelled");
                Err(Problem::field(&name, message))
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_used_reported_or_refused() {
        let mut fields = Fields::parse(br#"{"a": 1, "b": null, "user": "me", "store": null}"#).unwrap();
        assert_eq!(fields.number("a", 0, 5).unwrap(), Some(1));
        assert_eq!(fields.optional::<String>("b").unwrap(), None);
        fields.without_effect(&["user", "store"]);
        assert_eq!(fields.finish().unwrap(), ["`user` has no effect here"]);

        let unknown = Fields::parse(br#"{"tempereture": 1}"#).unwrap().finish().unwrap_err();
        assert_eq!(unknown.field.as_deref(), Some("tempereture"));
        for (body, blamed) in [(&br#"{"a": -1}"#[..], "a"), (br#"{"a": "x"}"#, "a"), (br#"{"a": 1.5}"#, "a")]
        {
            let error = Fields::parse(body).unwrap().number("a", 0i64, 5).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(blamed));
        }
        for body in [&b"[1]"[..], b"{", b"", b"\xff", br#""text""#] {
            assert!(Fields::parse(body).is_err());
        }
    }
}
