//! A conversation in the API's words.

use crate::fields::Fields;
use crate::problem::Problem;
use ingle_engine::ChatRequest;
use ingle_text::Message;
use serde_json::{Map, Value};

/// Efforts that templates know.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// The messages, tools and template variables of a request.
///
/// # Errors
/// Whatever is missing, of a wrong type, or a picture.
pub(crate) fn conversation(fields: &mut Fields) -> Result<ChatRequest, Problem> {
    let given: Vec<Value> = fields.required("messages")?;
    if given.is_empty() {
        return Err(Problem::field("messages", "`messages` is empty: there is nothing to answer"));
    }
    let mut messages = Vec::with_capacity(given.len());
    for (index, value) in given.iter().enumerate() {
        messages.push(message(index, value)?);
    }
    let tools: Vec<Value> = fields.optional("tools")?.unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let name = tool.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
        if tool.get("type").and_then(Value::as_str) != Some("function") || name.is_none_or(str::is_empty) {
            let message = format!(
                "tool {index} is not of the form {{\"type\": \"function\", \"function\": {{\"name\": ..}}}}"
            );
            return Err(Problem::field("tools", message));
        }
    }
    let mut variables: Map<String, Value> = fields.optional("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = fields.optional::<String>("reasoning_effort")? {
        if !EFFORTS.contains(&effort.as_str()) {
            let message = format!("`reasoning_effort` is `{effort}`; it can be {}", EFFORTS.join(", "));
            return Err(Problem::field("reasoning_effort", message));
        }
        if effort == "none" {
            for name in ["enable_thinking", "thinking"] {
                variables.entry(name).or_insert(false.into());
            }
        } else {
            variables.entry("reasoning_effort").or_insert(effort.into());
        }
    }
    Ok(ChatRequest { messages, tools, variables })
}

fn message(index: usize, value: &Value) -> Result<Message, Problem> {
    let message =
        Message::from_json(index, value).map_err(|error| Problem::field("messages", error.to_string()))?;
    let bad = |what: String| Err(Problem::field("messages", format!("message {index} {what}")));
    match &message.content {
        Value::Null | Value::String(_) => {}
        Value::Array(parts) => {
            for part in parts {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
                match kind {
                    "text" if part.get("text").is_some_and(Value::is_string) => {}
                    "text" => return bad("has a text part without `text`".into()),
                    "image_url" | "input_image" | "input_audio" | "file" | "video_url" => {
                        return bad(format!("has a part of type `{kind}`, and this model reads text alone"));
                    }
                    _ => return bad("has a part of a type that is not known here".into()),
                }
            }
        }
        _ => return bad("has a `content` that is neither text nor a list of parts".into()),
    }
    if message.content.is_null() && message.tool_calls.is_empty() && message.role != "assistant" {
        return bad("has no `content`".into());
    }
    Ok(message)
}
