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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<(Vec<Message>, Vec<String>), Problem> {
        let mut fields = Fields::of(body.clone(), "the body").unwrap();
        let messages = messages(&mut fields)?;
        Ok((messages, fields.finish()?))
    }

    /// Messages as templates see them.
    fn seen(body: &Value) -> Value {
        let (messages, warnings) = read(body).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        messages.iter().map(Message::to_json).collect()
    }

    #[test]
    fn texts_are_text_however_they_are_sent() {
        let plain = seen(&json!({"system": "Be kind.\nBe short.", "messages": [
            {"role": "user", "content": "Look:\nhere"}, {"role": "assistant", "content": "I see."},
        ]}));
        assert_eq!(
            plain,
            json!([
                {"role": "system", "content": "Be kind.\nBe short."},
                {"role": "user", "content": "Look:\nhere"},
                {"role": "assistant", "content": "I see."},
            ])
        );
        let text = |text: &str| json!({"type": "text", "text": text, "citations": null});
        let blocks = seen(&json!({"system": [text("Be kind."), text("Be short.")], "messages": [
            {"role": "user", "content": [text("Look:"), text("here")]},
            {"role": "assistant", "content": [text("I "), text("see.")]},
        ]}));
        assert_eq!(blocks, plain);
        let turns = seen(&json!({"system": "Be kind.", "messages": [
            {"role": "system", "content": [text("Be short.")]},
            {"role": "user", "content": "Look:"}, {"role": "user", "content": [text("here")]},
            {"role": "assistant", "content": "I "}, {"role": "assistant", "content": "see."},
        ]}));
        assert_eq!(turns, plain);
    }

    #[test]
    fn thoughts_calls_and_results_find_their_places() {
        let body = json!({"messages": [
            {"role": "user", "content": "Is it warm?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
                {"type": "thinking", "thinking": "Ask."},
                {"type": "text", "text": "Wait."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"at": "sea"}},
                {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": [
                    {"type": "text", "text": "ten"}, {"type": "text", "text": "past"},
                ]},
                {"type": "tool_result", "tool_use_id": "a", "content": "no wind", "is_error": true},
                {"type": "tool_result", "tool_use_id": "a"},
                {"type": "text", "text": "And?"},
            ]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "clock", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "is_error": false}]},
        ]});
        let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        assert_eq!(
            seen(&body),
            json!([
                {"role": "user", "content": "Is it warm?"},
                {
                    "role": "assistant", "content": "Wait.", "reasoning_content": "Hm.\n\nAsk.",
                    "thinking": "Hm.\n\nAsk.",
                    "tool_calls": [call("a", "weather", json!({"at": "sea"})), call("b", "clock", json!({}))],
                },
                {"role": "tool", "content": "ten\npast", "tool_call_id": "b", "name": "clock"},
                {"role": "tool", "content": "Error: no wind", "tool_call_id": "a", "name": "weather"},
                {"role": "tool", "content": "", "tool_call_id": "a", "name": "weather"},
                {"role": "user", "content": "And?"},
                {"role": "assistant", "content": null, "tool_calls": [call("c", "clock", json!({}))]},
                {"role": "tool", "content": "", "tool_call_id": "c", "name": "clock"},
            ])
        );
    }

    #[test]
    fn what_does_nothing_is_told() {
        let marked = json!({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}});
        let body = json!({"system": [marked], "messages": [
            {"role": "user", "content": [marked, {"type": "text", "text": "x", "citations": [{"a": 1}]}]},
            {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
        ]});
        let (messages, warnings) = read(&body).unwrap();
        assert_eq!(
            warnings,
            [
                CACHE_CONTROL,
                "messages.0.content.1: `citations` has no effect here",
                "messages.1.content.0: redacted thoughts have no effect: nobody here can read them",
            ]
        );
        assert_eq!((&messages[2].content, &messages[2].reasoning), (&json!(""), &None));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let of = |role: &str, block: Value| json!([{"role": role, "content": [block]}]);
        let picture = json!({"type": "image", "source": {"type": "base64", "data": "x"}});
        let called = |content: Value| {
            json!([
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": content}]},
            ])
        };
        for (messages, place) in [
            (json!([]), "empty"),
            (json!(["hi"]), "messages.0: the message is a text"),
            (json!([{"content": "hi"}]), "messages.0: `role`"),
            (json!([{"role": "user"}]), "messages.0: `content`"),
            (json!([{"role": "user", "content": "hi", "name": "x"}]), "messages.0: `name`"),
            (json!([{"role": "tool", "content": "hi"}]), "`user`, `assistant`"),
            (json!([{"role": "user", "content": 7}]), "messages.0.content: "),
            (json!([{"role": "user", "content": []}]), "messages.0.content: "),
            (of("user", json!("hi")), "messages.0.content.0: the block is a text"),
            (of("user", json!({"text": "hi"})), "messages.0.content.0: `type`"),
            (of("user", json!({"type": "text"})), "messages.0.content.0: `text`"),
            (of("user", json!({"type": "text", "text": "x", "txt": 1})), "messages.0.content.0: `txt`"),
            (of("user", picture.clone()), "messages.0.content.0: a block of type `image`"),
            (of("user", json!({"type": "document"})), "`document`"),
            (of("user", json!({"type": "tool_use"})), "`tool_use` cannot be one of the user"),
            (of("assistant", json!({"type": "tool_result"})), "`tool_result` cannot be one of the assistant"),
            (of("assistant", json!({"type": "server_tool_use"})), "`server_tool_use`"),
            (of("assistant", json!({"type": "tool_use", "id": "a", "name": "f", "input": "{}"})), "`input`"),
            (of("assistant", json!({"type": "tool_use", "id": "a", "input": {}})), "`name`"),
            (of("user", json!({"type": "tool_result", "tool_use_id": "z"})), "the id `z`"),
            (called(json!([picture])), "messages.1.content.0.content.0: a block of type `image`"),
            (called(json!(1)), "messages.1.content.0.content: "),
        ] {
            let problem = read(&json!({"messages": messages})).unwrap_err();
            assert!(problem.message.contains(place), "{messages}: {}", problem.message);
            assert_eq!(problem.field.as_deref(), Some("messages"));
        }
        let system = json!({"system": [{"type": "image"}], "messages": [{"role": "user", "content": "hi"}]});
        assert!(read(&system).unwrap_err().message.starts_with("system.0: "));
    }
}
