//! Prompts written here and not by a template: for models that come without one although their format is known.
//!
//! Each is a function from the variables that a template would be given to the prompt's text.

mod deepseek;
mod harmony;
mod json;
mod typescript;

use serde_json::{Map, Value};

use super::Moment;
use crate::error::{Error, Result};
use crate::message::Message;

/// A format that is written here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Native {
    /// The dialect of the answers it leads to.
    dialect: &'static str,
    /// Variables that change what it writes, beside the conversation.
    variables: &'static [&'static str],
    write: fn(&Map<String, Value>, Moment) -> Result<String>,
    /// Whether a message is one that published templates of the format refuse, or write only in part.
    beyond_templates: fn(&Message) -> bool,
}

const FORMATS: [Native; 2] = [
    Native {
        dialect: "harmony",
        variables: &["reasoning_effort", "model_identity", "builtin_tools", "knowledge_cutoff"],
        write: harmony::write,
        beyond_templates: harmony::beyond_templates,
    },
    Native {
        dialect: "deepseek-v3.2",
        variables: &["thinking", "enable_thinking"],
        write: deepseek::write,
        beyond_templates: |_| false,
    },
];

impl Native {
    /// The format whose answers are in this dialect.
    pub(super) fn of(dialect: &str) -> Option<Native> {
        FORMATS.into_iter().find(|format| format.dialect == dialect)
    }

    pub(super) fn reads(&self, variable: &str) -> bool {
        self.variables.contains(&variable)
    }

    pub(super) fn beyond_templates(&self, message: &Message) -> bool {
        (self.beyond_templates)(message)
    }

    pub(super) fn write(&self, variables: &Map<String, Value>, now: Moment) -> Result<String> {
        (self.write)(variables, now)
    }
}

/// The messages among the variables.
fn messages(variables: &Map<String, Value>) -> &[Value] {
    variables.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn tools(variables: &Map<String, Value>) -> &[Value] {
    variables.get("tools").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn flag(variables: &Map<String, Value>, name: &str) -> Option<bool> {
    variables.get(name).and_then(Value::as_bool)
}

/// A member that is text.
fn member<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What a message says: text, or the texts of its parts. Other parts cannot be written.
fn content(message: &Value) -> Result<String> {
    match message.get("content") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match part {
                Value::String(text) => Ok(text.clone()),
                part => match part.get("text").and_then(Value::as_str) {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(refused("a message has a part that is not text")),
                },
            };
            parts.iter().map(text).collect()
        }
        Some(_) => Err(refused("a message's content is neither text nor a list of parts")),
    }
}

/// What a message's speaker thought, under either name.
fn reasoning(message: &Value) -> &str {
    let text = member(message, "thinking");
    if text.is_empty() { member(message, "reasoning_content") } else { text }
}

/// The functions a message calls.
fn calls(message: &Value) -> Vec<&Value> {
    let calls = message.get("tool_calls").and_then(Value::as_array);
    calls.into_iter().flatten().map(|call| call.get("function").unwrap_or(call)).collect()
}

fn refused(reason: &str) -> Error {
    Error::TemplateRaised { message: reason.to_owned() }
}
