//! A whole answer, in the API's shape.

use crate::ask::Told;
use crate::openai::notices;
use crate::plain::with_warnings;
use ingle_engine::{EndReason, Outcome};
use ingle_text::ToolCall;
use serde_json::{Value, json};

/// What an answer is called, and whose it is.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) id: String,
    pub(super) model: String,
}

impl Frame {
    /// A message with what was said, why it ended, and what it cost.
    pub(super) fn message(&self, content: Value, end: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": end["stop_reason"], "stop_sequence": end["stop_sequence"], "usage": usage,
        })
    }
}

/// The kinds of blocks that answers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Thinking,
    Text,
}

impl Kind {
    /// A block of text. Nobody vouches for thoughts here: their signature is empty.
    pub(super) fn block(self, text: &str) -> Value {
        match self {
            Kind::Thinking => json!({"type": "thinking", "thinking": text, "signature": ""}),
            Kind::Text => json!({"type": "text", "text": text}),
        }
    }
}

/// A block that calls a tool.
pub(super) fn tool_use(call: &ToolCall, input: Value) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
}

/// The arguments of a call, which the API has as an object. Some models have tools of their own that take any text: that is
/// the object's `input` then.
pub(super) fn input(call: &ToolCall) -> Value {
    let read = match &call.arguments {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| call.arguments.clone()),
        other => other.clone(),
    };
    match read {
        Value::Object(_) => read,
        Value::Null => json!({}),
        Value::String(text) if text.is_empty() => json!({}),
        other => json!({"input": other}),
    }
}

/// Blocks of an answer in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    done: Vec<Value>,
    /// The block that goes on with more of its kind.
    open: Option<(Kind, String)>,
}

impl Blocks {
    pub(super) fn add(&mut self, told: Told) {
        match told {
            Told::Reasoning(text) => self.say(Kind::Thinking, &text),
            Told::Content(text) => self.say(Kind::Text, &text),
            Told::Call(call) => {
                self.close();
                self.done.push(tool_use(&call, input(&call)));
            }
            Told::Asked(..) | Told::Chosen(..) | Told::Ended(_) => {}
        }
    }

    fn say(&mut self, kind: Kind, text: &str) {
        if text.is_empty() {
            return;
        }
        match &mut self.open {
            Some((open, said)) if *open == kind => said.push_str(text),
            _ => {
                self.close();
                self.open = Some((kind, text.to_owned()));
            }
        }
    }

    fn close(&mut self) {
        self.done.extend(self.open.take().map(|(kind, text)| kind.block(&text)));
    }

    /// All of them.
    pub(super) fn json(&self) -> Value {
        let open = self.open.iter().map(|(kind, text)| kind.block(text));
        self.done.iter().cloned().chain(open).collect()
    }
}

/// A whole answer.
pub(super) fn whole(
    frame: &Frame,
    blocks: &Blocks,
    outcomes: &[Outcome],
    mut warnings: Vec<String>,
) -> Value {
    warnings.extend(notices(outcomes));
    let (end, usage) = match outcomes.first() {
        Some(outcome) => (end(outcome), usage(outcome)),
        None => (Value::Null, Value::Null),
    };
    with_warnings(frame.message(blocks.json(), end, usage), warnings)
}

/// Why an answer ended: `stop_reason`, and the `stop_sequence` if it was one.
pub(super) fn end(outcome: &Outcome) -> Value {
    let (reason, stop) = match &outcome.reason {
        EndReason::Length => ("max_tokens", None),
        EndReason::ContextFull => ("model_context_window_exceeded", None),
        _ if !outcome.calls.is_empty() => ("tool_use", None),
        EndReason::StopText(stop) => ("stop_sequence", Some(stop)),
        EndReason::EndOfTurn | EndReason::Stopped => ("end_turn", None),
    };
    json!({"stop_reason": reason, "stop_sequence": stop})
}

/// Tokens: those of the prompt that were computed, those taken from the cache, and those made.
pub(super) fn usage(outcome: &Outcome) -> Value {
    let usage = &outcome.usage;
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    tokens(computed, usage.cached_tokens, usage.decoded_tokens)
}

/// What is kept for later costs nothing, and is not counted.
pub(super) fn tokens(computed: usize, cached: usize, made: usize) -> Value {
    json!({
        "input_tokens": computed, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        "output_tokens": made,
    })
}
