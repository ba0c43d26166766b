//! Conversations in files: JSON with the messages as chat interfaces write them.

use super::conversation::{Conversation, Role, Turn};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::path::Path;

/// Larger than any conversation.
const MOST_BYTES: u64 = 64 << 20;

/// Writes a conversation. An existing file is replaced only if it holds a conversation too.
pub(super) fn save(path: &Path, model: &str, conversation: &Conversation) -> Result<()> {
    if path.exists() && load(path).is_err() {
        bail!("{} exists and is no saved conversation; choose another name", path.display());
    }
    let mut messages = Vec::new();
    messages.extend(conversation.system.iter().map(|text| json!({"role": "system", "content": text})));
    messages.extend(
        conversation.turns.iter().map(|turn| json!({"role": turn.role.name(), "content": turn.text})),
    );
    let document = json!({ "model": model, "messages": messages });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a conversation, or a bare list of messages.
pub(super) fn load(path: &Path) -> Result<Conversation> {
    let context = || format!("cannot load {}", path.display());
    let size = std::fs::metadata(path).with_context(context)?.len();
    if size > MOST_BYTES {
        return Err(anyhow!("it is larger than any conversation").context(context()));
    }
    let text = std::fs::read_to_string(path).with_context(context)?;
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
        let field = |name: &str| message.get(name).and_then(Value::as_str);
        let (Some(role), Some(content)) = (field("role"), field("content")) else {
            bail!("message {at} lacks a role or a content");
        };
        match Role::parse(role) {
            Some(role) => conversation.turns.push(Turn { role, text: content.to_owned() }),
            None if role == "system" && at == 0 => conversation.system = Some(content.to_owned()),
            None => bail!(
                "message {at} has the role `{role}`; known are user, assistant, and system at the start"
            ),
        }
    }
    Ok(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_conversation_is_refused_with_a_reason() {
        for (text, said) in [
            ("hello", "not JSON"),
            ("{}", "no list"),
            (r#"[{"role": "user"}]"#, "message 0"),
            (r#"[{"role": "tool", "content": "x"}]"#, "`tool`"),
            (r#"[{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]"#, "message 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(crate::errors::line(&error).contains(said), "{text}: {error:#}");
        }
        assert_eq!(read(r#"[{"role": "user", "content": "x"}]"#).unwrap().turns.len(), 1);
    }
}
