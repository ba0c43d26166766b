//! `POST /v1/responses`, `GET` and `DELETE /v1/responses/{id}`

mod items;
mod output;
pub(crate) mod store;

use super::{constraint, fields, messages, notices, one_of, priority, sampling};
use crate::app::{App, answer};
use crate::ask::{self, Ask, Told};
use crate::fields::Fields;
use crate::guard::Client;
use crate::models::now;
use crate::openai;
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::stream::{self, Chunks, Framing};
use crate::truncate::Truncate;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ingle_engine::constraint::Form;
use ingle_engine::{EndReason, EngineError, Outcome};
use output::Output;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::Stored;

/// What clients send that has no meaning on one's own machine.
pub(crate) const WITHOUT_EFFECT: [&str; 7] = [
    "include",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "stream_options",
    "top_logprobs",
];
/// What would need a service somewhere else.
const REFUSED: [&str; 3] = ["conversation", "prompt", "max_tool_calls"];

/// A request, read.
struct Asked {
    model: Option<String>,
    ask: Ask,
    stream: bool,
    /// Whether later requests may refer to the answer.
    store: bool,
    /// The conversation without instructions, in the layout of chats.
    messages: Vec<Value>,
    variables: messages::Variables,
    /// What the answer repeats of the request.
    repeated: Map<String, Value>,
    warnings: Vec<String>,
}

fn read(app: &App, mut body: Fields, client: String) -> Result<Asked, Problem> {
    if let Some(name) = REFUSED.into_iter().find(|name| body.has(name)) {
        return Err(Problem::field(name, format!("`{name}` is not taken here; leave it out")));
    }
    if body.optional("background")? == Some(true) {
        return Err(Problem::field(
            "background",
            "`background` is not taken here: wait for the answer, or stream it",
        ));
    }
    let mut repeated = Map::new();
    for name in [
        "instructions",
        "max_output_tokens",
        "metadata",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
        "user",
    ] {
        repeated.insert(name.into(), body.peek(name).cloned().unwrap_or(Value::Null));
    }
    for (name, usual) in [
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("truncation", json!("disabled")),
        ("reasoning", json!({"effort": null, "summary": null})),
    ] {
        if repeated[name].is_null() {
            repeated[name] = usual;
        }
    }
    let truncation: Option<String> = body.optional("truncation")?;
    let truncate = match truncation.as_deref() {
        None | Some("disabled") => None,
        Some("auto") => Some(Truncate::Oldest),
        Some(_) => return Err(Problem::field("truncation", "`truncation` is `auto` or `disabled`")),
    };
    let (model, stream) = (body.optional("model")?, body.optional("stream")?.unwrap_or(false));
    let store = body.optional("store")?.unwrap_or(true);
    let mut conversation: Vec<Value> = Vec::new();
    if let Some(id) = body.optional::<String>("previous_response_id")? {
        let before = app.responses.find(&id, &owner(app, &client)).ok_or_else(|| gone(&id))?;
        conversation = before.messages;
    }
    conversation.extend(items::messages(body.required("input")?, &mut body.warnings)?);
    let (read, calls) = chat(&mut body, &conversation)?;
    let form = format(&mut body)?;
    let max_tokens = one_of(
        "max_output_tokens",
        body.number("max_output_tokens", 1, usize::MAX)?,
        "max_tokens",
        body.number("max_tokens", 1, usize::MAX)?,
    )?;
    let ask = Ask {
        sampling: sampling(&mut body)?,
        max_tokens,
        stop: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        form,
        calls,
        truncate,
        choices: 1,
        client,
        priority: priority(&mut body)?,
        input: read.input(),
    };
    // the answer repeats them, and that is all they are for
    for name in ["metadata", "user"] {
        body.optional::<Value>(name)?;
    }
    body.without_effect(&WITHOUT_EFFECT);
    let warnings = body.finish()?;
    Ok(Asked {
        model,
        ask,
        stream,
        store,
        messages: conversation,
        variables: read.variables,
        repeated,
        warnings,
    })
}

/// Reads the conversation, the tools and the effort as a chat has them.
fn chat(
    body: &mut Fields,
    conversation: &[Value],
) -> Result<(messages::Conversation, ingle_engine::constraint::Calls), Problem> {
    let mut chat = Map::new();
    let mut all: Vec<Value> = Vec::new();
    if let Some(instructions) = body.optional::<String>("instructions")? {
        all.push(json!({"role": "system", "content": instructions}));
    }
    all.extend_from_slice(conversation);
    chat.insert("messages".into(), all.into());
    // an answer is a new message, whoever spoke last
    chat.insert("continue_final_message".into(), false.into());
    let tools: Vec<Value> = body.optional("tools")?.unwrap_or_default();
    let tools: Vec<Value> = tools.into_iter().map(tool).collect::<Result<_, _>>()?;
    chat.insert("tools".into(), tools.into());
    for name in ["tool_choice", "parallel_tool_calls", "chat_template_kwargs"] {
        if let Some(value) = body.optional::<Value>(name)? {
            chat.insert(name.into(), value);
        }
    }
    if let Some(reasoning) = body.optional::<Value>("reasoning")? {
        let mut reasoning = Fields::of(reasoning, "`reasoning`")?;
        if let Some(effort) = reasoning.optional::<Value>("effort")? {
            chat.insert("reasoning_effort".into(), effort);
        }
        // thoughts are given whole
        reasoning.optional::<Value>("summary")?;
        reasoning.optional::<Value>("generate_summary")?;
        reasoning.finish().map_err(|problem| Problem::field("reasoning", problem.message))?;
    }
    let named = |problem: Problem| match problem.field.as_deref() {
        Some("messages") => Problem { field: Some("input".into()), ..problem },
        _ => problem,
    };
    let mut chat = Fields::of(Value::Object(chat), "the request")?;
    let read = messages::conversation(&mut chat).map_err(named)?;
    let calls = constraint::calls(&mut chat, read.tools())?;
    body.warnings.append(&mut chat.finish()?);
    Ok((read, calls))
}

/// A tool, which chats have one level deeper.
fn tool(tool: Value) -> Result<Value, Problem> {
    let mut fields =
        Fields::of(tool, "a tool").map_err(|problem| Problem::field("tools", problem.message))?;
    let kind: String = fields.required("type")?;
    if kind != "function" {
        let kind: String = kind.chars().take(80).collect();
        let message =
            format!("tools of type `{kind}` are not there: nothing leaves this machine; offer functions");
        return Err(Problem::field("tools", message));
    }
    fields.optional::<bool>("strict")?;
    let mut function = Map::new();
    function.insert("name".into(), fields.required::<String>("name")?.into());
    for name in ["description", "parameters"] {
        if let Some(value) = fields.optional::<Value>(name)? {
            function.insert(name.into(), value);
        }
    }
    fields.finish().map_err(|problem| Problem::field("tools", problem.message))?;
    Ok(json!({"type": "function", "function": function}))
}

/// Takes `text`: the form of what is said.
fn format(body: &mut Fields) -> Result<Option<Form>, Problem> {
    let Some(text) = body.optional::<Value>("text")? else { return Ok(None) };
    let blamed = |problem: Problem| Problem::field("text", problem.message);
    let mut text = Fields::of(text, "`text`").map_err(blamed)?;
    let form = match text.optional::<Value>("format")? {
        None => None,
        Some(format) => constraint::read_format(format).map_err(blamed)?,
    };
    text.without_effect(&["verbosity"]);
    body.warnings.append(&mut text.finish().map_err(blamed)?);
    Ok(form)
}

/// Whose answers these are: without keys everybody is the same person.
fn owner(app: &App, client: &str) -> String {
    if app.keys.is_some() { client.to_owned() } else { String::new() }
}

fn gone(id: &str) -> Problem {
    let id: String = id.chars().take(80).collect();
    let message = format!(
        "there is no answer `{id}` here: it was not stored, was forgotten to make room, or belongs to another key; send the \
         whole conversation"
    );
    Problem { field: Some("previous_response_id".into()), ..Problem::not_found(message) }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Client { name: client, .. }): Extension<Client>,
    body: Body,
) -> Response {
    match respond(&app, client, body).await {
        Ok(response) => response,
        Err(problem) => openai::error(problem),
    }
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(Client { name: client, .. }): Extension<Client>,
    Path(id): Path<String>,
) -> Response {
    match app.responses.find(&id, &owner(&app, &client)) {
        Some(stored) => ([(header::CONTENT_TYPE, "application/json")], stored.document).into_response(),
        None => openai::error(gone(&id)),
    }
}

pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    Extension(Client { name: client, .. }): Extension<Client>,
    Path(id): Path<String>,
) -> Response {
    match app.responses.forget(&id, &owner(&app, &client)) {
        true => answer(&json!({"id": id, "object": "response", "deleted": true})),
        false => openai::error(gone(&id)),
    }
}

async fn respond(app: &Arc<App>, client: String, body: Body) -> Result<Response, Problem> {
    let owner = owner(app, &client);
    let Asked { model, ask, stream, store, messages, variables, repeated, mut warnings } =
        read(app, fields(app, body).await?, client)?;
    let lease = app.models.lease(model.as_deref()).await?;
    warnings.extend(variables.unread(lease.engine.language()));
    let id = app.id("");
    let frame = Frame { id: format!("resp_{id}"), created: now(), model: lease.id.clone(), store, repeated };
    let field = ask.field_of_form("text.format");
    let answers = ask::submit(&lease, &app.metrics, ask).await;
    let mut answers = answers.map_err(|problem| problem.of_form_in(field))?;
    warnings.append(&mut answers.warnings);
    let mut making = Making { app: app.clone(), owner, messages, frame, warnings, output: Output::new(&id) };
    if stream {
        return Ok(stream::response(answers, making, 1, Framing::Named));
    }
    let outcomes = answers
        .outcomes(1, |_, told| {
            making.output.told(told);
        })
        .await?;
    let outcome = outcomes.into_iter().next().ok_or(EngineError::Gone)?;
    making.output.end(status(&outcome));
    Ok(answer(&making.finished(&outcome)))
}

fn status(outcome: &Outcome) -> &'static str {
    match outcome.reason {
        EndReason::Length | EndReason::ContextFull => "incomplete",
        _ => "completed",
    }
}

/// What an answer's document says beside its output.
struct Frame {
    id: String,
    created: u64,
    model: String,
    store: bool,
    repeated: Map<String, Value>,
}

impl Frame {
    fn document(&self, status: &str, output: &[Value]) -> Value {
        let mut document = Map::new();
        let incomplete =
            if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null };
        for (name, value) in [
            ("id", json!(self.id)),
            ("object", json!("response")),
            ("created_at", json!(self.created)),
            ("status", json!(status)),
            ("background", json!(false)),
            ("error", Value::Null),
            ("incomplete_details", incomplete),
            ("model", json!(self.model)),
            ("output", json!(output)),
            ("store", json!(self.store)),
            ("usage", Value::Null),
        ] {
            document.insert(name.into(), value);
        }
        document.extend(self.repeated.clone());
        Value::Object(document)
    }
}

/// An answer in the making.
struct Making {
    app: Arc<App>,
    owner: String,
    messages: Vec<Value>,
    frame: Frame,
    warnings: Vec<String>,
    output: Output,
}

impl Making {
    /// The document of the answer, which is kept if it shall be.
    fn finished(&mut self, outcome: &Outcome) -> Value {
        let mut document = self.frame.document(status(outcome), &self.output.items);
        let made = outcome.usage;
        document["usage"] = json!({
            "input_tokens": made.prompt_tokens,
            "input_tokens_details": {"cached_tokens": made.cached_tokens},
            "output_tokens": made.decoded_tokens,
            "output_tokens_details": {"reasoning_tokens": made.reasoning_tokens},
            "total_tokens": made.prompt_tokens + made.decoded_tokens,
        });
        self.warnings.extend(notices(std::slice::from_ref(outcome)));
        let document = with_warnings(document, std::mem::take(&mut self.warnings));
        if self.frame.store {
            let mut messages = std::mem::take(&mut self.messages);
            messages.extend(items::of_answer(&self.output.items));
            let (id, owner) = (self.frame.id.clone(), self.owner.clone());
            self.app.responses.keep(&Stored { id, owner, messages, document: document.to_string() });
        }
        document
    }
}

impl Chunks for Making {
    fn begin(&mut self) -> Vec<Value> {
        let document = self.frame.document("in_progress", &[]);
        let of = json!({"response": document});
        vec![self.output.event("response.created", of.clone()), self.output.event("response.in_progress", of)]
    }

    fn told(&mut self, _: usize, told: Told) -> Vec<Value> {
        match told {
            Told::Ended(Ok(outcome)) => {
                let mut events = self.output.end(status(&outcome));
                let document = self.finished(&outcome);
                let kind = format!("response.{}", status(&outcome));
                events.push(self.output.event(&kind, json!({"response": document})));
                events
            }
            told => self.output.told(told),
        }
    }

    fn end(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn failed(&mut self, error: EngineError) -> Value {
        let problem = Problem::from(error);
        let mut document = self.frame.document("failed", &self.output.items);
        document["error"] = json!({"code": problem.kind, "message": problem.message});
        self.output.event("response.failed", json!({"response": document}))
    }
}
