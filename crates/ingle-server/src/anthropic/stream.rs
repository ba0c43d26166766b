//! An answer as events.
//!
//! ```text
//! message_start, ping, (content_block_start, content_block_delta.., content_block_stop).., message_delta, message_stop
//! ```
//!
//! The first event knows of the prompt's tokens but not yet which of them the cache has: all of them count as input there,
//! and `message_delta` has the figures of the whole answer.

use super::error_body;
use super::response::{Frame, Kind, end, input, tokens, tool_use, usage};
use crate::ask::Told;
use crate::openai::notices;
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::stream::Chunks;
use ingle_engine::{EngineError, Outcome};
use serde_json::{Value, json};

/// Makes events of what is told.
pub(super) struct Stream {
    frame: Frame,
    /// Tokens of the prompt.
    prompt: usize,
    /// Known before the answer; what the engine says beside the answer comes at its end.
    warnings: Vec<String>,
    /// The block that more of its kind goes on with.
    open: Option<Kind>,
    /// Of the open block, or else of the next one.
    index: usize,
    outcome: Option<Outcome>,
}

impl Stream {
    pub(super) fn new(frame: Frame, prompt: usize, warnings: Vec<String>) -> Stream {
        Stream { frame, prompt, warnings, open: None, index: 0, outcome: None }
    }

    fn start(&self, block: Value) -> Value {
        json!({"type": "content_block_start", "index": self.index, "content_block": block})
    }

    fn delta(&self, delta: Value) -> Value {
        json!({"type": "content_block_delta", "index": self.index, "delta": delta})
    }

    fn stop(&mut self) -> Value {
        let index = self.index;
        self.index += 1;
        json!({"type": "content_block_stop", "index": index})
    }

    fn say(&mut self, kind: Kind, text: &str) -> Vec<Value> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut events = Vec::new();
        if self.open != Some(kind) {
            events = self.close();
            events.push(self.start(kind.block("")));
            self.open = Some(kind);
        }
        events.push(self.delta(match kind {
            Kind::Thinking => json!({"type": "thinking_delta", "thinking": text}),
            Kind::Text => json!({"type": "text_delta", "text": text}),
        }));
        events
    }

    /// The end of the open block, if there is one.
    fn close(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        match self.open.take() {
            None => return events,
            Some(Kind::Thinking) => {
                events.push(self.delta(json!({"type": "signature_delta", "signature": ""})));
            }
            Some(Kind::Text) => {}
        }
        events.push(self.stop());
        events
    }
}

impl Chunks for Stream {
    fn begin(&mut self) -> Vec<Value> {
        let message = self.frame.message(json!([]), Value::Null, tokens(self.prompt, 0, 0));
        let message = with_warnings(message, std::mem::take(&mut self.warnings));
        vec![json!({"type": "message_start", "message": message}), json!({"type": "ping"})]
    }

    fn told(&mut self, _: usize, told: Told) -> Vec<Value> {
        match told {
            Told::Reasoning(text) => self.say(Kind::Thinking, &text),
            Told::Content(text) => self.say(Kind::Text, &text),
            Told::Call(call) => {
                let mut events = self.close();
                events.push(self.start(tool_use(&call, json!({}))));
                // a call is known when it is whole
                let partial = input(&call).to_string();
                events.push(self.delta(json!({"type": "input_json_delta", "partial_json": partial})));
                events.push(self.stop());
                events
            }
            Told::Ended(Ok(outcome)) => {
                self.outcome = Some(*outcome);
                self.close()
            }
            Told::Asked(..) | Told::Chosen(..) | Told::Ended(Err(_)) => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Value> {
        let stop = json!({"type": "message_stop"});
        let Some(outcome) = self.outcome.take() else { return vec![stop] };
        let last = json!({"type": "message_delta", "delta": end(&outcome), "usage": usage(&outcome)});
        vec![with_warnings(last, notices(&[outcome])), stop]
    }

    fn failed(&mut self, error: EngineError) -> Value {
        error_body(Problem::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::{Blocks, whole};
    use super::*;
    use ingle_engine::{EndReason, Usage};
    use ingle_text::ToolCall;

    fn call(id: &str, arguments: &str) -> Told {
        Told::Call(ToolCall { id: Some(id.into()), name: "f".into(), arguments: arguments.into() })
    }

    fn outcome(reason: EndReason, calls: Vec<ToolCall>) -> Outcome {
        let usage = Usage { prompt_tokens: 10, cached_tokens: 4, decoded_tokens: 7, ..Usage::default() };
        Outcome {
            text: String::new(),
            reasoning: String::new(),
            calls,
            notices: vec!["look".into()],
            tokens: Vec::new(),
            reason,
            usage,
        }
    }

    fn stream() -> Stream {
        Stream::new(Frame { id: "msg_1".into(), model: "m".into() }, 10, vec!["ahead".into()])
    }

    fn told() -> Vec<Told> {
        vec![
            Told::Reasoning("h".into()),
            Told::Reasoning("m".into()),
            Told::Content(String::new()),
            Told::Content("Look".into()),
            Told::Content("ing".into()),
            call("1", r#"{"b": 1, "a": [2]}"#),
            call("2", ""),
            Told::Content("Done".into()),
        ]
    }

    /// The message that a client puts together from events, each of which has to be in its place.
    fn put_together(events: &[Value]) -> Value {
        let mut message = events[0]["message"].clone();
        let mut open: Option<usize> = None;
        let mut partial = String::new();
        for event in &events[1..] {
            let kind = event["type"].as_str().unwrap();
            let content = message["content"].as_array_mut().unwrap();
            match kind {
                "ping" | "message_stop" => assert!(open.is_none()),
                "content_block_start" => {
                    assert!(open.is_none() && event["index"] == content.len());
                    open = Some(content.len());
                    content.push(event["content_block"].clone());
                    partial.clear();
                }
                "content_block_delta" => {
                    assert!(event["index"] == open.unwrap());
                    let block = content.last_mut().unwrap();
                    for (name, value) in event["delta"].as_object().unwrap() {
                        let value = value.as_str().unwrap();
                        match name.as_str() {
                            "type" => {}
                            "partial_json" => partial.push_str(value),
                            name => block[name] = format!("{}{value}", block[name].as_str().unwrap()).into(),
                        }
                    }
                }
                "content_block_stop" => {
                    assert!(event["index"] == open.take().unwrap());
                    let block = content.last_mut().unwrap();
                    if block["type"] == "tool_use" {
                        block["input"] = serde_json::from_str(&partial).unwrap();
                    }
                }
                "message_delta" => {
                    message["stop_reason"] = event["delta"]["stop_reason"].clone();
                    message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
                    message["usage"] = event["usage"].clone();
                    let notices = event["warnings"].as_array().unwrap().clone();
                    message["warnings"].as_array_mut().unwrap().extend(notices);
                }
                other => panic!("{other}"),
            }
        }
        message
    }

    #[test]
    fn blocks_come_one_after_the_other_and_make_up_the_whole_answer() {
        let mut stream = stream();
        let mut events = stream.begin();
        events.extend(told().into_iter().flat_map(|told| stream.told(0, told)));
        let outcome = outcome(EndReason::EndOfTurn, vec![ToolCall::default()]);
        events.extend(stream.told(0, Told::Ended(Ok(Box::new(outcome.clone())))));
        events.extend(stream.end());
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!((kinds[0], kinds[1]), ("message_start", "ping"));
        assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
        assert_eq!(events[0]["message"]["usage"]["input_tokens"], 10);

        let mut blocks = Blocks::default();
        told().into_iter().for_each(|told| blocks.add(told));
        let frame = Frame { id: "msg_1".into(), model: "m".into() };
        let whole = whole(&frame, &blocks, &[outcome], vec!["ahead".into()]);
        assert_eq!(put_together(&events), whole);
        assert_eq!(
            whole["content"],
            json!([
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Looking"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"b": 1, "a": [2]}},
                {"type": "tool_use", "id": "2", "name": "f", "input": {}},
                {"type": "text", "text": "Done"},
            ])
        );
        assert_eq!(whole["stop_reason"], "tool_use");
        assert_eq!(
            whole["usage"],
            json!({
                "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
                "output_tokens": 7,
            })
        );
        assert_eq!(whole["warnings"], json!(["ahead", "look"]));
        // a thought is signed before its block ends
        assert_eq!(events[5]["delta"], json!({"type": "signature_delta", "signature": ""}));
        assert_eq!(events[6]["type"], "content_block_stop");
    }

    #[test]
    fn an_answer_that_says_nothing_has_no_blocks() {
        let mut stream = stream();
        stream.begin();
        let ended = stream.told(0, Told::Ended(Ok(Box::new(outcome(EndReason::Length, Vec::new())))));
        assert_eq!(ended, Vec::<Value>::new());
        let events = stream.end();
        assert_eq!(events[0]["delta"], json!({"stop_reason": "max_tokens", "stop_sequence": null}));
        assert_eq!(events[1], json!({"type": "message_stop"}));
    }

    #[test]
    fn ends_are_named() {
        let end = |reason| end(&outcome(reason, Vec::new()));
        assert_eq!(
            end(EndReason::StopText("x".into())),
            json!({"stop_reason": "stop_sequence", "stop_sequence": "x"})
        );
        assert_eq!(end(EndReason::EndOfTurn)["stop_reason"], "end_turn");
        assert_eq!(end(EndReason::ContextFull)["stop_reason"], "model_context_window_exceeded");
    }

    #[test]
    fn arguments_that_are_no_object_are_in_one() {
        let input = |arguments: Value| input(&ToolCall { arguments, ..ToolCall::default() });
        assert_eq!(input(json!("print(1)")), json!({"input": "print(1)"}));
        assert_eq!(input(json!("[1]")), json!({"input": [1]}));
        assert_eq!(input(json!({"a": 1})), json!({"a": 1}));
        assert_eq!(input(Value::Null), json!({}));
    }

    #[test]
    fn a_failure_is_an_event_named_error() {
        let event = stream().failed(EngineError::Gone);
        assert_eq!((&event["type"], &event["error"]["type"]), (&"error".into(), &"overloaded_error".into()));
    }
}
