//! Files of tools that a model is offered.

use crate::messages;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Larger than any list of tools.
const MOST_BYTES: u64 = 16_000_000;

/// Reads a list of tools in the OpenAI layout, or of their functions alone.
///
/// # Errors
/// A file that cannot be read or is something else; the message names it.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>> {
    let context = || format!("cannot use the tools in {}", path.display());
    // asked before it is opened: opening a pipe would wait for someone to write there
    if !std::fs::metadata(path).with_context(context)?.is_file() {
        return Err(anyhow::anyhow!("it is not a file").context(context()));
    }
    let file = File::open(path).with_context(context)?;
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).with_context(context)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(anyhow::anyhow!("it is larger than {} MB", MOST_BYTES / 1_000_000).context(context()));
    }
    parse(&text).with_context(context)
}

fn parse(text: &str) -> Result<Vec<Value>> {
    let document: Value = serde_json::from_str(text).context("it is not JSON")?;
    let list = document.as_array().or_else(|| document.get("tools")?.as_array());
    let Some(list) = list.filter(|list| !list.is_empty()) else { bail!(messages::TOOLS_FORM) };
    list.iter().map(tool).collect()
}

/// A tool with its function, whichever of them was given.
fn tool(value: &Value) -> Result<Value> {
    let function = value.get("function").unwrap_or(value);
    let named = function.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("function");
    if !named || kind != "function" {
        bail!(messages::TOOLS_FORM);
    }
    Ok(json!({"type": "function", "function": function}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read_with_and_without_their_wrapping() {
        let wrapped = r#"[{"type": "function", "function": {"name": "f", "parameters": {}}}]"#;
        let expected = parse(wrapped).unwrap();
        assert_eq!(parse(r#"[{"name": "f", "parameters": {}}]"#).unwrap(), expected);
        assert_eq!(parse(r#"{"tools": [{"name": "f", "parameters": {}}]}"#).unwrap(), expected);
        for text in ["", "{}", "[]", "[1]", r#"[{"name": ""}]"#, r#"[{"type": "web_search", "name": "x"}]"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
