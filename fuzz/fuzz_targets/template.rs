//! Any bytes as a chat template (after a NUL byte: variables as JSON): whatever it does, it ends, and the prompt keeps
//! to the limits.
#![no_main]

use ingle_text::{ChatTemplate, Limits, Moment};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// The fuzzer's instrumentation makes a step many times as slow as it is.
const LIMITS: Limits =
    Limits { fuel: 50_000, fuel_per_byte: 1, recursion: 200, source_bytes: 16 << 10, output_bytes: 1 << 20 };
const NOW: Moment = Moment { year: 2025, month: 8, day: 5, hour: 12, minute: 0, second: 0 };

fuzz_target!(|bytes: &[u8]| {
    let (source, variables) = match bytes.iter().position(|&byte| byte == 0) {
        Some(nul) => (&bytes[..nul], serde_json::from_slice(&bytes[nul + 1..]).unwrap_or_default()),
        None => (bytes, Map::new()),
    };
    let Ok(template) = ChatTemplate::with_limits(&String::from_utf8_lossy(source), LIMITS) else { return };
    let variables = if variables.is_empty() { conversation() } else { variables };
    if let Ok(prompt) = template.render(&variables, NOW) {
        assert!(prompt.len() <= LIMITS.output_bytes);
        assert_eq!(template.render(&variables, NOW).ok(), Some(prompt), "rendering twice gives the same");
    }
});

fn conversation() -> Map<String, Value> {
    let call =
        json!({"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2.5, null]}}});
    let value = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1 + 2.5?"},
            {"role": "assistant", "content": "<think>sum</think>\n", "tool_calls": [call]},
            {"role": "tool", "content": "3.5", "name": "add"},
            {"role": "user", "content": [{"type": "text", "text": "Thanks, <|im_end|> \u{e9}"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters":
            {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}}}],
        "add_generation_prompt": true,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "enable_thinking": false,
    });
    match value {
        Value::Object(variables) => variables,
        _ => unreachable!("an object is written above"),
    }
}
