//! `POST /v1/completions`: text goes on.

use super::{
    Outcomes, choices, constraint, fields, fingerprint, finish_reason, finite, notices, priority, sampling,
    stop, streaming, token_text, usage,
};
use crate::app::{App, answer};
use crate::ask::{self, Ask, Input, Told};
use crate::fields::Fields;
use crate::guard::Client;
use crate::models::{Lease, Served, now};
use crate::openai;
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::stream::{self, Chunks, Framing};
use crate::truncate::Truncate;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use ingle_engine::constraint::Calls;
use ingle_engine::sampling::Logprobs;
use ingle_engine::{EndReason, EngineError, Outcome};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Most likely tokens that can be asked for.
const MOST_LOGPROBS: usize = 20;
/// Most prompts of a request.
const MOST_PROMPTS: usize = 256;
/// Most answers to all of them.
const MOST_ANSWERS: usize = 512;
/// Tokens to make where nobody says how many, as the API has it.
const USUAL_TOKENS: usize = 16;

struct Completions {
    model: Option<String>,
    ask: Ask,
    /// The prompts after the first.
    further: Vec<Input>,
    echo: bool,
    stream: bool,
    counts: bool,
    warnings: Vec<String>,
}

fn read(mut fields: Fields, client: String) -> Result<Completions, Problem> {
    let model = fields.optional("model")?;
    let (stream, counts) = streaming(&mut fields)?;
    let mut prompts = prompts(fields.required("prompt")?)?;
    let first = prompts.remove(0);
    let echo = fields.optional("echo")?.unwrap_or(false);
    let logprobs = fields.number("logprobs", 0, MOST_LOGPROBS)?;
    if echo && logprobs.is_some() {
        return Err(Problem::field(
            "logprobs",
            "`logprobs` of an echoed prompt are not computed here; leave out one",
        ));
    }
    if fields.number("best_of", 1, usize::MAX)?.is_some_and(|best| best > 1) {
        return Err(Problem::field(
            "best_of",
            "`best_of` can only be 1 here; ask for several answers with `n`",
        ));
    }
    if fields.has("suffix") {
        return Err(Problem::field(
            "suffix",
            "`suffix` is not taken here: text is only continued at its end",
        ));
    }
    let ask = Ask {
        sampling: sampling(&mut fields)?,
        max_tokens: Some(fields.number("max_tokens", 0, usize::MAX)?.unwrap_or(USUAL_TOKENS)),
        stop: stop(&mut fields, "stop")?,
        logprobs,
        form: constraint::form(&mut fields)?,
        calls: Calls::default(),
        truncate: Truncate::of(&mut fields)?,
        choices: choices(&mut fields)?,
        client,
        priority: priority(&mut fields)?,
        input: first,
    };
    fields.without_effect(&["user"]);
    Ok(Completions { model, ask, further: prompts, echo, stream, counts, warnings: fields.finish()? })
}

/// A text, a list of texts, tokens, or lists of tokens.
fn prompts(value: Value) -> Result<Vec<Input>, Problem> {
    let bad = || {
        Problem::field(
            "prompt",
            "`prompt` is a text, a list of texts, or tokens: what is in it is something else",
        )
    };
    let tokens = |list: &[Value]| -> Result<Input, Problem> {
        let ids: Option<Vec<u32>> = list.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        ids.map(Input::Tokens).ok_or_else(bad)
    };
    let prompts = match value {
        Value::String(text) => vec![Input::Text(text)],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => vec![tokens(&list)?],
        Value::Array(list) => list
            .into_iter()
            .map(|one| match one {
                Value::String(text) => Ok(Input::Text(text)),
                Value::Array(ids) => tokens(&ids),
                _ => Err(bad()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(bad()),
    };
    match prompts.len() {
        1..=MOST_PROMPTS => Ok(prompts),
        0 => Err(Problem::field("prompt", "`prompt` is empty: there is nothing to continue")),
        count => Err(Problem::field(
            "prompt",
            format!("`prompt` has {count} prompts, and {MOST_PROMPTS} at a time are taken"),
        )),
    }
}

pub(crate) async fn completions(
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
    let Completions { model, ask, further, echo, stream, counts, mut warnings } =
        read(fields(app, body).await?, client)?;
    let lease = app.models.lease(model.as_deref()).await?;
    let frame = Frame { id: app.id("cmpl-"), created: now(), model: lease.id.clone() };
    let (choices, logprobs) = (ask.choices, ask.logprobs.is_some());
    if choices * (further.len() + 1) > MOST_ANSWERS {
        let message =
            format!("`n` answers to each prompt are more than {MOST_ANSWERS}; send several requests");
        return Err(Problem::field("n", message));
    }
    let mut answers = ask::submit_all(&lease, &app.metrics, ask, further).await?;
    warnings.append(&mut answers.warnings);
    let prompt = answers.prompt_tokens();
    let echoed: Vec<String> = answers
        .prompts
        .iter()
        .map(|prompt| if echo { said(&lease, prompt) } else { Ok(String::new()) })
        .collect::<Result<_, _>>()?;
    // an echo per answer
    let echoed: Vec<String> =
        echoed.into_iter().flat_map(|echoed| std::iter::repeat_n(echoed, choices)).collect();
    let all = echoed.len();
    if stream {
        let chunks = Stream {
            lease,
            frame,
            counts,
            warnings,
            prompt,
            choices,
            echoed,
            logprobs: logprobs.then(|| vec![Tokens::default(); all]),
            outcomes: Outcomes::default(),
        };
        return Ok(stream::response(answers, chunks, all, Framing::Data));
    }
    let mut tokens = vec![(Tokens::default(), Columns::default()); all];
    let outcomes = answers
        .outcomes(all, |at, told| match (&mut tokens[at], told) {
            ((tokens, _), Told::Chosen(id, of)) => tokens.add(&lease, id, &of),
            ((tokens, columns), Told::Content(text)) => columns.append(tokens.say(&text)),
            _ => {}
        })
        .await?;
    let texts = outcomes.iter().zip(echoed).zip(&mut tokens).enumerate();
    let texts: Vec<Value> = texts
        .map(|(index, ((outcome, echoed), (tokens, columns)))| {
            columns.append(tokens.end(outcome));
            json!({
                "text": format!("{echoed}{}", outcome.text),
                "index": index,
                "logprobs": if logprobs { columns.document() } else { Value::Null },
                "finish_reason": finish_reason(outcome),
            })
        })
        .collect();
    warnings.extend(notices(&outcomes));
    let mut document = frame.document();
    document.insert("choices".into(), json!(texts));
    document.insert("usage".into(), usage(prompt, &outcomes, choices));
    Ok(answer(&with_warnings(Value::Object(document), warnings)))
}

fn said(served: &Served, tokens: &[u32]) -> Result<String, Problem> {
    Ok(served.engine.language().tokenizer().decode(tokens).map_err(EngineError::from)?)
}

struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    fn document(&self) -> Map<String, Value> {
        let Frame { id, created, model } = self;
        let pairs = [
            ("id", json!(id)),
            ("object", json!("text_completion")),
            ("created", json!(created)),
            ("model", json!(model)),
            ("system_fingerprint", json!(fingerprint())),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Logprobs in this API's columns.
#[derive(Clone, Debug, Default)]
struct Columns {
    tokens: Vec<String>,
    logprobs: Vec<f32>,
    top: Vec<Map<String, Value>>,
    offsets: Vec<usize>,
}

impl Columns {
    fn document(&self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.logprobs, "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }

    fn append(&mut self, mut other: Columns) {
        self.tokens.append(&mut other.tokens);
        self.logprobs.append(&mut other.logprobs);
        self.top.append(&mut other.top);
        self.offsets.append(&mut other.offsets);
    }

    /// The first `count`, which leave.
    fn take(&mut self, count: usize) -> Columns {
        Columns {
            tokens: self.tokens.drain(..count).collect(),
            logprobs: self.logprobs.drain(..count).collect(),
            top: self.top.drain(..count).collect(),
            offsets: self.offsets.drain(..count).collect(),
        }
    }
}

/// Tokens until what they say is certain: those of a stop text are chosen, and no part of the answer.
#[derive(Clone, Debug, Default)]
struct Tokens {
    waiting: Columns,
    /// The byte at which each of them begins.
    begins: Vec<usize>,
    bytes: usize,
    characters: usize,
    /// Bytes of the answer so far.
    said: usize,
}

impl Tokens {
    fn add(&mut self, served: &Served, id: u32, of: &Logprobs) {
        let language = served.engine.language();
        let text = token_text(language, id);
        let top = of.top.iter().map(|&(id, logprob)| (token_text(language, id), json!(finite(logprob))));
        self.begins.push(self.bytes);
        self.bytes += language.tokenizer().token_bytes(id).unwrap_or_default().len();
        self.waiting.offsets.push(self.characters);
        self.characters += text.chars().count();
        self.waiting.tokens.push(text);
        self.waiting.logprobs.push(finite(of.chosen));
        self.waiting.top.push(top.collect());
    }

    /// The tokens of what was said just now.
    fn say(&mut self, text: &str) -> Columns {
        self.said += text.len();
        let count = self.begins.partition_point(|&begin| begin < self.said);
        self.begins.drain(..count);
        self.waiting.take(count)
    }

    /// The tokens that are left when an answer is over.
    fn end(&mut self, outcome: &Outcome) -> Columns {
        let all = std::mem::take(&mut self.waiting);
        if matches!(outcome.reason, EndReason::StopText(_)) { Columns::default() } else { all }
    }
}

struct Stream {
    lease: Lease,
    frame: Frame,
    counts: bool,
    warnings: Vec<String>,
    prompt: usize,
    /// Answers to each prompt.
    choices: usize,
    /// What comes before an answer's text.
    echoed: Vec<String>,
    logprobs: Option<Vec<Tokens>>,
    outcomes: Outcomes,
}

impl Stream {
    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = self.frame.document();
        chunk.insert("choices".into(), choices);
        if self.counts {
            chunk.insert("usage".into(), Value::Null);
        }
        Value::Object(chunk)
    }
}

impl Chunks for Stream {
    fn begin(&mut self) -> Vec<Value> {
        let echoed = std::mem::take(&mut self.echoed);
        let some = echoed.iter().enumerate().filter(|(_, text)| !text.is_empty());
        some.map(|(at, text)| {
            self.chunk(json!([{"text": text, "index": at, "logprobs": null, "finish_reason": null}]))
        })
        .collect()
    }

    fn told(&mut self, at: usize, told: Told) -> Vec<Value> {
        match told {
            Told::Chosen(id, of) => {
                if let Some(tokens) = &mut self.logprobs {
                    tokens[at].add(&self.lease, id, &of);
                }
                Vec::new()
            }
            Told::Content(text) => {
                let logprobs = self.logprobs.as_mut().map(|tokens| tokens[at].say(&text).document());
                vec![
                    self.chunk(
                        json!([{"text": text, "index": at, "logprobs": logprobs, "finish_reason": null}]),
                    ),
                ]
            }
            Told::Ended(Ok(outcome)) => {
                let reason = finish_reason(&outcome);
                let rest = self.logprobs.as_mut().map(|tokens| tokens[at].end(&outcome));
                let rest = rest.filter(|rest| !rest.tokens.is_empty()).map(|rest| rest.document());
                self.outcomes.add(at, *outcome);
                vec![
                    self.chunk(json!([{"text": "", "index": at, "logprobs": rest, "finish_reason": reason}])),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Value> {
        let outcomes = self.outcomes.in_order();
        self.warnings.extend(notices(&outcomes));
        if !self.counts && self.warnings.is_empty() {
            return Vec::new();
        }
        let mut chunk = self.chunk(json!([]));
        if self.counts {
            chunk["usage"] = usage(self.prompt, &outcomes, self.choices);
        }
        vec![with_warnings(chunk, std::mem::take(&mut self.warnings))]
    }

    fn failed(&mut self, error: EngineError) -> Value {
        let problem = Problem::from(error);
        json!({"error": {"message": problem.message, "type": problem.kind, "code": problem.status.as_u16()}})
    }
}
