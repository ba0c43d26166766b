//! A conversation's messages, and the JSON that templates see of them.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what else a template knows.
    pub role: String,
    /// What is said: text, or a list of parts (`[{"type": "text", "text": ...}, ...]`), or null.
    pub content: Value,
    /// What an assistant thought before it spoke.
    pub reasoning: Option<String>,
    /// The tools an assistant called.
    pub tool_calls: Vec<ToolCall>,
    /// The call a tool's message answers.
    pub tool_call_id: Option<String>,
    /// The name of the speaker, or of the tool.
    pub name: Option<String>,
    /// Further members, given to the template as they are.
    pub extra: Map<String, Value>,
}

/// A call of a tool by an assistant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// Names the call, for the message that answers it.
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// Its arguments: an object, or the text of one.
    pub arguments: Value,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Value::String(content.into()), ..Message::default() }
    }

    /// The message as templates read it: reasoning under both names in use, tool calls in the OpenAI layout.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("role".into(), self.role.clone().into());
        members.insert("content".into(), self.content.clone());
        if let Some(reasoning) = &self.reasoning {
            members.insert("reasoning_content".into(), reasoning.clone().into());
            members.insert("thinking".into(), reasoning.clone().into());
        }
        if !self.tool_calls.is_empty() {
            members.insert("tool_calls".into(), self.tool_calls.iter().map(ToolCall::to_json).collect());
        }
        for (key, value) in [("tool_call_id", &self.tool_call_id), ("name", &self.name)] {
            if let Some(value) = value {
                members.insert(key.into(), value.clone().into());
            }
        }
        for (key, value) in &self.extra {
            members.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(members)
    }

    /// Message `index` of a conversation, from JSON in the OpenAI layout. Members this type has no place for are kept
    /// in [`extra`](Message::extra).
    ///
    /// # Errors
    /// [`Error::BadMessage`] when it is not an object with a `role`, or a member has the wrong type.
    pub fn from_json(index: usize, value: &Value) -> Result<Message> {
        let bad = |reason: &str| Error::BadMessage { index, reason: reason.to_owned() };
        let mut members = value.as_object().ok_or_else(|| bad("is not an object"))?.clone();
        let mut text = |key: &str| match members.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(bad(&format!("`{key}` is not text"))),
        };
        let role = text("role")?.ok_or_else(|| bad("has no `role`"))?;
        let thinking = text("thinking")?;
        let reasoning = text("reasoning_content")?.or(thinking);
        let (tool_call_id, name) = (text("tool_call_id")?, text("name")?);
        let content = members.shift_remove("content").unwrap_or(Value::Null);
        let tool_calls = match members.shift_remove("tool_calls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(calls)) => {
                let calls: Option<Vec<ToolCall>> = calls.iter().map(ToolCall::from_json).collect();
                calls.ok_or_else(|| bad("has a tool call without a function name"))?
            }
            Some(_) => return Err(bad("`tool_calls` is not a list")),
        };
        Ok(Message { role, content, reasoning, tool_calls, tool_call_id, name, extra: members })
    }
}

impl ToolCall {
    /// The call in the OpenAI layout, its arguments parsed: templates iterate over them.
    fn to_json(&self) -> Value {
        let mut call = Map::new();
        if let Some(id) = &self.id {
            call.insert("id".into(), id.clone().into());
        }
        let mut function = Map::new();
        function.insert("name".into(), self.name.clone().into());
        function.insert("arguments".into(), parsed(&self.arguments));
        call.insert("type".into(), "function".into());
        call.insert("function".into(), Value::Object(function));
        Value::Object(call)
    }

    fn from_json(value: &Value) -> Option<ToolCall> {
        let function = value.get("function").unwrap_or(value);
        Some(ToolCall {
            id: value.get("id").and_then(Value::as_str).map(str::to_owned),
            name: function.get("name")?.as_str()?.to_owned(),
            arguments: function.get("arguments").cloned().unwrap_or_else(|| Value::Object(Map::new())),
        })
    }
}

/// Arguments that are the text of an object, as that object; text that is none stays, and is the template's concern.
fn parsed(arguments: &Value) -> Value {
    let object = arguments.as_str().and_then(|text| serde_json::from_str(text).ok()).filter(Value::is_object);
    object.unwrap_or_else(|| arguments.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_survives_the_way_through_json() {
        let value = json!({
            "role": "assistant", "content": [{"type": "text", "text": "hi"}], "reasoning_content": "hm",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}],
            "name": "n", "prefix": true
        });
        let message = Message::from_json(0, &value).unwrap();
        assert_eq!(message.extra.get("prefix"), Some(&json!(true)));
        let back = message.to_json();
        assert_eq!(back["tool_calls"][0]["function"]["arguments"], json!({"a": 1}));
        assert_eq!((&back["thinking"], &back["reasoning_content"]), (&json!("hm"), &json!("hm")));
        assert_eq!(back["prefix"], json!(true));
        assert_eq!(Message::from_json(0, &back).unwrap().to_json(), back);
    }

    #[test]
    fn arguments_that_are_no_object_stay_text() {
        for text in ["", "not json", "[1]", "{\"a\": "] {
            assert_eq!(parsed(&json!(text)), json!(text));
        }
    }

    #[test]
    fn a_malformed_message_is_named() {
        for value in
            [json!([]), json!({"content": "x"}), json!({"role": 1}), json!({"role": "a", "tool_calls": [{}]})]
        {
            assert!(
                matches!(Message::from_json(3, &value), Err(Error::BadMessage { index: 3, .. })),
                "{value}"
            );
        }
    }
}
