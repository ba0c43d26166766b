//! `POST /v1/completions`: text goes on.

use super::stream::{self, Chunks};
use super::{
    choices, fields, fingerprint, finish_reason, finite, notices, sampling, stop, streaming, token_text,
    usage,
};
use crate::app::{App, answer, event_stream};
use crate::ask::{self, Answers, Ask, Input, Told};
use crate::fields::Fields;
use crate::guard::Client;
use crate::models::{Served, now};
use crate::openai;
use crate::plain::with_warnings;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use ingle_engine::sampling::Logprobs;
use ingle_engine::{EngineError, Outcome};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Most likely tokens that can be asked for.
const MOST_LOGPROBS: usize = 20;
/// Most prompts of a request.
const MOST_PROMPTS: usize = 256;
/// Tokens to make where nobody says how many, as the API has it.
const USUAL_TOKENS: usize = 16;

struct Completions {
    model: Option<String>,
    prompts: Vec<Input>,
    ask: Ask,
    echo: bool,
    stream: bool,
    counts: bool,
    warnings: Vec<String>,
}

fn read(mut fields: Fields, client: String) -> Result<Completions, Problem> {
    let model = fields.optional("model")?;
    let (stream, counts) = streaming(&mut fields)?;
    let prompts = prompts(fields.required("prompt")?)?;
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
        stop: stop(&mut fields)?,
        logprobs,
        choices: choices(&mut fields)?,
        client,
        input: Input::Tokens(Vec::new()),
    };
    if stream && prompts.len() > 1 {
        return Err(Problem::field(
            "prompt",
            "a stream takes one prompt; send the others in requests of their own",
        ));
    }
    fields.without_effect(&["user"]);
    Ok(Completions { model, prompts, ask, echo, stream, counts, warnings: fields.finish()? })
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
    Extension(Client(client)): Extension<Client>,
    body: Body,
) -> Response {
    match respond(&app, client, body).await {
        Ok(response) => response,
        Err(problem) => openai::error(problem),
    }
}

async fn respond(app: &Arc<App>, client: String, body: Body) -> Result<Response, Problem> {
    let Completions { model, prompts, ask, echo, stream, counts, mut warnings } =
        read(fields(app, body).await?, client)?;
    let served = app.models.find(model.as_deref())?;
    let frame = Frame { id: app.id("cmpl-"), created: now(), model: served.id.clone() };
    let (choices, logprobs) = (ask.choices, ask.logprobs.is_some());
    let mut under_way = Vec::with_capacity(prompts.len());
    for input in prompts {
        let ask = Ask { input, ..ask.clone() };
        under_way.push(ask::submit(&app.models, model.as_deref(), &app.metrics, ask).await?);
    }
    if stream && let Some(answers) = under_way.pop() {
        let prompt = answers.prompt.clone();
        let echoed = if echo { said(served, &prompt)? } else { String::new() };
        let chunks = Stream {
            app: app.clone(),
            frame,
            counts,
            warnings,
            prompt: prompt.len(),
            echoed: vec![echoed; choices],
            logprobs: logprobs.then(|| vec![Tokens::default(); choices]),
            outcomes: Vec::new(),
        };
        return Ok(event_stream(stream::body(answers, chunks, choices)));
    }
    let (mut all, mut every, mut prompt_tokens): (Vec<Value>, Vec<Outcome>, usize) = Default::default();
    for answers in &mut under_way {
        let (done, made) = one(served, answers, choices, echo, logprobs).await?;
        for mut choice in done {
            choice["index"] = all.len().into();
            all.push(choice);
        }
        prompt_tokens += answers.prompt.len();
        every.extend(made);
    }
    warnings.extend(notices(&every));
    let mut document = frame.document();
    document.insert("choices".into(), json!(all));
    document.insert("usage".into(), usage(prompt_tokens, &every));
    Ok(answer(&with_warnings(Value::Object(document), warnings)))
}

/// The answers to one prompt.
async fn one(
    served: &Served,
    answers: &mut Answers,
    choices: usize,
    echo: bool,
    logprobs: bool,
) -> Result<(Vec<Value>, Vec<Outcome>), Problem> {
    let echoed = if echo { said(served, &answers.prompt)? } else { String::new() };
    let mut tokens = vec![Tokens::default(); choices];
    let outcomes = answers
        .outcomes(choices, |at, told| {
            if let Told::Chosen(id, of) = told {
                tokens[at].add(served, id, &of);
            }
        })
        .await?;
    let all = outcomes.iter().zip(&tokens).map(|(outcome, tokens)| {
        json!({
            "text": format!("{echoed}{}", outcome.text),
            "index": 0,
            "logprobs": if logprobs { tokens.document() } else { Value::Null },
            "finish_reason": finish_reason(outcome),
        })
    });
    Ok((all.collect(), outcomes))
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
struct Tokens {
    tokens: Vec<String>,
    logprobs: Vec<f32>,
    top: Vec<Map<String, Value>>,
    offsets: Vec<usize>,
    length: usize,
}

impl Tokens {
    fn add(&mut self, served: &Served, id: u32, of: &Logprobs) {
        let language = served.engine.language();
        let text = token_text(language, id);
        self.offsets.push(self.length);
        self.length += text.chars().count();
        self.tokens.push(text);
        self.logprobs.push(finite(of.chosen));
        let top = of.top.iter().map(|&(id, logprob)| (token_text(language, id), json!(finite(logprob))));
        self.top.push(top.collect());
    }

    fn document(&self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.logprobs, "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }

    /// What was added since, which then counts as told.
    fn take(&mut self) -> Tokens {
        let length = self.length;
        std::mem::replace(self, Tokens { length, ..Tokens::default() })
    }
}

struct Stream {
    app: Arc<App>,
    frame: Frame,
    counts: bool,
    warnings: Vec<String>,
    prompt: usize,
    /// What comes before an answer's text.
    echoed: Vec<String>,
    logprobs: Option<Vec<Tokens>>,
    outcomes: Vec<Outcome>,
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
                if let (Some(tokens), Ok(served)) =
                    (&mut self.logprobs, self.app.models.find(Some(&self.frame.model)))
                {
                    tokens[at].add(served, id, &of);
                }
                Vec::new()
            }
            Told::Content(text) => {
                let logprobs = self.logprobs.as_mut().map(|tokens| tokens[at].take().document());
                vec![
                    self.chunk(
                        json!([{"text": text, "index": at, "logprobs": logprobs, "finish_reason": null}]),
                    ),
                ]
            }
            Told::Ended(Ok(outcome)) => {
                let reason = finish_reason(&outcome);
                self.outcomes.push(*outcome);
                vec![
                    self.chunk(json!([{"text": "", "index": at, "logprobs": null, "finish_reason": reason}])),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Value> {
        self.warnings.extend(notices(&self.outcomes));
        if !self.counts && self.warnings.is_empty() {
            return Vec::new();
        }
        let mut chunk = self.chunk(json!([]));
        if self.counts {
            chunk["usage"] = usage(self.prompt, &self.outcomes);
        }
        vec![with_warnings(chunk, std::mem::take(&mut self.warnings))]
    }

    fn failed(&mut self, error: EngineError) -> Value {
        let problem = Problem::from(error);
        json!({"error": {"message": problem.message, "type": problem.kind, "code": problem.status.as_u16()}})
    }
}
