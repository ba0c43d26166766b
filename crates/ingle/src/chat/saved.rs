//! Conversations in files: JSON with the messages as chat interfaces write them.

use super::conversation::{Conversation, Role, Turn};
use anyhow::{Context, Result, anyhow, bail};
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
