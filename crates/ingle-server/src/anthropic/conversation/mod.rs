//! Blocks to messages: a conversation in the API's words, laid out as templates expect it.
//!
//! | block | becomes |
//! |---|---|
//! | `text` | text of the message; several of them lines of it, and of the assistant, who said them in a row, one text |
//! | `thinking` | the assistant's reasoning; its signature is for those who gave it |
//! | `redacted_thinking` | nothing, which is told: only those who wrote it can read it |
//! | `tool_use` | a call of the assistant's message |
//! | `tool_result` | a message of the role `tool`, where it stands; of an error, after the word `Error:` |
//!
//! Messages of the same role in a row are one turn, as in the API.

use crate::fields::Fields;
use crate::problem::Problem;
use ingle_text::{Message, ToolCall};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

#[cfg(test)]
mod tests;

/// Reads a conversation, message by message.
#[derive(Debug, Default)]
struct Reader {
    messages: Vec<Message>,
    /// Names of the tools that were called, by the ids of their calls.
    called: HashMap<String, String>,
    /// Whether something is marked to be cached.
    marked: bool,
    warnings: Vec<String>,
}

/// Takes `system` and `messages`.
///
/// # Errors
/// What is missing, of a wrong type, out of place or not known; the message says where, as `messages.0.content.1`.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<Message>, Problem> {
    let mut reader = Reader::default();
    if let Some(system) = fields.optional::<Value>("system")? {
        reader.system(system, "system")?;
    }
    let given: Vec<Value> = fields.required("messages")?;
    if given.is_empty() {
        return Err(Problem::field("messages", "`messages` is empty: there is nothing to answer"));
    }
    for (index, message) in given.into_iter().enumerate() {
        reader.message(message, &format!("messages.{index}"))?;
    }
    if reader.marked {
        fields.warnings.push(CACHE_CONTROL.into());
    }
    fields.warnings.append(&mut reader.warnings);
    let mut messages = reader.messages;
    for message in &mut messages {
        // whoever only calls says nothing, and everybody else something, if only nothing
        if message.content.is_null() && message.tool_calls.is_empty() {
            message.content = "".into();
        }
    }
    Ok(messages)
}

/// Why `cache_control` does nothing.
pub(super) const CACHE_CONTROL: &str =
    "`cache_control` has no effect here: what was computed before is used again without it";

/// A mistake at a place within the body.
fn bad(place: &str, what: impl std::fmt::Display) -> Problem {
    Problem::field("messages", format!("{place}: {what}"))
}

/// The same for what fields find.
fn at(place: &str) -> impl Fn(Problem) -> Problem {
    move |problem| bad(place, problem.message)
}

/// Text before more text of the same speaker.
fn join(content: &mut Value, text: String, between: &str) {
    match content {
        Value::String(said) if said.is_empty() => *said = text,
        Value::String(said) if !text.is_empty() => {
            said.push_str(between);
            said.push_str(&text);
        }
        Value::String(_) => {}
        other => *other = text.into(),
    }
}

impl Reader {
    fn system(&mut self, content: Value, place: &str) -> Result<(), Problem> {
        let text = self.text(content, place)?;
        join(&mut self.turn("system").content, text, "\n");
        Ok(())
    }

    fn message(&mut self, message: Value, place: &str) -> Result<(), Problem> {
        let mut fields = Fields::of(message, "the message").map_err(at(place))?;
        let role: String = fields.required("role").map_err(at(place))?;
        let content: Value = fields.required("content").map_err(at(place))?;
        fields.finish().map_err(at(place))?;
        let place = format!("{place}.content");
        match role.as_str() {
            "system" => self.system(content, &place),
            "user" if content.as_array().is_some_and(Vec::is_empty) => {
                Err(bad(&place, "there are no blocks: say something, or leave the message out"))
            }
            "user" => self.blocks(content, &place, Reader::of_user),
            "assistant" => {
                // also without a word, it is the assistant's turn
                self.turn("assistant");
                self.blocks(content, &place, Reader::of_assistant)
            }
            _ => Err(bad(&place, "the message's role is none of `user`, `assistant` and `system`")),
        }
    }

    /// The message of this role that is under way, or else a new one.
    fn turn(&mut self, role: &str) -> &mut Message {
        if self.messages.last().is_none_or(|last| last.role != role) {
            self.messages.push(Message { role: role.to_owned(), ..Message::default() });
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    /// Content of a message: text, or blocks that `each` reads.
    fn blocks(
        &mut self,
        content: Value,
        place: &str,
        each: fn(&mut Reader, &str, &mut Fields, &str) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let blocks = match content {
            Value::String(text) => vec![json!({"type": "text", "text": text})],
            Value::Array(blocks) => blocks,
            _ => return Err(bad(place, "the content is neither a text nor a list of blocks")),
        };
        for (index, block) in blocks.into_iter().enumerate() {
            let place = format!("{place}.{index}");
            self.block(block, &place, each)?;
        }
        Ok(())
    }

    /// A block, of which `each` takes what its kind has beside what all kinds have.
    fn block(
        &mut self,
        block: Value,
        place: &str,
        mut each: impl FnMut(&mut Reader, &str, &mut Fields, &str) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut fields = Fields::of(block, "the block").map_err(at(place))?;
        let kind: String = fields.required("type").map_err(at(place))?;
        self.marked |= fields.optional::<Value>("cache_control").map_err(at(place))?.is_some();
        each(self, &kind, &mut fields, place)?;
        let told = fields.finish().map_err(at(place))?;
        self.warnings.extend(told.into_iter().map(|warning| format!("{place}: {warning}")));
        Ok(())
    }

    fn of_user(&mut self, kind: &str, fields: &mut Fields, place: &str) -> Result<(), Problem> {
        match kind {
            "text" => {
                let text = said(fields, place)?;
                join(&mut self.turn("user").content, text, "\n");
                Ok(())
            }
            "tool_result" => self.tool_result(fields, place),
            _ => Err(unknown(kind, "of the user", place)),
        }
    }

    fn of_assistant(&mut self, kind: &str, fields: &mut Fields, place: &str) -> Result<(), Problem> {
        match kind {
            "text" => {
                let text = said(fields, place)?;
                join(&mut self.turn("assistant").content, text, "");
            }
            "thinking" => {
                let thought: String = fields.required("thinking").map_err(at(place))?;
                fields.optional::<String>("signature").map_err(at(place))?;
                let reasoning = &mut self.turn("assistant").reasoning;
                let mut all = reasoning.take().map_or(Value::Null, Value::from);
                join(&mut all, thought, "\n\n");
                *reasoning = all.as_str().map(str::to_owned);
            }
            "redacted_thinking" => {
                fields.required::<String>("data").map_err(at(place))?;
                fields.warnings.push("redacted thoughts have no effect: nobody here can read them".into());
            }
            "tool_use" => {
                let id: String = fields.required("id").map_err(at(place))?;
                let name: String = fields.required("name").map_err(at(place))?;
                let input: Map<String, Value> = fields.required("input").map_err(at(place))?;
                fields.without_effect(&["caller", "toolset_name"]);
                self.called.insert(id.clone(), name.clone());
                let call = ToolCall { id: Some(id), name, arguments: input.into() };
                self.turn("assistant").tool_calls.push(call);
            }
            _ => return Err(unknown(kind, "of the assistant", place)),
        }
        Ok(())
    }

    fn tool_result(&mut self, fields: &mut Fields, place: &str) -> Result<(), Problem> {
        let id: String = fields.required("tool_use_id").map_err(at(place))?;
        let content: Option<Value> = fields.optional("content").map_err(at(place))?;
        let failed = fields.optional("is_error").map_err(at(place))?.unwrap_or(false);
        fields.without_effect(&["toolset_name"]);
        let Some(name) = self.called.get(&id).cloned() else {
            let id: String = id.chars().take(80).collect();
            return Err(bad(place, format!("no `tool_use` before it has the id `{id}`, whose result it is")));
        };
        let mut text = match content {
            Some(content) => self.text(content, &format!("{place}.content"))?,
            None => String::new(),
        };
        if failed {
            text.insert_str(0, "Error: ");
        }
        let mut message = Message::new("tool", text);
        (message.tool_call_id, message.name) = (Some(id), Some(name));
        self.messages.push(message);
        Ok(())
    }

    /// A text, or blocks of nothing but text.
    fn text(&mut self, content: Value, place: &str) -> Result<String, Problem> {
        let blocks = match content {
            Value::String(text) => return Ok(text),
            Value::Array(blocks) => blocks,
            _ => return Err(bad(place, "it is neither a text nor a list of blocks")),
        };
        let mut all = Value::from("");
        for (index, block) in blocks.into_iter().enumerate() {
            self.block(block, &format!("{place}.{index}"), |_, kind, fields, place| match kind {
                "text" => {
                    join(&mut all, said(fields, place)?, "\n");
                    Ok(())
                }
                _ => Err(unknown(kind, "here", place)),
            })?;
        }
        Ok(all.as_str().unwrap_or_default().to_owned())
    }
}

/// The text of a block of text.
fn said(fields: &mut Fields, place: &str) -> Result<String, Problem> {
    let text = fields.required("text").map_err(at(place))?;
    if fields.peek("citations").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        fields.optional::<Value>("citations")?;
    }
    fields.without_effect(&["citations"]);
    Ok(text)
}

/// A block of a type that cannot be where it is.
fn unknown(kind: &str, whose: &str, place: &str) -> Problem {
    let kind: String = kind.chars().take(80).collect();
    bad(
        place,
        match kind.as_str() {
            "image" | "document" | "container_upload" => {
                format!(
                    "a block of type `{kind}` cannot be read: models here read text alone; send what it says as text"
                )
            }
            "tool_use" | "tool_result" | "thinking" | "redacted_thinking" => {
                format!("a block of type `{kind}` cannot be one {whose}")
            }
            _ => format!(
                "blocks of type `{kind}` are not known here; leave it out, or send what it says as text"
            ),
        },
    )
}
