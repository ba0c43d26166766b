//! OpenAI's API.

pub(crate) mod chat;
mod columns;
pub(crate) mod completions;
pub(crate) mod constraint;
pub(crate) mod embeddings;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod rerank;
pub(crate) mod responses;

use crate::app::App;
use crate::fields::Fields;
use crate::problem::Problem;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ingle_engine::sampling::{Logprobs, SamplingOverrides, Window};
use ingle_engine::{EndReason, Language, Outcome};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most answers to one request.
const MOST_CHOICES: usize = 128;
/// Most stop texts, and bytes of each.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;
/// Most tokens that a request may bias.
const MOST_BIASES: usize = 4096;

/// An error as the SDKs expect it.
pub(crate) fn error(problem: Problem) -> Response {
    let Problem { status, kind, message, field, more, .. } = problem;
    let mut error = Map::new();
    error.insert("message".into(), message.into());
    error.insert("type".into(), kind.into());
    error.insert("param".into(), json!(field));
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded".into(),
        _ => status.as_u16().into(),
    };
    error.insert("code".into(), code);
    error.extend(more.into_iter().map(|(name, figure)| (name.to_owned(), figure.into())));
    let kind = [(axum::http::header::CONTENT_TYPE, "application/json")];
    (status, kind, json!({"error": error}).to_string()).into_response()
}

/// Says which build answers, as clients that compare answers want to know.
fn fingerprint() -> String {
    format!("ingle-{}", env!("CARGO_PKG_VERSION"))
}

/// How tokens are to be chosen.
pub(crate) fn sampling(fields: &mut Fields) -> Result<SamplingOverrides, Problem> {
    let mut sampling = SamplingOverrides {
        temperature: fields.number("temperature", 0.0, 100.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        top_k: fields.number("top_k", 0, u32::MAX)?,
        min_p: fields.number("min_p", 0.0, 1.0)?,
        typical_p: fields.number("typical_p", 0.0, 1.0)?,
        presence_penalty: fields.number("presence_penalty", -100.0, 100.0)?,
        frequency_penalty: fields.number("frequency_penalty", -100.0, 100.0)?,
        seed: seed(fields)?,
        ..SamplingOverrides::default()
    };
    let repetition = fields.number("repetition_penalty", 0.01, 100.0)?;
    let repeat = fields.number("repeat_penalty", 0.01, 100.0)?;
    sampling.repetition_penalty = one_of("repetition_penalty", repetition, "repeat_penalty", repeat)?;
    further(fields, &mut sampling)?;
    if let Some(biases) = fields.optional::<BTreeMap<String, f32>>("logit_bias")? {
        if biases.len() > MOST_BIASES {
            return Err(Problem::field(
                "logit_bias",
                format!("`logit_bias` has more than {MOST_BIASES} tokens"),
            ));
        }
        let biases = biases.into_iter().map(|(token, bias)| match token.parse::<u32>() {
            // the scale of the API ends at a ban
            Ok(token) if bias <= -100.0 => Ok((token, f32::NEG_INFINITY)),
            Ok(token) if bias <= 100.0 => Ok((token, bias)),
            Ok(_) => Err(Problem::field("logit_bias", format!("a bias of {bias} is not within -100 to 100"))),
            Err(_) => Err(Problem::field("logit_bias", format!("`{token}` is no token id"))),
        });
        sampling.logit_bias = Some(biases.collect::<Result<_, _>>()?);
    }
    Ok(sampling)
}

/// Samplers that the API does not have, by the names they have elsewhere.
pub(crate) fn further(fields: &mut Fields, sampling: &mut SamplingOverrides) -> Result<(), Problem> {
    sampling.penalty_window = window(fields, "repeat_last_n")?;
    sampling.dry_multiplier = fields.number("dry_multiplier", 0.0, 100.0)?;
    sampling.dry_base = fields.number("dry_base", 1.0, 100.0)?;
    sampling.dry_allowed_length = fields.number("dry_allowed_length", 0, u32::MAX)?;
    sampling.dry_penalty_last_n = window(fields, "dry_penalty_last_n")?;
    sampling.xtc_probability = fields.number("xtc_probability", 0.0, 1.0)?;
    sampling.xtc_threshold = fields.number("xtc_threshold", 0.0, 1.0)?;
    Ok(())
}

/// So many last tokens; -1 for all.
fn window(fields: &mut Fields, name: &str) -> Result<Option<Window>, Problem> {
    Ok(fields.number::<i64>(name, -1, u32::MAX.into())?.map(|count| match u32::try_from(count) {
        Ok(count) => Window::Last(count),
        Err(_) => Window::All,
    }))
}

/// The value of a field that has two names.
pub(crate) fn one_of<T: PartialEq>(
    name: &str,
    value: Option<T>,
    other: &str,
    second: Option<T>,
) -> Result<Option<T>, Problem> {
    if value.is_some() && second.is_some() && value != second {
        let message = format!("`{name}` and `{other}` say different things of the same; send one of them");
        return Err(Problem::field(other, message));
    }
    Ok(value.or(second))
}

/// How a request stands to others of the server: whoever is in no hurry may stand back, and nobody can push forward.
pub(crate) fn priority(fields: &mut Fields) -> Result<i32, Problem> {
    Ok(fields.number("priority", -100, 0)?.unwrap_or(0))
}

/// A seed; negative ones are meant as bits.
pub(crate) fn seed(fields: &mut Fields) -> Result<Option<u64>, Problem> {
    let seed = fields.optional::<serde_json::Number>("seed")?;
    seed.map(|seed| {
        let bits = seed.as_u64().or_else(|| seed.as_i64().map(|seed| seed as u64));
        bits.ok_or_else(|| Problem::field("seed", format!("`seed` is {seed}, and a whole number is needed")))
    })
    .transpose()
}

/// Texts that end an answer: one, or a list; `field` is what the API calls them.
pub(crate) fn stop(fields: &mut Fields, field: &str) -> Result<Vec<String>, Problem> {
    let stops = match fields.optional::<Value>(field)? {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => {
            let texts: Option<Vec<String>> =
                stops.into_iter().map(|stop| stop.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| Problem::field(field, format!("`{field}` has something that is no text")))?
        }
        Some(_) => return Err(Problem::field(field, format!("`{field}` is a text or a list of texts"))),
    };
    if stops.len() > MOST_STOPS || stops.iter().any(|stop| stop.len() > LONGEST_STOP) {
        let message = format!("`{field}` takes {MOST_STOPS} texts of {LONGEST_STOP} bytes at most");
        return Err(Problem::field(field, message));
    }
    if stops.iter().any(String::is_empty) {
        return Err(Problem::field(
            field,
            format!("`{field}` has an empty text, which every answer would end at"),
        ));
    }
    Ok(stops)
}

/// How many answers.
fn choices(fields: &mut Fields) -> Result<usize, Problem> {
    Ok(fields.number("n", 1, MOST_CHOICES)?.unwrap_or(1))
}

/// Whether to stream, and whether to count at the end of it.
fn streaming(fields: &mut Fields) -> Result<(bool, bool), Problem> {
    let stream = fields.optional("stream")?.unwrap_or(false);
    let Some(options) = fields.optional::<Value>("stream_options")? else { return Ok((stream, false)) };
    if !stream {
        return Err(Problem::field(
            "stream_options",
            "`stream_options` are for streams, and `stream` is not true",
        ));
    }
    let mut options = Fields::of(options, "`stream_options`")?;
    let usage = options.optional("include_usage")?.unwrap_or(false);
    options.finish()?;
    Ok((stream, usage))
}

/// Why an answer ended, in the API's words.
fn finish_reason(outcome: &Outcome) -> &'static str {
    match outcome.reason {
        EndReason::Length | EndReason::ContextFull => "length",
        _ if !outcome.calls.is_empty() => "tool_calls",
        _ => "stop",
    }
}

/// Tokens of all answers, of which `choices` in a row are to the same prompt.
fn usage(prompt: usize, outcomes: &[Outcome], choices: usize) -> Value {
    let made: usize = outcomes.iter().map(|outcome| outcome.usage.decoded_tokens).sum();
    let thought: usize = outcomes.iter().map(|outcome| outcome.usage.reasoning_tokens).sum();
    // a prompt's first answer is the one that computed it
    let cached: usize = outcomes.iter().step_by(choices).map(|outcome| outcome.usage.cached_tokens).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    })
}

/// Outcomes of a stream in the order of their answers, which is not that of their ends.
#[derive(Default)]
struct Outcomes(Vec<(usize, Outcome)>);

impl Outcomes {
    fn add(&mut self, at: usize, outcome: Outcome) {
        self.0.push((at, outcome));
    }

    fn in_order(&mut self) -> Vec<Outcome> {
        self.0.sort_by_key(|(at, _)| *at);
        std::mem::take(&mut self.0).into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// What an answer should mention beside its text.
pub(crate) fn notices(outcomes: &[Outcome]) -> Vec<String> {
    let mut notices: Vec<String> = Vec::new();
    for notice in outcomes.iter().flat_map(|outcome| &outcome.notices) {
        if !notices.contains(notice) {
            notices.push(notice.clone());
        }
    }
    notices
}

/// A token's text, or what can be shown of it.
fn token_text(language: &Language, id: u32) -> String {
    String::from_utf8_lossy(language.tokenizer().token_bytes(id).unwrap_or_default()).into_owned()
}

/// How likely a token was, in the form of chats.
pub(crate) fn chat_logprob(language: &Language, id: u32, logprobs: &Logprobs) -> Value {
    let one = |id: u32, logprob: f32| {
        let bytes = language.tokenizer().token_bytes(id).unwrap_or_default();
        json!({"token": token_text(language, id), "logprob": finite(logprob), "bytes": bytes})
    };
    let mut of = one(id, logprobs.chosen);
    of["top_logprobs"] = logprobs.top.iter().map(|&(id, logprob)| one(id, logprob)).collect();
    of
}

/// JSON has no infinity: what cannot be is very unlikely.
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

/// A body's fields.
pub(crate) async fn fields(app: &App, body: axum::body::Body) -> Result<Fields, Problem> {
    Fields::parse(&crate::guard::body(body, app.most_body).await?)
}
