//! Calls in tags, whose values are text without quotes: Qwen's and DeepSeek V3.2's.
//!
//! A value ends at the first end tag that something the notation knows follows: the next parameter, the end of the
//! function, or nothing. An end tag that is spelled in a value and followed by other text is part of it.

use serde_json::{Map, Value};

use super::super::schema::Schemas;
use super::{Begins, Fault, Read, call, json};
use crate::message::ToolCall;

/// What begins Qwen's calls.
pub(super) const FUNCTION: &str = "<function=";

/// The tags of a notation.
struct Tags {
    /// Before what says the parameter's name.
    open: &'static str,
    /// After it, before the value.
    opened: &'static str,
    /// After the value.
    close: &'static str,
    /// After the last parameter, if written.
    end: &'static str,
}

const QWEN: Tags = Tags { open: "<parameter=", opened: ">", close: "</parameter>", end: "</function>" };
const DSML: Tags = Tags {
    open: "<｜DSML｜parameter name=\"",
    opened: ">",
    close: "</｜DSML｜parameter>",
    end: "</｜DSML｜invoke>",
};

/// Whether a text that begins with [`FUNCTION`] goes on like a call.
pub(super) fn begins(text: &str) -> Begins {
    let Some(rest) = text.strip_prefix(FUNCTION) else {
        return if FUNCTION.starts_with(text) { Begins::Perhaps } else { Begins::No };
    };
    match head(rest, ">") {
        Ok((_, rest)) => match rest.trim_start() {
            rest if rest.starts_with(QWEN.open) || rest.starts_with(QWEN.end) => Begins::Yes,
            rest if QWEN.open.starts_with(rest) || QWEN.end.starts_with(rest) => Begins::Perhaps,
            _ => Begins::No,
        },
        Err(Fault::Open { .. }) => Begins::Perhaps,
        Err(Fault::Broken(_)) => Begins::No,
    }
}

/// `<function=name><parameter=key>value</parameter></function>`; line ends right inside the tags are not the value's.
pub(super) fn function(body: &str, schemas: &Schemas, whole: bool) -> Read<ToolCall> {
    let body = body.trim_start();
    let Some(rest) = body.strip_prefix(FUNCTION) else {
        return Err(unexpected(body, &[FUNCTION]));
    };
    let (name, rest) = head(rest, ">")?;
    let mut arguments = Map::new();
    for (key, text) in parameters(rest, &QWEN, whole)? {
        let text = text.strip_prefix('\n').unwrap_or(text);
        let text = text.strip_suffix('\n').unwrap_or(text);
        add(&mut arguments, key.trim(), schemas.value(name.trim(), key.trim(), text))?;
    }
    call(name.trim(), Value::Object(arguments).to_string())
}

/// `name">`, then `<parameter name="key" string="true">value</parameter>`; with `false` the value is JSON.
pub(super) fn dsml(body: &str, whole: bool) -> Read<ToolCall> {
    let (name, rest) = head(body, "\">")?;
    let mut members: Vec<String> = Vec::new();
    let mut keys = Map::new();
    for (head, text) in parameters(rest, &DSML, whole)? {
        let is_text = |key: &'static str| head.strip_suffix(key);
        let (key, value) = match (is_text("\" string=\"true\""), is_text("\" string=\"false\"")) {
            (Some(key), _) => (key, Value::from(text).to_string()),
            // As the model wrote it: numbers keep all their digits.
            (None, Some(key)) => match json::value(text) {
                Ok(value) => (key, value.get().to_owned()),
                Err(_) => return Err(Fault::broken(format!("`{key}` is not JSON"))),
            },
            (None, None) => return Err(Fault::broken("a parameter does not say whether it is text")),
        };
        add(&mut keys, key, Value::Null)?;
        members.push(format!("{}: {value}", Value::from(key)));
    }
    call(name, format!("{{{}}}", members.join(", ")))
}

fn add(arguments: &mut Map<String, Value>, key: &str, value: Value) -> Read<()> {
    match arguments.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(Fault::broken(format!("it has the parameter `{key}` twice"))),
    }
}

/// Splits a name from what follows it.
fn head<'a>(text: &'a str, end: &str) -> Read<(&'a str, &'a str)> {
    match text.split_once(end) {
        Some((name, rest)) if name.len() <= super::LONGEST_NAME && !name.contains(['\n', '<']) => {
            Ok((name, rest))
        }
        None if text.len() <= super::LONGEST_NAME && !text.contains(['\n', '<']) => {
            Err(Fault::Open { inside: false })
        }
        _ => Err(Fault::broken("a name does not end")),
    }
}

/// What says each parameter's name, and its value.
fn parameters<'a>(mut rest: &'a str, tags: &Tags, whole: bool) -> Read<Vec<(&'a str, &'a str)>> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(found);
        }
        if let Some(after) = rest.strip_prefix(tags.end) {
            return match after.trim() {
                "" => Ok(found),
                _ => Err(Fault::broken("there is text after its end")),
            };
        }
        let Some(parameter) = rest.strip_prefix(tags.open) else {
            return Err(unexpected(rest, &[tags.open, tags.end]));
        };
        let (name, text) = head(parameter, tags.opened)?;
        let is_end = |at: &usize| {
            let after = text[at + tags.close.len()..].trim_start();
            (whole && after.is_empty()) || after.starts_with(tags.open) || after.starts_with(tags.end)
        };
        let end = text.match_indices(tags.close).map(|(at, _)| at).find(is_end);
        // After an end tag nobody knows whether the value goes on: a call's end marker is then taken for one.
        let end = end.ok_or_else(|| Fault::Open { inside: !text.contains(tags.close) })?;
        found.push((name, &text[..end]));
        rest = &text[end + tags.close.len()..];
    }
}

/// The fault of a text that begins with none of `expected`.
fn unexpected(text: &str, expected: &[&str]) -> Fault {
    if expected.iter().any(|tag| tag.starts_with(text)) {
        return Fault::Open { inside: false };
    }
    Fault::broken("there is text between its parts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn end_tags_inside_values_are_text() {
        let body = "<function=write>\n<parameter=text>\n<a></parameter> and </function>\n\n</parameter>\n\
                    <parameter=n>\n1\n</parameter>\n</function>\n";
        let read = function(body, &Schemas::default(), true).unwrap();
        let arguments: Value = serde_json::from_str(read.arguments.as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({"text": "<a></parameter> and </function>\n", "n": "1"}));
    }

    #[test]
    fn values_of_v32_say_what_they_are() {
        let body = "f\">\n<｜DSML｜parameter name=\"a\" string=\"true\">12\n</｜DSML｜parameter>\n\
                    <｜DSML｜parameter name=\"b\" string=\"false\">[1, 2.50]</｜DSML｜parameter>\n";
        assert_eq!(dsml(body, true).unwrap().arguments, "{\"a\": \"12\\n\", \"b\": [1, 2.50]}");
        let broken = body.replace("[1, 2.50]", "[1, ");
        assert!(matches!(dsml(&broken, true), Err(Fault::Broken(_))));
        assert!(matches!(dsml(&body.replace(" string=\"true\"", ""), true), Err(Fault::Broken(_))));
        assert!(matches!(dsml(&body.replace("\"b\"", "\"a\""), true), Err(Fault::Broken(_))));
    }

    #[test]
    fn what_may_still_become_a_call_is_told_from_what_cannot() {
        for (text, inside) in [
            ("<func", false),
            ("<function=f", false),
            ("<function=f>\n<param", false),
            ("<function=f><parameter=a", false),
            ("<function=f><parameter=a>x", true),
            ("<function=f><parameter=a>x</parameter> y", false),
        ] {
            assert_eq!(function(text, &Schemas::default(), true), Err(Fault::Open { inside }), "{text}");
        }
        for text in ["<function=f> text", "<function=f\n>", "<function=f></function> x", "<function=>"] {
            assert!(matches!(function(text, &Schemas::default(), true), Err(Fault::Broken(_))), "{text}");
        }
    }
}
