//! What an answer becomes: items, and the events that build them.
//!
//! ```text
//! output_item.added ─► content_part.added ─► output_text.delta … ─► output_text.done ─► content_part.done ─► output_item.done
//! ```

use crate::ask::Told;
use serde_json::{Map, Value, json};

/// What is being said at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
}

impl Kind {
    /// The type of its part, and the name of its events.
    fn part(self) -> &'static str {
        match self {
            Kind::Message => "output_text",
            Kind::Reasoning => "reasoning_text",
        }
    }

    fn document(self, text: &str) -> Value {
        match self {
            Kind::Message => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
            Kind::Reasoning => json!({"type": "reasoning_text", "text": text}),
        }
    }

    fn item(self, id: &str, content: Value, status: &str) -> Value {
        match self {
            Kind::Message => json!({
                "id": id, "type": "message", "status": status, "role": "assistant", "content": content,
            }),
            Kind::Reasoning => {
                json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
            }
        }
    }
}

/// An item that is not over.
#[derive(Debug)]
struct Open {
    kind: Kind,
    id: String,
    text: String,
}

/// The output so far.
#[derive(Debug)]
pub(super) struct Output {
    /// What ids of items end in.
    id: String,
    /// Items that are over.
    pub(super) items: Vec<Value>,
    open: Option<Open>,
    events: u64,
}

impl Output {
    /// Of the answer with this id.
    pub(super) fn new(id: &str) -> Output {
        Output { id: id.to_owned(), items: Vec::new(), open: None, events: 0 }
    }

    /// An event with its number.
    pub(super) fn event(&mut self, kind: &str, more: Value) -> Value {
        let mut event = Map::new();
        event.insert("type".into(), kind.into());
        event.insert("sequence_number".into(), self.events.into());
        self.events += 1;
        if let Value::Object(more) = more {
            event.extend(more);
        }
        Value::Object(event)
    }

    /// The events of something that was said.
    pub(super) fn told(&mut self, told: Told) -> Vec<Value> {
        match told {
            Told::Content(text) => self.say(Kind::Message, &text),
            Told::Reasoning(text) => self.say(Kind::Reasoning, &text),
            Told::Call(call) => {
                let mut events = self.close("completed");
                let (id, at) = (format!("fc_{}_{}", self.id, self.items.len()), self.items.len());
                let arguments =
                    call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
                let item = |arguments: &str, status: &str| {
                    json!({
                        "id": id, "type": "function_call", "status": status, "call_id": call.id, "name": call.name,
                        "arguments": arguments,
                    })
                };
                let begun = json!({"output_index": at, "item": item("", "in_progress")});
                events.push(self.event("response.output_item.added", begun));
                let delta = json!({"item_id": id, "output_index": at, "delta": arguments});
                events.push(self.event("response.function_call_arguments.delta", delta));
                let done =
                    json!({"item_id": id, "output_index": at, "name": call.name, "arguments": arguments});
                events.push(self.event("response.function_call_arguments.done", done));
                let item = item(&arguments, "completed");
                events
                    .push(self.event("response.output_item.done", json!({"output_index": at, "item": item})));
                self.items.push(item);
                events
            }
            Told::Asked(..) | Told::Chosen(..) | Told::Ended(_) => Vec::new(),
        }
    }

    fn say(&mut self, kind: Kind, text: &str) -> Vec<Value> {
        let mut events = Vec::new();
        if self.open.as_ref().is_some_and(|open| open.kind != kind) {
            events.append(&mut self.close("completed"));
        }
        let at = self.items.len();
        if self.open.is_none() {
            let prefix = if kind == Kind::Message { "msg" } else { "rs" };
            let id = format!("{prefix}_{}_{at}", self.id);
            let item = kind.item(&id, json!([]), "in_progress");
            events.push(self.event("response.output_item.added", json!({"output_index": at, "item": item})));
            let part = json!({
                "item_id": id, "output_index": at, "content_index": 0, "part": kind.document(""),
            });
            events.push(self.event("response.content_part.added", part));
            self.open = Some(Open { kind, id, text: String::new() });
        }
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            let mut delta =
                json!({"item_id": open.id, "output_index": at, "content_index": 0, "delta": text});
            if kind == Kind::Message {
                delta["logprobs"] = json!([]);
            }
            events.push(self.event(&format!("response.{}.delta", kind.part()), delta));
        }
        events
    }

    /// Ends the item that is open.
    pub(super) fn close(&mut self, status: &str) -> Vec<Value> {
        let Some(Open { kind, id, text }) = self.open.take() else { return Vec::new() };
        let at = self.items.len();
        let place = |more: (&str, Value)| {
            let mut event = json!({"item_id": id, "output_index": at, "content_index": 0});
            event[more.0] = more.1;
            event
        };
        let mut done = place(("text", text.as_str().into()));
        if kind == Kind::Message {
            done["logprobs"] = json!([]);
        }
        let part = kind.document(&text);
        let item = kind.item(&id, json!([part]), status);
        let events = vec![
            self.event(&format!("response.{}.done", kind.part()), done),
            self.event("response.content_part.done", place(("part", part))),
            self.event("response.output_item.done", json!({"output_index": at, "item": item})),
        ];
        self.items.push(item);
        events
    }

    /// Ends the answer, which has a message even if it says nothing.
    pub(super) fn end(&mut self, status: &str) -> Vec<Value> {
        let mut events = Vec::new();
        if self.open.is_none() && self.items.is_empty() {
            events = self.say(Kind::Message, "");
        }
        events.append(&mut self.close(status));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_text::ToolCall;

    #[test]
    fn every_item_is_opened_filled_and_closed_in_turn() {
        let mut output = Output::new("1");
        let call = ToolCall { id: Some("c".into()), name: "f".into(), arguments: "{\"a\": 1}".into() };
        let mut events = Vec::new();
        for told in [
            Told::Reasoning("Hm".into()),
            Told::Reasoning(".".into()),
            Told::Content("So ".into()),
            Told::Content("be it".into()),
            Told::Call(call),
        ] {
            events.append(&mut output.told(told));
        }
        events.append(&mut output.end("completed"));
        let kinds: Vec<&str> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap())
            .collect();
        let text = |name: &str| {
            let names = ["output_item.added", "content_part.added"].map(str::to_owned).into_iter();
            let middle = ["delta", "delta", "done"].map(|step| format!("{name}.{step}"));
            names.chain(middle).chain(["content_part.done", "output_item.done"].map(str::to_owned))
        };
        let wanted: Vec<String> = text("reasoning_text")
            .chain(text("output_text"))
            .chain(
                [
                    "output_item.added",
                    "function_call_arguments.delta",
                    "function_call_arguments.done",
                    "output_item.done",
                ]
                .map(str::to_owned),
            )
            .collect();
        assert_eq!(kinds, wanted);
        let numbers: Vec<u64> =
            events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
        let done: Vec<&Value> = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| &event["item"])
            .collect();
        assert_eq!(done, output.items.iter().collect::<Vec<_>>());
        assert_eq!(output.items[1]["content"][0]["text"], "So be it");
        assert_eq!(output.items[2]["arguments"], "{\"a\": 1}");
    }

    #[test]
    fn an_answer_that_says_nothing_has_a_message() {
        let mut output = Output::new("1");
        assert_eq!(output.end("completed").last().unwrap()["type"], "response.output_item.done");
        assert_eq!(output.items[0]["content"][0]["text"], "");
    }
}
