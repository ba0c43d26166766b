//! Items of this API as messages of chats.

use crate::fields::Fields;
use crate::problem::Problem;
use serde_json::{Value, json};

/// The messages of an input: a text, or a list of items. Calls and thoughts in a row are one message of the assistant, as
/// templates want it.
///
/// # Errors
/// Items of types that are not known, or that a model of texts cannot read.
pub(super) fn messages(input: Value, warnings: &mut Vec<String>) -> Result<Vec<Value>, Problem> {
    let items = match input {
        Value::String(text) => return Ok(vec![json!({"role": "user", "content": text})]),
        Value::Array(items) => items,
        _ => return Err(Problem::field("input", "`input` is a text or a list of items")),
    };
    let mut messages = Vec::with_capacity(items.len());
    for (index, value) in items.into_iter().enumerate() {
        item(index, value, &mut messages, warnings)
            .map_err(|problem| Problem::field("input", format!("item {index}: {}", problem.message)))?;
    }
    Ok(messages)
}

fn item(
    index: usize,
    value: Value,
    messages: &mut Vec<Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Problem> {
    let mut fields = Fields::of(value, "it")?;
    // what answers have, and clients send back
    fields.optional::<Value>("id")?;
    fields.optional::<Value>("status")?;
    let kind: Option<String> = fields.optional("type")?;
    match kind.as_deref().unwrap_or("message") {
        "message" => {
            let role: String = fields.required("role")?;
            let content = content(fields.required("content")?)?;
            // the newer name of the same
            let role = if role == "developer" { "system".to_owned() } else { role };
            messages.push(json!({"role": role, "content": content}));
        }
        "function_call" => {
            let (id, name): (String, String) = (fields.required("call_id")?, fields.required("name")?);
            let arguments: String = fields.required("arguments")?;
            let call =
                json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
            let of_assistant = assistant(messages);
            match of_assistant["tool_calls"].as_array_mut() {
                Some(calls) => calls.push(call),
                None => of_assistant["tool_calls"] = json!([call]),
            }
        }
        "function_call_output" => {
            let id: String = fields.required("call_id")?;
            let output = match fields.required("output")? {
                Value::String(text) => Value::String(text),
                parts => content(parts)?,
            };
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
        }
        "reasoning" => {
            fields.optional::<Value>("summary")?;
            if fields.optional::<Value>("encrypted_content")?.is_some() {
                warnings.push(format!("`encrypted_content` of item {index} has no effect here"));
            }
            let parts: Vec<Value> = fields.optional("content")?.unwrap_or_default();
            let text: String = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            if !text.is_empty() {
                messages.push(json!({"role": "assistant", "content": null, "reasoning_content": text}));
            }
        }
        other => {
            let other: String = other.chars().take(80).collect();
            return Err(Problem::invalid(format!("items of type `{other}` are not taken here")));
        }
    }
    fields.finish()?;
    merge(messages);
    Ok(())
}

/// The last message, if it is the assistant's, or a new one.
fn assistant(messages: &mut Vec<Value>) -> &mut Value {
    if messages.last().is_none_or(|last| last["role"] != "assistant") {
        messages.push(json!({"role": "assistant", "content": null}));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

/// A thought and what is said after it are one message.
fn merge(messages: &mut Vec<Value>) {
    let [.., thought, said] = &mut messages[..] else { return };
    let is_thought = thought["reasoning_content"].is_string() && thought["content"].is_null();
    let both = thought["role"] == "assistant" && said["role"] == "assistant";
    if both && is_thought && thought.get("tool_calls").is_none() && said.get("reasoning_content").is_none() {
        said["reasoning_content"] = thought["reasoning_content"].take();
        let last = messages.len() - 1;
        messages.remove(last - 1);
    }
}

/// Content as texts: `input_text` and `output_text` are `text` in chats.
fn content(value: Value) -> Result<Value, Problem> {
    let parts = match value {
        Value::String(text) => return Ok(Value::String(text)),
        Value::Array(parts) => parts,
        _ => return Err(Problem::invalid("`content` is a text or a list of parts")),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        match part["type"].as_str() {
            Some("input_text" | "output_text" | "text") => match part["text"].as_str() {
                Some(text) => texts.push(json!({"type": "text", "text": text})),
                None => return Err(Problem::invalid("a text part has no `text`")),
            },
            Some("refusal") => {
                texts.push(json!({"type": "text", "text": part["refusal"].as_str().unwrap_or_default()}));
            }
            Some(kind) => {
                let kind: String = kind.chars().take(80).collect();
                let message = format!("a part is of type `{kind}`, and this model reads text alone");
                return Err(Problem::invalid(message));
            }
            None => return Err(Problem::invalid("a part has no `type`")),
        }
    }
    Ok(match &texts[..] {
        [one] => one["text"].clone(),
        _ => Value::Array(texts),
    })
}

/// What was answered, as messages for the next turn.
pub(super) fn of_answer(output: &[Value]) -> Vec<Value> {
    // what this program wrote is what it reads
    messages(Value::Array(output.to_vec()), &mut Vec::new()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages_that_templates_know() {
        let input = json!([
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{\"a\":1}"},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "So."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done", "annotations": []}]},
        ]);
        let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        assert_eq!(
            messages(input, &mut Vec::new()).unwrap(),
            [
                json!({"role": "system", "content": "Be brief."}),
                json!({"role": "user", "content": "Hi"}),
                json!({"role": "assistant", "content": null, "reasoning_content": "Hm.",
                       "tool_calls": [call("c1", "f", "{}"), call("c2", "g", "{\"a\":1}")]}),
                json!({"role": "tool", "tool_call_id": "c1", "content": "one"}),
                json!({"role": "tool", "tool_call_id": "c2", "content": "two"}),
                json!({"role": "assistant", "content": "Done", "reasoning_content": "So."}),
            ]
        );
    }

    #[test]
    fn items_that_cannot_be_read_are_named() {
        for (input, named) in [
            (json!([{"type": "item_reference", "id": "x"}]), "item_reference"),
            (
                json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
                "input_image",
            ),
            (json!([{"role": "user"}]), "content"),
            (json!([{"role": "user", "content": "x", "colour": 1}]), "colour"),
            (json!([7]), "item 0"),
            (json!(7), "input"),
        ] {
            let problem = messages(input, &mut Vec::new()).unwrap_err();
            assert!(problem.message.contains(named), "{}", problem.message);
            assert_eq!(problem.field.as_deref(), Some("input"));
        }
    }
}
