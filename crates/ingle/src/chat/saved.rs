//! Conversations in files: JSON with the messages as chat interfaces write them.

use super::conversation::{Conversation, ROLES};
use anyhow::{Context, Result, anyhow, bail};
use ingle_text::Message;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Larger than any conversation.
const MOST_BYTES: u64 = 64_000_000;

/// Writes a conversation. An existing file is replaced only if it holds a conversation too.
pub(super) fn save(path: &Path, model: &str, conversation: &Conversation) -> Result<()> {
    if path.exists() && load(path).is_err() {
        bail!("{} exists and is no saved conversation; choose another name", path.display());
    }
    let mut messages = Vec::new();
    messages.extend(conversation.system.iter().map(|text| json!({"role": "system", "content": text})));
    messages.extend(conversation.turns.iter().map(message_json));
    let document = json!({ "model": model, "messages": messages });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A message as chat interfaces write it: the model's thoughts under one name only.
fn message_json(message: &Message) -> Value {
    let mut value = message.to_json();
    if let Value::Object(members) = &mut value {
        members.shift_remove("thinking");
    }
    value
}

/// Reads a conversation, or a bare list of messages.
pub(super) fn load(path: &Path) -> Result<Conversation> {
    let context = || format!("cannot load {}", path.display());
    // asked before it is opened: opening a pipe would wait for someone to write there
    if !std::fs::metadata(path).with_context(context)?.is_file() {
        return Err(anyhow!("it is not a file").context(context()));
    }
    let file = File::open(path).with_context(context)?;
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).with_context(context)?;
    if text.len() as u64 > MOST_BYTES {
        let most = MOST_BYTES / 1_000_000;
        return Err(anyhow!("it is larger than {most} MB, more than any conversation").context(context()));
    }
    read(&text).with_context(context)
}

fn read(text: &str) -> Result<Conversation> {
    let document: Value = serde_json::from_str(text).context("it is not JSON")?;
    let messages = match &document {
        Value::Array(list) => Some(list),
        other => other.get("messages").and_then(Value::as_array),
    };
    let messages = messages.context("it has no list of messages")?;
    let mut conversation = Conversation::default();
    for (at, message) in messages.iter().enumerate() {
        let message = Message::from_json(at, message)?;
        let speaks =
            message.content.is_string() || (message.content.is_null() && !message.tool_calls.is_empty());
        if !speaks {
            bail!("message {at} has no text as its content");
        }
        match message.role.as_str() {
            role if ROLES.contains(&role) => conversation.turns.push(message),
            "system" if at == 0 => conversation.system = message.content.as_str().map(str::to_owned),
            role => bail!(
                "message {at} has the role `{role}`; known are {}, and system at the start",
                ROLES.join(", ")
            ),
        }
    }
    Ok(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_sane_size_are_read() {
        let folder = std::env::temp_dir().join(format!("ingle-saved-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let said = |path: &Path| crate::errors::line(&load(path).unwrap_err());
        assert!(said(&folder).contains("not a file"));
        let huge = folder.join("huge.json");
        File::create(&huge).unwrap().set_len(MOST_BYTES + 5).unwrap();
        assert!(said(&huge).contains("64 MB"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn thoughts_and_calls_are_kept() {
        let call = ingle_text::ToolCall {
            id: Some("call00001".into()),
            name: "get_weather".into(),
            arguments: json!("{\"city\": \"Paris\"}"),
        };
        let mut conversation = Conversation::new(Some("S".into()));
        conversation.ask("Weather?");
        conversation.turns.push(Message {
            reasoning: Some("Need it.".into()),
            tool_calls: vec![call],
            ..Message::new("assistant", "")
        });
        let folder = std::env::temp_dir().join(format!("ingle-saved-calls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("talk.json");
        save(&file, "m", &conversation).unwrap();
        let back = load(&file).unwrap();
        assert_eq!((back.system.as_deref(), back.turns.len()), (Some("S"), 2));
        assert_eq!(back.turns[1].reasoning.as_deref(), Some("Need it."));
        assert_eq!(back.turns[1].tool_calls[0].arguments, json!({"city": "Paris"}));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_conversation_is_refused_with_a_reason() {
        for (text, said) in [
            ("hello", "not JSON"),
            ("{}", "no list"),
            (r#"[{"role": "user"}]"#, "message 0"),
            (r#"[{"content": "x"}]"#, "message 0"),
            (r#"[{"role": "wizard", "content": "x"}]"#, "`wizard`"),
            (r#"[{"role": "assistant", "content": null}]"#, "message 0"),
            (r#"[{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]"#, "message 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(crate::errors::line(&error).contains(said), "{text}: {error:#}");
        }
        assert_eq!(read(r#"[{"role": "user", "content": "x"}]"#).unwrap().turns.len(), 1);
    }
}
