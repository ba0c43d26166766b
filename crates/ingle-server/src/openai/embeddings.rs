//! `POST /v1/embeddings`

use super::fields;
use crate::app::{App, answer};
use crate::ask::{self, blocking};
use crate::models::Served;
use crate::openai;
use crate::plain::with_warnings;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use ingle_engine::{EmbedOptions, EngineError};
use ingle_text::Specials;
use serde_json::{Value, json};
use std::sync::Arc;

/// Most texts of a request.
pub(crate) const MOST_TEXTS: usize = 2048;

pub(crate) async fn embeddings(State(app): State<Arc<App>>, body: Body) -> Response {
    match respond(app, body).await {
        Ok(value) => answer(&value),
        Err(problem) => openai::error(problem),
    }
}

async fn respond(app: Arc<App>, body: Body) -> Result<Value, Problem> {
    let mut fields = fields(&app, body).await?;
    let model = fields.optional::<String>("model")?;
    let input = fields.required::<Value>("input")?;
    let format: String = fields.optional("encoding_format")?.unwrap_or_else(|| "float".into());
    let dimensions = fields.number("dimensions", 1, usize::MAX)?;
    let base64 = match format.as_str() {
        "float" => false,
        "base64" => true,
        _ => return Err(Problem::field("encoding_format", "`encoding_format` can be `float` or `base64`")),
    };
    fields.without_effect(&["user"]);
    let mut warnings = fields.finish()?;
    let lease = app.models.lease(model.as_deref()).await?;
    let served = lease.clone();
    let (texts, warnings) = blocking(move || {
        let texts = texts(&lease, input, &mut warnings)?;
        Ok((texts, warnings))
    })
    .await?;
    // as `ingle embed` does: some models say what every text begins with
    let prompt = served.engine.about().prompts.choose(None)?.to_owned();
    let options = EmbedOptions { prompt, dimensions, ..EmbedOptions::default() };
    let embeddings = ask::embed(&served, texts, options).await?;
    blocking(move || {
        let tokens: usize = embeddings.iter().map(|embedding| embedding.tokens).sum();
        let data: Vec<Value> = embeddings
            .iter()
            .enumerate()
            .map(|(index, embedding)| {
                let values = if base64 { json!(encoded(&embedding.values)) } else { json!(embedding.values) };
                json!({"object": "embedding", "index": index, "embedding": values})
            })
            .collect();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        let document = json!({"object": "list", "data": data, "model": served.id, "usage": usage});
        Ok(with_warnings(document, warnings))
    })
    .await
}

/// A text, texts, a list of tokens, or lists of them.
///
/// Tokens are taken as the text they spell, around which the model puts what belongs there.
fn texts(served: &Served, input: Value, warnings: &mut Vec<String>) -> Result<Vec<String>, Problem> {
    let bad = || {
        Problem::field(
            "input",
            "`input` is a text, a list of texts, or tokens: what is in it is something else",
        )
    };
    let mut from_tokens = |list: &Vec<Value>| -> Result<String, Problem> {
        let ids: Option<Vec<u32>> = list.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        let ids = ids.ok_or_else(bad)?;
        let tokenizer = served.engine.language().tokenizer();
        let text = tokenizer.decode(&ids).map_err(EngineError::from)?;
        let other =
            "tokens in `input` were taken as the text they spell, which this model cuts into other tokens";
        if tokenizer.encode(&text, Specials::AsText).map_err(EngineError::from)? != ids
            && !warnings.iter().any(|warning| warning == other)
        {
            warnings.push(other.into());
        }
        Ok(text)
    };
    let texts = match input {
        Value::String(text) => vec![text],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => vec![from_tokens(&list)?],
        Value::Array(list) => list
            .into_iter()
            .map(|one| match one {
                Value::String(text) => Ok(text),
                Value::Array(ids) => from_tokens(&ids),
                _ => Err(bad()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(bad()),
    };
    match texts.len() {
        0 => Err(Problem::field("input", "`input` is empty: there is nothing to embed")),
        1..=MOST_TEXTS => Ok(texts),
        count => Err(Problem::field(
            "input",
            format!("`input` has {count} texts, and {MOST_TEXTS} at a time are taken"),
        )),
    }
}

/// Little-endian floats in base64.
fn encoded(values: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0u32, |number, &byte| number << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            match digit <= three.len() {
                true => text.push(char::from(DIGITS[(number >> (18 - 6 * digit) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_encoded_as_other_programs_decode_them() {
        assert_eq!(encoded(&[1.0]), "AACAPw==");
        assert_eq!(encoded(&[1.0, -2.5, 0.0]), "AACAPwAAIMAAAAAA");
        assert_eq!(encoded(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(encoded(&[]), "");
    }
}
