//! `POST /v1/chat/completions`

use super::{
    Outcomes, chat_logprob, choices, constraint, fingerprint, finish_reason, messages, notices, one_of,
    priority, sampling, stop, streaming, usage,
};
use crate::app::{App, answer};
use crate::ask::{self, Ask, Told};
use crate::fields::Fields;
use crate::guard::Client;
use crate::models::{Lease, now};
use crate::openai;
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::stream::{self, Chunks, Framing};
use crate::truncate::Truncate;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use ingle_engine::{EngineError, Outcome};
use ingle_text::ToolCall;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Most likely tokens that can be asked for.
pub(crate) const MOST_LOGPROBS: usize = 20;
/// What clients send that has no meaning on one's own machine.
pub(crate) const WITHOUT_EFFECT: [&str; 7] =
    ["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "verbosity"];

/// A request, read.
struct Chat {
    model: Option<String>,
    ask: Ask,
    stream: bool,
    /// Whether a stream counts at its end.
    counts: bool,
    /// What is to reach the template, by the field that says so.
    variables: messages::Variables,
    warnings: Vec<String>,
}

fn read(mut fields: Fields, client: String) -> Result<Chat, Problem> {
    let model = fields.optional("model")?;
    let (stream, counts) = streaming(&mut fields)?;
    let conversation = messages::conversation(&mut fields)?;
    let form = constraint::form(&mut fields)?;
    let calls = constraint::calls(&mut fields, conversation.tools())?;
    let limit = fields.number("max_completion_tokens", 0, usize::MAX)?;
    let max_tokens =
        one_of("max_completion_tokens", limit, "max_tokens", fields.number("max_tokens", 0, usize::MAX)?)?;
    let wants_logprobs = fields.optional("logprobs")?.unwrap_or(false);
    let top = fields.number("top_logprobs", 0, MOST_LOGPROBS)?;
    if top.is_some() && !wants_logprobs {
        return Err(Problem::field("top_logprobs", "`top_logprobs` needs `logprobs` to be true"));
    }
    let ask = Ask {
        sampling: sampling(&mut fields)?,
        max_tokens,
        stop: stop(&mut fields, "stop")?,
        logprobs: wants_logprobs.then_some(top.unwrap_or(0)),
        prompt_logprobs: None,
        form,
        calls,
        truncate: Truncate::of(&mut fields)?,
        choices: choices(&mut fields)?,
        client,
        priority: priority(&mut fields)?,
        input: conversation.input(),
    };
    fields.without_effect(&WITHOUT_EFFECT);
    Ok(Chat { model, ask, stream, counts, variables: conversation.variables, warnings: fields.finish()? })
}

pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(Client { name: client, .. }): Extension<Client>,
    body: Body,
) -> Response {
    match respond(&app, client, body).await {
        Ok(response) => response,
        Err(problem) => openai::error(problem),
    }
}

async fn respond(app: &Arc<App>, client: String, body: Body) -> Result<Response, Problem> {
    let Chat { model, ask, stream, counts, variables, mut warnings } =
        read(super::fields(app, body).await?, client)?;
    let lease = app.models.lease(model.as_deref()).await?;
    let frame = Frame { id: app.id("chatcmpl-"), created: now(), model: lease.id.clone() };
    warnings.extend(variables.unread(lease.engine.language()));
    let (choices, logprobs) = (ask.choices, ask.logprobs.is_some());
    let field = ask.field_of_form("response_format");
    let answers = ask::submit(&lease, &app.metrics, ask).await;
    let mut answers = answers.map_err(|problem| problem.of_form_in(field))?;
    warnings.append(&mut answers.warnings);
    let prompt = answers.prompt_tokens();
    if stream {
        let chunks = Stream {
            lease,
            frame,
            counts,
            warnings,
            prompt,
            logprobs,
            begun: vec![false; choices],
            chosen: vec![Chosen::default(); choices],
            calls: vec![0; choices],
            outcomes: Outcomes::default(),
        };
        return Ok(stream::response(answers, chunks, choices, Framing::Data));
    }
    let language = lease.engine.language();
    let mut chosen = vec![(Chosen::default(), Vec::new()); choices];
    let outcomes = answers.outcomes(choices, |at, told| match (&mut chosen[at], told) {
        ((waiting, _), Told::Chosen(id, of)) => waiting.0.push(chat_logprob(language, id, &of)),
        ((waiting, said), Told::Content(text)) => said.append(&mut waiting.say(&text)),
        ((waiting, _), Told::Reasoning(_) | Told::Call(_)) => waiting.0.clear(),
        (_, Told::Asked(..) | Told::Ended(_)) => {}
    });
    let outcomes = outcomes.await?;
    let all: Vec<Value> = outcomes
        .iter()
        .zip(chosen)
        .enumerate()
        .map(|(index, (outcome, (_, chosen)))| {
            let logprobs = if logprobs { json!({"content": chosen, "refusal": null}) } else { Value::Null };
            json!({
                "index": index, "message": message(outcome), "logprobs": logprobs,
                "finish_reason": finish_reason(outcome),
            })
        })
        .collect();
    warnings.extend(notices(&outcomes));
    let mut document = frame.document("chat.completion");
    document.insert("choices".into(), json!(all));
    document.insert("usage".into(), usage(prompt, &outcomes, choices));
    Ok(answer(&with_warnings(Value::Object(document), warnings)))
}

/// Logprobs of the tokens that were said: those of thoughts, calls and stop texts are not asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen(pub(crate) Vec<Value>);

impl Chosen {
    /// The tokens of what was said just now. Where the tokens that wait spell it and more, the rest waits on: it may be the
    /// beginning of a stop text.
    pub(crate) fn say(&mut self, text: &str) -> Vec<Value> {
        let length = |token: &Value| token["bytes"].as_array().map_or(0, Vec::len);
        let spelled: Vec<u8> =
            self.0.iter().flat_map(|token| token["bytes"].as_array()).flatten().filter_map(byte).collect();
        if !spelled.starts_with(text.as_bytes()) {
            return std::mem::take(&mut self.0);
        }
        let mut bytes = 0;
        let begins_within = |token: &&Value| {
            let within = bytes < text.len();
            bytes += length(token);
            within
        };
        let count = self.0.iter().take_while(begins_within).count();
        self.0.drain(..count).collect()
    }
}

fn byte(value: &Value) -> Option<u8> {
    u8::try_from(value.as_u64()?).ok()
}

/// What all chunks of an answer have in common.
struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    fn document(&self, object: &str) -> Map<String, Value> {
        let Frame { id, created, model } = self;
        let pairs = [
            ("id", json!(id)),
            ("object", json!(object)),
            ("created", json!(created)),
            ("model", json!(model)),
            ("system_fingerprint", json!(fingerprint())),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn message(outcome: &Outcome) -> Value {
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let silent = outcome.text.is_empty() && !outcome.calls.is_empty();
    message.insert("content".into(), if silent { Value::Null } else { outcome.text.clone().into() });
    if !outcome.reasoning.is_empty() {
        message.insert("reasoning_content".into(), outcome.reasoning.clone().into());
    }
    if !outcome.calls.is_empty() {
        message.insert("tool_calls".into(), outcome.calls.iter().map(call).collect());
    }
    Value::Object(message)
}

fn call(call: &ToolCall) -> Value {
    let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

/// Chunks of a stream.
struct Stream {
    lease: Lease,
    frame: Frame,
    counts: bool,
    warnings: Vec<String>,
    prompt: usize,
    logprobs: bool,
    begun: Vec<bool>,
    /// Logprobs that wait for what they say.
    chosen: Vec<Chosen>,
    calls: Vec<usize>,
    outcomes: Outcomes,
}

impl Stream {
    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = self.frame.document("chat.completion.chunk");
        chunk.insert("choices".into(), choices);
        if self.counts {
            chunk.insert("usage".into(), Value::Null);
        }
        Value::Object(chunk)
    }

    /// A part of a choice, after its role if it is the first.
    fn delta(&mut self, at: usize, delta: Value, logprobs: Option<Vec<Value>>) -> Vec<Value> {
        let mut chunks = Vec::new();
        if !std::mem::replace(&mut self.begun[at], true) {
            let role = json!({"role": "assistant", "content": null});
            chunks.push(
                self.chunk(json!([{"index": at, "delta": role, "logprobs": null, "finish_reason": null}])),
            );
        }
        let logprobs = logprobs.filter(|_| self.logprobs).map(|of| json!({"content": of, "refusal": null}));
        chunks.push(
            self.chunk(json!([{"index": at, "delta": delta, "logprobs": logprobs, "finish_reason": null}])),
        );
        chunks
    }
}

impl Chunks for Stream {
    fn begin(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn told(&mut self, at: usize, told: Told) -> Vec<Value> {
        match told {
            Told::Chosen(id, logprobs) => {
                self.chosen[at].0.push(chat_logprob(self.lease.engine.language(), id, &logprobs));
                Vec::new()
            }
            Told::Content(text) => {
                let logprobs = self.chosen[at].say(&text);
                self.delta(at, json!({"content": text}), Some(logprobs))
            }
            Told::Reasoning(text) => {
                self.chosen[at].0.clear();
                self.delta(at, json!({"reasoning_content": text}), None)
            }
            Told::Call(made) => {
                self.chosen[at].0.clear();
                let mut made = call(&made);
                made["index"] = self.calls[at].into();
                self.calls[at] += 1;
                self.delta(at, json!({"tool_calls": [made]}), None)
            }
            Told::Ended(Ok(outcome)) => {
                let last = json!([{
                    "index": at, "delta": {}, "logprobs": null, "finish_reason": finish_reason(&outcome),
                }]);
                // an answer that says nothing has a role all the same
                let mut chunks =
                    if self.begun[at] { Vec::new() } else { self.delta(at, json!({"content": ""}), None) };
                chunks.push(self.chunk(last));
                self.outcomes.add(at, *outcome);
                chunks
            }
            Told::Asked(..) | Told::Ended(Err(_)) => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Value> {
        let outcomes = self.outcomes.in_order();
        self.warnings.extend(notices(&outcomes));
        let mut chunks = Vec::new();
        if self.counts || !self.warnings.is_empty() {
            let mut chunk = self.chunk(json!([]));
            if self.counts {
                chunk["usage"] = usage(self.prompt, &outcomes, outcomes.len().max(1));
            }
            chunks.push(with_warnings(chunk, std::mem::take(&mut self.warnings)));
        }
        chunks
    }

    fn failed(&mut self, error: EngineError) -> Value {
        let problem = Problem::from(error);
        json!({"error": {"message": problem.message, "type": problem.kind, "code": problem.status.as_u16()}})
    }
}
