//! Answers in Ollama's shapes, whole and in chunks.
//!
//! ```text
//! chat:     {model, created_at, message: {role, content, thinking?, tool_calls?}, logprobs?, done}
//! generate: {model, created_at, response, thinking?, tool_calls?, logprobs?, done}
//! last:     done_reason, total_duration, load_duration, prompt_eval_count, prompt_eval_duration, eval_count,
//!           eval_duration, warnings?
//! ```

use super::message::call_document;
use crate::app::{App, answer};
use crate::ask::{self, Ask, Told};
use crate::models::Lease;
use crate::openai::chat::Chosen;
use crate::openai::{chat_logprob, notices};
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::stream::{self, Chunks, Framing};
use crate::time;
use axum::response::Response;
use ingle_engine::{EndReason, EngineError, Outcome};
use ingle_text::ToolCall;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which of the two shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate,
}

/// What all chunks of an answer have in common.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) shape: Shape,
    /// The name that the model was asked by.
    pub(super) model: String,
    pub(super) asked: Instant,
    /// How long the model took to load.
    pub(super) load: Duration,
    /// What the end of the answer has to mention.
    pub(super) warnings: Vec<String>,
}

/// A part of an answer, or all of it.
#[derive(Default)]
struct Part<'a> {
    content: &'a str,
    thinking: &'a str,
    calls: Vec<Value>,
    /// Where they are asked for.
    logprobs: Option<Vec<Value>>,
}

impl Frame {
    fn chunk(&self, part: Part, done: bool) -> Map<String, Value> {
        let mut said = Map::new();
        if !part.thinking.is_empty() {
            said.insert("thinking".into(), part.thinking.into());
        }
        if !part.calls.is_empty() {
            said.insert("tool_calls".into(), part.calls.into());
        }
        let mut chunk = Map::new();
        chunk.insert("model".into(), self.model.as_str().into());
        chunk.insert("created_at".into(), time::now().into());
        match self.shape {
            Shape::Chat => {
                let mut message = Map::new();
                message.insert("role".into(), "assistant".into());
                message.insert("content".into(), part.content.into());
                message.extend(said);
                chunk.insert("message".into(), message.into());
            }
            Shape::Generate => {
                chunk.insert("response".into(), part.content.into());
                chunk.extend(said);
            }
        }
        if let Some(logprobs) = part.logprobs {
            chunk.insert("logprobs".into(), logprobs.into());
        }
        chunk.insert("done".into(), done.into());
        chunk
    }

    /// A part with what is told at the end.
    fn last(&mut self, part: Part, outcome: &Outcome) -> Value {
        let mut chunk = self.chunk(part, true);
        let reason = match outcome.reason {
            EndReason::Length | EndReason::ContextFull => "length",
            _ => "stop",
        };
        let usage = &outcome.usage;
        let nanoseconds = |seconds: f64| Value::from((seconds.max(0.0) * 1e9) as u64);
        for (name, value) in [
            ("done_reason", reason.into()),
            ("total_duration", nanoseconds(self.asked.elapsed().as_secs_f64())),
            ("load_duration", (self.load.as_nanos() as u64).into()),
            ("prompt_eval_count", usage.prompt_tokens.into()),
            ("prompt_eval_duration", nanoseconds(usage.prefill_seconds)),
            ("eval_count", usage.decoded_tokens.into()),
            ("eval_duration", nanoseconds(usage.decode_seconds)),
        ] {
            chunk.insert(name.into(), value);
        }
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(notices(std::slice::from_ref(outcome)));
        with_warnings(Value::Object(chunk), warnings)
    }

    /// The answer to a request that asks nothing but that the model be there, or be gone.
    pub(super) fn loaded(mut self, gone: bool) -> Response {
        let mut chunk = self.chunk(Part::default(), true);
        chunk.insert("done_reason".into(), if gone { "unload" } else { "load" }.into());
        answer(&with_warnings(Value::Object(chunk), std::mem::take(&mut self.warnings)))
    }
}

/// Has something answered.
///
/// # Errors
/// What is known before anything is computed, and what goes wrong before the end of an answer that is not streamed.
pub(super) async fn respond(
    app: &Arc<App>,
    lease: Lease,
    mut frame: Frame,
    ask: Ask,
    stream: bool,
) -> Result<Response, Problem> {
    let logprobs = ask.logprobs.is_some();
    let mut answers = ask::submit(&lease, &app.metrics, ask).await?;
    frame.warnings.append(&mut answers.warnings);
    if stream {
        let chunks = Stream { lease, frame, logprobs, chosen: Chosen::default(), calls: 0, outcome: None };
        return Ok(stream::response(answers, chunks, 1, Framing::Lines));
    }
    let language = lease.engine.language();
    let (mut waiting, mut said) = (Chosen::default(), Vec::new());
    let outcomes = answers.outcomes(1, |_, told| match told {
        Told::Chosen(id, of) => waiting.0.push(chat_logprob(language, id, &of)),
        Told::Content(text) => said.append(&mut waiting.say(&text)),
        Told::Reasoning(_) | Told::Call(_) => waiting.0.clear(),
        Told::Asked(..) | Told::Ended(_) => {}
    });
    let outcomes = outcomes.await?;
    let Some(outcome) = outcomes.first() else { return Err(EngineError::Gone.into()) };
    let part = Part {
        content: &outcome.text,
        thinking: &outcome.reasoning,
        calls: calls(&outcome.calls),
        logprobs: logprobs.then_some(said),
    };
    Ok(answer(&frame.last(part, outcome)))
}

fn calls(calls: &[ToolCall]) -> Vec<Value> {
    calls.iter().enumerate().map(|(index, call)| call_document(index, call)).collect()
}

/// Chunks of a stream.
struct Stream {
    lease: Lease,
    frame: Frame,
    logprobs: bool,
    /// Logprobs that wait for what they say.
    chosen: Chosen,
    /// Calls so far.
    calls: usize,
    outcome: Option<Box<Outcome>>,
}

impl Stream {
    fn part(&self, part: Part) -> Vec<Value> {
        vec![Value::Object(self.frame.chunk(part, false))]
    }
}

impl Chunks for Stream {
    fn begin(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn told(&mut self, _: usize, told: Told) -> Vec<Value> {
        match told {
            Told::Chosen(id, logprobs) => {
                self.chosen.0.push(chat_logprob(self.lease.engine.language(), id, &logprobs));
                Vec::new()
            }
            Told::Content(text) => {
                let logprobs = self.chosen.say(&text);
                let logprobs = self.logprobs.then_some(logprobs);
                self.part(Part { content: &text, logprobs, ..Part::default() })
            }
            Told::Reasoning(text) => {
                self.chosen.0.clear();
                self.part(Part { thinking: &text, ..Part::default() })
            }
            Told::Call(call) => {
                self.chosen.0.clear();
                let calls = vec![call_document(self.calls, &call)];
                self.calls += 1;
                self.part(Part { calls, ..Part::default() })
            }
            Told::Asked(..) => Vec::new(),
            Told::Ended(outcome) => {
                self.outcome = outcome.ok();
                Vec::new()
            }
        }
    }

    fn end(&mut self) -> Vec<Value> {
        let outcome = self.outcome.take();
        outcome.map(|outcome| self.frame.last(Part::default(), &outcome)).into_iter().collect()
    }

    fn failed(&mut self, error: EngineError) -> Value {
        json!({"error": Problem::from(error).message})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_engine::Usage;

    fn outcome(reason: EndReason) -> Outcome {
        let usage = Usage {
            prompt_tokens: 7,
            cached_tokens: 3,
            prefill_seconds: 0.5,
            decoded_tokens: 2,
            decode_seconds: 0.25,
            ..Usage::default()
        };
        Outcome {
            text: "hi".into(),
            reasoning: String::new(),
            calls: Vec::new(),
            notices: vec!["told".into()],
            tokens: vec![1, 2],
            reason,
            usage,
        }
    }

    fn frame(shape: Shape) -> Frame {
        Frame {
            shape,
            model: "m".into(),
            asked: Instant::now(),
            load: Duration::ZERO,
            warnings: vec!["first".into()],
        }
    }

    #[test]
    fn the_end_counts_in_nanoseconds() {
        let last = frame(Shape::Chat).last(Part::default(), &outcome(EndReason::Length));
        assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("length")));
        // of the whole prompt, whatever was in the cache
        assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(7), &json!(2)));
        assert_eq!(last["prompt_eval_duration"], 500_000_000);
        assert_eq!(last["eval_duration"], 250_000_000);
        assert_eq!(last["warnings"], json!(["first", "told"]));
        let last = frame(Shape::Generate).last(Part::default(), &outcome(EndReason::StopText("x".into())));
        assert_eq!((&last["done_reason"], &last["response"]), (&json!("stop"), &json!("")));
    }

    #[test]
    fn parts_are_where_their_shape_has_them() {
        let part = || Part { content: "a", thinking: "b", calls: vec![json!(1)], logprobs: Some(vec![]) };
        let mut chat = frame(Shape::Chat).chunk(part(), false);
        assert!(chat.shift_remove("created_at").unwrap().as_str().unwrap().ends_with('Z'));
        let message = json!({"role": "assistant", "content": "a", "thinking": "b", "tool_calls": [1]});
        assert_eq!(
            Value::Object(chat),
            json!({"model": "m", "message": message, "logprobs": [], "done": false})
        );
        let mut text = frame(Shape::Generate).chunk(part(), false);
        text.shift_remove("created_at");
        assert_eq!(
            Value::Object(text),
            json!({
                "model": "m", "response": "a", "thinking": "b", "tool_calls": [1], "logprobs": [], "done": false,
            })
        );
    }
}
