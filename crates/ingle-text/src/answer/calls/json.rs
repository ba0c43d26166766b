//! Calls in JSON: `{"name": ..., "arguments": {...}}`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fault, Read, call as named};
use crate::message::ToolCall;

#[derive(Deserialize)]
struct Call<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    /// Another name of the arguments.
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Call<'_> {
    fn finish(self) -> Read<ToolCall> {
        let arguments = match self.arguments.or(self.parameters).map(RawValue::get) {
            None | Some("null") => "{}".to_owned(),
            // An object in a text, as interfaces write it.
            Some(text) if text.starts_with('"') => {
                let text: String =
                    serde_json::from_str(text).map_err(|error| Fault::broken(error.to_string()))?;
                whole(object(&text))?
            }
            Some(text) if text.starts_with('{') => text.to_owned(),
            Some(_) => return Err(Fault::broken("its arguments are no object")),
        };
        let id = self.id.and_then(|id| serde_json::from_str::<String>(id.get()).ok());
        Ok(ToolCall { id, ..named(&self.name, arguments)? })
    }
}

/// What is inside a whole text cannot be continued from outside.
fn whole<T>(read: Read<T>) -> Read<T> {
    read.map_err(|fault| match fault {
        Fault::Open { .. } => Fault::broken("its arguments end early"),
        broken => broken,
    })
}

/// A call with its name and arguments.
pub(super) fn call(text: &str) -> Read<ToolCall> {
    let text = mended(text);
    parse::<Call>(&text)?.finish()
}

/// A list of calls.
pub(super) fn calls(text: &str) -> Read<Vec<ToolCall>> {
    let text = mended(text);
    parse::<Vec<Call>>(&text)?.into_iter().map(Call::finish).collect()
}

/// The text of an object, without white space around it.
pub(super) fn object(text: &str) -> Read<String> {
    let text = mended(text);
    let value: &RawValue = parse(&text)?;
    if value.get().starts_with('{') {
        Ok(value.get().to_owned())
    } else {
        Err(Fault::broken("its arguments are no object"))
    }
}

/// The text of any value.
pub(super) fn value(text: &str) -> Read<Box<RawValue>> {
    parse::<&RawValue>(&mended(text)).map(ToOwned::to_owned)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Read<T> {
    serde_json::from_str(text).map_err(|error| {
        if error.is_eof() {
            Fault::Open { inside: ends_in_text(text) }
        } else {
            Fault::broken(format!("it is not the JSON of a call: {error}"))
        }
    })
}

/// Whether a JSON text ends inside a text.
fn ends_in_text(json: &str) -> bool {
    texts(json).last().is_some_and(|(_, inside)| inside)
}

/// Each byte, and whether it stands inside a text.
fn texts(json: &str) -> impl Iterator<Item = (u8, bool)> {
    json.bytes().scan((false, false), |(inside, escaped), byte| {
        let escape = *inside && !*escaped && byte == b'\\';
        if byte == b'"' && !*escaped {
            *inside = !*inside;
        }
        *escaped = escape;
        Some((byte, *inside))
    })
}

/// The same JSON with line ends and other control characters inside texts written as escapes, which models forget.
fn mended(json: &str) -> Cow<'_, str> {
    if !texts(json).any(|(byte, inside)| inside && byte < b' ') {
        return Cow::Borrowed(json);
    }
    let mut out = Vec::with_capacity(json.len() + 64);
    for (byte, inside) in texts(json) {
        match byte {
            b'\n' if inside => out.extend(b"\\n"),
            b'\r' if inside => out.extend(b"\\r"),
            b'\t' if inside => out.extend(b"\\t"),
            ..b' ' if inside => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stay_as_they_are_written() {
        let read = call(" {\"name\": \"f\", \"arguments\": {\"n\": 1.10, \"big\": 123456789012345678901}} ")
            .unwrap();
        assert_eq!(read.arguments, "{\"n\": 1.10, \"big\": 123456789012345678901}");
        let read = call("{\"arguments\": \"{\\\"a\\\": 1}\", \"name\": \"f\", \"id\": \"x\"}").unwrap();
        assert_eq!((read.arguments, read.id.as_deref()), ("{\"a\": 1}".into(), Some("x")));
        for text in [
            "{\"name\": \"f\"}",
            "{\"name\": \"f\", \"parameters\": {}}",
            "{\"name\": \"f\", \"arguments\": null}",
        ] {
            assert_eq!(call(text).unwrap().arguments, "{}");
        }
    }

    #[test]
    fn line_ends_in_texts_are_mended_and_nothing_else() {
        let read = call("{\"name\": \"f\",\n \"arguments\": {\"code\": \"a\n\\\"b\\\"\t\u{1}é\"}}").unwrap();
        assert_eq!(read.arguments, "{\"code\": \"a\\n\\\"b\\\"\\t\\u0001é\"}");
    }

    #[test]
    fn what_may_still_become_a_call_is_told_from_what_cannot() {
        for (text, inside) in [
            ("", false),
            ("{\"name\"", false),
            ("{\"name\": \"f", true),
            ("{\"name\": \"f\\\"", true),
            ("{\"a\": tr", false),
        ] {
            assert_eq!(call(text), Err(Fault::Open { inside }), "{text}");
        }
        for text in [
            "{name: 1",
            "{\"name\": 1}",
            "{\"arguments\": {}}",
            "{\"name\": \"\"}",
            "{\"name\": \"two words\"}",
            "{\"name\": \"f\", \"arguments\": []}",
            "{\"name\": \"f\", \"arguments\": \"{\"}",
            "{\"name\": \"f\"} x",
            "{'name': 'f'}",
        ] {
            assert!(matches!(call(text), Err(Fault::Broken(_))), "{text}");
        }
    }
}
