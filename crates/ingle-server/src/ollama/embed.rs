//! `POST /api/embed`, and `POST /api/embeddings` as it was before.

use super::{options, settings};
use crate::app::{App, answer};
use crate::ask::{self, blocking};
use crate::fields::Fields;
use crate::models::{Lease, Served};
use crate::openai::embeddings::MOST_TEXTS;
use crate::openai::fields;
use crate::plain::with_warnings;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use ingle_engine::{EmbedOptions, Embedding};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// `{model, input, truncate?, dimensions?}` to `{model, embeddings, total_duration, load_duration, prompt_eval_count}`.
pub(crate) async fn embed(State(app): State<Arc<App>>, body: Body) -> Response {
    several(&app, body).await.map_or_else(super::error, |value| answer(&value))
}

/// `{model, prompt}` to `{embedding}`.
pub(crate) async fn embeddings(State(app): State<Arc<App>>, body: Body) -> Response {
    one(&app, body).await.map_or_else(super::error, |value| answer(&value))
}

async fn several(app: &App, body: Body) -> Result<Value, Problem> {
    let asked = Instant::now();
    let mut fields = fields(app, body).await?;
    let model: String = fields.required("model")?;
    let lease = common(app, &model, &mut fields).await?;
    let texts = texts(fields.optional("input")?)?;
    let truncate = fields.optional("truncate")?.unwrap_or(true);
    let dimensions = fields.number("dimensions", 1, usize::MAX)?;
    let mut warnings = fields.finish()?;
    let load = lease.load.as_nanos() as u64;
    let vectors = vectors(&lease, texts, truncate, dimensions, &mut warnings).await?;
    let tokens: usize = vectors.iter().map(|vector| vector.tokens).sum();
    blocking(move || {
        let values: Vec<&[f32]> = vectors.iter().map(|vector| vector.values.as_slice()).collect();
        let document = json!({
            "model": model,
            "embeddings": values,
            "total_duration": asked.elapsed().as_nanos() as u64,
            "load_duration": load,
            "prompt_eval_count": tokens,
        });
        Ok(with_warnings(document, warnings))
    })
    .await
}

async fn one(app: &App, body: Body) -> Result<Value, Problem> {
    let mut fields = fields(app, body).await?;
    let model: String = fields.required("model")?;
    let lease = common(app, &model, &mut fields).await?;
    let prompt: String = fields.optional("prompt")?.unwrap_or_default();
    let mut warnings = fields.finish()?;
    let texts = if prompt.is_empty() { Vec::new() } else { vec![prompt] };
    let vectors = vectors(&lease, texts, true, None, &mut warnings).await?;
    let values = vectors.first().map_or(&[][..], |vector| &vector.values);
    Ok(with_warnings(json!({"embedding": values}), warnings))
}

async fn common(app: &App, model: &str, fields: &mut Fields) -> Result<Lease, Problem> {
    let lease = super::find(app, model).await?;
    options::for_vectors(fields, lease.engine.about().context)?;
    if let Some(keep) = settings::keep_alive(fields)? {
        fields.warnings.extend(lease.keep(keep));
    }
    Ok(lease)
}

/// A text, or a list of texts. None, or an empty one by itself, asks nothing but that the model be there.
fn texts(input: Option<Value>) -> Result<Vec<String>, Problem> {
    let bad =
        || Problem::field("input", "`input` is a text or a list of texts: what is in it is something else");
    let texts = match input {
        None => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => {
            let text = |value| if let Value::String(text) = value { Ok(text) } else { Err(bad()) };
            list.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(bad()),
    };
    match texts.len() {
        ..=MOST_TEXTS => Ok(texts),
        count => Err(Problem::field(
            "input",
            format!("`input` has {count} texts, and {MOST_TEXTS} at a time are taken"),
        )),
    }
}

async fn vectors(
    served: &Served,
    texts: Vec<String>,
    truncate: bool,
    dimensions: Option<usize>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Embedding>, Problem> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    // as `ingle embed` does: some models say what every text begins with
    let prompt = served.engine.about().prompts.choose(None)?.to_owned();
    let options = EmbedOptions { prompt, truncate, dimensions, ..EmbedOptions::default() };
    let vectors = ask::embed(served, texts, options).await?;
    for (at, vector) in vectors.iter().enumerate().filter(|(_, vector)| vector.left_out > 0) {
        let (number, count) = (at + 1, vector.left_out);
        warnings.push(format!("text {number} is too long: {count} tokens at its end were left out"));
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_texts() {
        assert!(texts(None).unwrap().is_empty() && texts(Some(json!(""))).unwrap().is_empty());
        assert_eq!(texts(Some(json!("a"))).unwrap(), ["a"]);
        assert_eq!(texts(Some(json!(["a", ""]))).unwrap(), ["a", ""]);
        for input in [json!(1), json!([1]), json!({}), json!([["a"]]), json!(vec!["a"; MOST_TEXTS + 1])] {
            assert_eq!(texts(Some(input)).unwrap_err().field.as_deref(), Some("input"));
        }
    }
}
