//! Conversations in Ollama's words.

use crate::fields::Fields;
use crate::problem::Problem;
use ingle_text::{Message, ToolCall};
use serde_json::{Map, Value, json};

/// Takes `messages`; without any, none.
///
/// # Errors
/// A message that is none, of which something is missing or not known, or that shows a picture.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<Message>, Problem> {
    let given: Vec<Value> = fields.optional("messages")?.unwrap_or_default();
    let mut messages = Vec::with_capacity(given.len());
    for (index, value) in given.into_iter().enumerate() {
        let read = message(value, &mut fields.warnings);
        messages.push(read.map_err(|problem| {
            Problem::field("messages", format!("message {index}: {}", problem.message))
        })?);
    }
    link(&mut messages);
    Ok(messages)
}

/// Takes `images`.
///
/// # Errors
/// Any.
pub(super) fn no_images(fields: &mut Fields) -> Result<(), Problem> {
    match fields.optional::<Vec<Value>>("images")? {
        Some(images) if !images.is_empty() => {
            Err(Problem::field("images", "it has `images`, and this model reads text alone; leave them out"))
        }
        _ => Ok(()),
    }
}

/// `{role, content, thinking?, tool_calls?, tool_name?, tool_call_id?}`
fn message(value: Value, warnings: &mut Vec<String>) -> Result<Message, Problem> {
    let mut fields = Fields::of(value, "it")?;
    no_images(&mut fields)?;
    let calls: Vec<Value> = fields.optional("tool_calls")?.unwrap_or_default();
    let (tool, name) = (fields.optional("tool_name")?, fields.optional("name")?);
    let message = Message {
        role: fields.required("role")?,
        content: fields.optional::<String>("content")?.map_or(Value::Null, Value::String),
        reasoning: fields.optional::<String>("thinking")?.filter(|thinking| !thinking.is_empty()),
        tool_calls: calls.into_iter().map(call).collect::<Result<_, _>>()?,
        tool_call_id: fields.optional::<String>("tool_call_id")?.filter(|id| !id.is_empty()),
        name: tool.or(name).filter(|name: &String| !name.is_empty()),
        extra: Map::new(),
    };
    warnings.extend(fields.finish()?);
    if message.content.is_null() && message.role != "assistant" {
        return Err(Problem::field("content", "`content` is missing"));
    }
    Ok(message)
}

/// `{id?, type?, function: {index?, name, description?, arguments}}`, where the index says what the order says.
fn call(value: Value) -> Result<ToolCall, Problem> {
    let mut fields = Fields::of(value, "a call")?;
    let id = fields.optional::<String>("id")?.filter(|id| !id.is_empty());
    // some clients know of it
    fields.optional::<String>("type")?;
    let mut function = Fields::of(fields.required("function")?, "`function`")?;
    fields.finish()?;
    function.optional::<usize>("index")?;
    let name = function.required("name")?;
    let arguments = function.optional::<Map<String, Value>>("arguments")?.unwrap_or_default();
    function.finish()?;
    Ok(ToolCall { id, name, arguments: Value::Object(arguments) })
}

/// Gives calls without a name of their own one, and it to the messages that answer them: Ollama's clients tell them apart
/// by the tool and the order, and many templates by their ids.
fn link(messages: &mut [Message]) {
    let mut open: Vec<(String, String)> = Vec::new();
    let mut count = 0;
    for message in messages {
        for call in &mut message.tool_calls {
            count += 1;
            // nine letters and digits, as Mistral's templates demand
            let id = call.id.get_or_insert_with(|| format!("call{count:05}"));
            open.push((id.clone(), call.name.clone()));
        }
        if message.role != "tool" {
            continue;
        }
        let answered = match (&message.tool_call_id, &message.name) {
            (Some(id), _) => open.iter().position(|(open, _)| open == id),
            (None, Some(name)) => open.iter().position(|(_, open)| open == name),
            (None, None) => (!open.is_empty()).then_some(0),
        };
        if let Some(at) = answered {
            let (id, _) = open.remove(at);
            message.tool_call_id = Some(id);
        }
    }
}

/// A call as clients read it: the arguments are an object.
pub(super) fn call_document(index: usize, call: &ToolCall) -> Value {
    let text = call.arguments.as_str();
    let arguments = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(call.arguments.clone());
    let function = json!({"index": index, "name": call.name, "arguments": arguments});
    match &call.id {
        Some(id) => json!({"id": id, "function": function}),
        None => json!({"function": function}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Value) -> Result<Vec<Message>, Problem> {
        super::messages(&mut Fields::of(json!({"messages": messages}), "the body").unwrap())
    }

    #[test]
    fn messages_become_those_that_templates_read() {
        let read = read(json!([
            {"role": "user", "content": "hi", "images": [], "thinking": ""},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                {"function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
                {"function": {"name": "g", "arguments": {}}},
                {"id": "own", "function": {"name": "f", "arguments": {"a": 2}}},
            ]},
            {"role": "tool", "tool_name": "g", "content": "of g"},
            {"role": "tool", "tool_call_id": "own", "content": "second of f"},
            {"role": "tool", "content": "first of f"},
            {"role": "tool", "content": "of none"},
        ]))
        .unwrap();
        assert_eq!(
            (read[0].to_json(), &read[0].reasoning),
            (json!({"role": "user", "content": "hi"}), &None)
        );
        let called = read[1].to_json();
        assert_eq!((&called["thinking"], &called["content"]), (&json!("hm"), &json!("")));
        assert_eq!(
            called["tool_calls"][0],
            json!({"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}})
        );
        let ids: Vec<_> = read[2..].iter().map(|message| message.tool_call_id.as_deref()).collect();
        assert_eq!(ids, [Some("call00002"), Some("own"), Some("call00001"), None]);
        assert_eq!(read[2].name.as_deref(), Some("g"));
    }

    #[test]
    fn what_is_no_message_is_named() {
        for (message, named) in [
            (json!(1), "message 1: it is a number"),
            (json!({"content": "x"}), "`role`"),
            (json!({"role": "user"}), "`content`"),
            (json!({"role": "user", "content": []}), "`content`"),
            (json!({"role": "user", "content": "x", "images": ["aGk="]}), "text alone"),
            (json!({"role": "user", "content": "x", "contnet": "y"}), "`contnet`"),
            (json!({"role": "assistant", "tool_calls": [{}]}), "`function`"),
            (json!({"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}), "`name`"),
            (
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}),
                "`arguments`",
            ),
        ] {
            let problem = read(json!([{"role": "user", "content": "hi"}, message])).unwrap_err();
            assert!(
                problem.message.starts_with("message 1: ") && problem.message.contains(named),
                "{problem:?}"
            );
            assert_eq!(problem.field.as_deref(), Some("messages"));
        }
        assert!(read(Value::Null).unwrap().is_empty());
    }

    #[test]
    fn calls_are_told_with_objects() {
        let call = ToolCall { id: Some("1".into()), name: "f".into(), arguments: json!("{\"a\": [1]}") };
        let document = call_document(2, &call);
        assert_eq!(
            document,
            json!({"id": "1", "function": {"index": 2, "name": "f", "arguments": {"a": [1]}}})
        );
        // and are taken back as they were told
        assert_eq!(super::call(document).unwrap().arguments, json!({"a": [1]}));
    }
}
