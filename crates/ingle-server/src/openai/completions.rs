//! `POST /v1/completions`: text goes on.

use super::columns::{Columns, Echo, Tokens};
use super::{
    Outcomes, choices, constraint, fields, fingerprint, finish_reason, notices, priority, sampling, stop,
    streaming, usage,
};
use crate::app::{App, answer};
use crate::ask::{self, Ask, Input, Told};
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
use ingle_engine::EngineError;
use ingle_engine::constraint::Calls;
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
        prompt_logprobs: logprobs.filter(|_| echo),
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
    let field = ask.field_of_form("response_format");
    let answers = ask::submit_all(&lease, &app.metrics, ask, further).await;
    let mut answers = answers.map_err(|problem| problem.of_form_in(field))?;
    warnings.append(&mut answers.warnings);
    let prompt = answers.prompt_tokens();
    let echoes: Vec<Option<Echo>> = answers
        .prompts
        .iter()
        .map(|prompt| echo.then(|| Echo::new(lease.engine.language(), prompt, logprobs)).transpose())
        .collect::<Result<_, _>>()?;
    // an echo per answer
    let mut echoes: Vec<Option<Echo>> =
        echoes.into_iter().flat_map(|echo| std::iter::repeat_n(echo, choices)).collect();
    let all = echoes.len();
    let mut tokens: Vec<Tokens> =
        echoes.iter().map(|echo| Tokens::after(echo.as_ref().map_or("", |echo| &echo.text))).collect();
    if stream {
        let chunks = Stream {
            lease,
            frame,
            counts,
            warnings,
            prompt,
            choices,
            echoes,
            logprobs: logprobs.then_some(tokens),
            outcomes: Outcomes::default(),
        };
        return Ok(stream::response(answers, chunks, all, Framing::Data));
    }
    let mut columns = vec![Columns::default(); all];
    let outcomes = answers
        .outcomes(all, |at, told| match told {
            Told::Asked(id, of) => echoes[at].iter_mut().for_each(|echo| echo.add(&lease, id, &of)),
            Told::Chosen(id, of) => tokens[at].add(&lease, id, &of),
            Told::Content(text) => columns[at].append(tokens[at].say(&text)),
            _ => {}
        })
        .await?;
    let parts = outcomes.iter().zip(echoes).zip(tokens.iter_mut().zip(columns)).enumerate();
    let texts: Vec<Value> = parts
        .map(|(index, ((outcome, echo), (tokens, mut said)))| {
            said.append(tokens.end(outcome));
            let Echo { mut text, mut columns } = echo.unwrap_or_default();
            text.push_str(&outcome.text);
            columns.append(said);
            json!({
                "text": text,
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

struct Stream {
    lease: Lease,
    frame: Frame,
    counts: bool,
    warnings: Vec<String>,
    prompt: usize,
    /// Answers to each prompt.
    choices: usize,
    /// What comes before an answer's text, until it has come.
    echoes: Vec<Option<Echo>>,
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

    /// An answer's echo, if it has not come yet.
    fn echo(&mut self, at: usize) -> Option<Value> {
        let Echo { text, columns } = self.echoes[at].take().filter(|echo| !echo.text.is_empty())?;
        let logprobs = self.logprobs.as_ref().map(|_| columns.document());
        Some(self.chunk(json!([{"text": text, "index": at, "logprobs": logprobs, "finish_reason": null}])))
    }

    fn of_answer(&mut self, at: usize, told: Told) -> Option<Value> {
        let tokens = self.logprobs.as_mut().map(|tokens| &mut tokens[at]);
        match told {
            Told::Chosen(id, of) => {
                tokens?.add(&self.lease, id, &of);
                None
            }
            Told::Content(text) => {
                let logprobs = tokens.map(|tokens| tokens.say(&text).document());
                let choice =
                    json!([{"text": text, "index": at, "logprobs": logprobs, "finish_reason": null}]);
                Some(self.chunk(choice))
            }
            Told::Ended(Ok(outcome)) => {
                let reason = finish_reason(&outcome);
                let rest = tokens.map(|tokens| tokens.end(&outcome));
                let rest = rest.filter(|rest| !rest.is_empty()).map(|rest| rest.document());
                self.outcomes.add(at, *outcome);
                Some(
                    self.chunk(json!([{"text": "", "index": at, "logprobs": rest, "finish_reason": reason}])),
                )
            }
            _ => None,
        }
    }
}

impl Chunks for Stream {
    fn begin(&mut self) -> Vec<Value> {
        if self.logprobs.is_some() {
            return Vec::new(); // what the echo says of its tokens has yet to be computed
        }
        (0..self.echoes.len()).filter_map(|at| self.echo(at)).collect()
    }

    fn told(&mut self, at: usize, told: Told) -> Vec<Value> {
        if let Told::Asked(id, of) = &told {
            self.echoes[at].iter_mut().for_each(|echo| echo.add(&self.lease, *id, of));
            return Vec::new();
        }
        let mut chunks: Vec<Value> = self.echo(at).into_iter().collect();
        chunks.extend(self.of_answer(at, told));
        chunks
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
