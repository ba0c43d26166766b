//! `POST /v1/rerank`: which documents are about a question.
//!
//! A score is the cosine of two vectors, the question's and the document's, as the served model embeds them: how alike they
//! are, from -1 to 1, and no probability. A model that reads question and document together would judge better, and is
//! not run here yet.

use super::embeddings::MOST_TEXTS;
use super::fields;
use crate::app::{App, answer};
use crate::ask::{self, blocking};
use crate::fields::Fields;
use crate::openai;
use crate::plain::with_warnings;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use ingle_engine::{EmbedOptions, Prompts, cosine};
use serde_json::{Value, json};
use std::sync::Arc;

/// A request, in either of the two shapes in use.
#[derive(Debug)]
struct Rerank {
    model: Option<String>,
    query: String,
    documents: Vec<String>,
    /// How many to name.
    top: usize,
    /// Whether to say the documents again.
    repeat: bool,
    /// Whether it has `texts`, and wants a plain list.
    plain: bool,
}

fn read(mut fields: Fields) -> Result<(Rerank, Vec<String>), Problem> {
    let model = fields.optional("model")?;
    let query: String = fields.required("query")?;
    let plain = fields.has("texts");
    if plain && fields.has("documents") {
        return Err(Problem::field("texts", "`documents` and `texts` are the same thing; send one of them"));
    }
    let (documents, repeat) = if plain {
        (fields.required::<Vec<Value>>("texts")?, fields.optional("return_text")?)
    } else {
        (fields.required::<Vec<Value>>("documents")?, fields.optional("return_documents")?)
    };
    let name = if plain { "texts" } else { "documents" };
    if documents.is_empty() || documents.len() > MOST_TEXTS {
        let message = format!("`{name}` has {} documents, and 1 to {MOST_TEXTS} are taken", documents.len());
        return Err(Problem::field(name, message));
    }
    let documents = documents.into_iter().enumerate().map(|(index, document)| match document {
        Value::String(text) => Ok(text),
        Value::Object(_) => {
            let mut document = Fields::of(document, "a document")?;
            let text = document.required("text").map_err(|problem| in_document(name, index, &problem))?;
            document.finish().map_err(|problem| in_document(name, index, &problem))?;
            Ok(text)
        }
        _ => Err(Problem::field(name, format!("document {index} is neither text nor an object with `text`"))),
    });
    let documents: Vec<String> = documents.collect::<Result<_, _>>()?;
    let top = fields.number("top_n", 1, usize::MAX)?.unwrap_or(usize::MAX);
    let request = Rerank { model, query, documents, top, repeat: repeat.unwrap_or(false), plain };
    Ok((request, fields.finish()?))
}

fn in_document(field: &str, index: usize, problem: &Problem) -> Problem {
    Problem::field(field, format!("document {index}: {}", problem.message))
}

/// What the model was trained to see before such a text.
fn prompt(prompts: &Prompts, names: [&str; 2]) -> Result<String, Problem> {
    let known = names.into_iter().find(|&name| prompts.by_name.contains_key(name));
    Ok(prompts.choose(known)?.to_owned())
}

pub(crate) async fn rerank(State(app): State<Arc<App>>, body: Body) -> Response {
    match respond(app, body).await {
        Ok(value) => answer(&value),
        Err(problem) => openai::error(problem),
    }
}

async fn respond(app: Arc<App>, body: Body) -> Result<Value, Problem> {
    let (request, warnings) = read(fields(&app, body).await?)?;
    let Rerank { model, query, documents, top, repeat, plain } = request;
    let served = app.models.lease(model.as_deref()).await?;
    let prompts = &served.engine.about().prompts;
    let embed = async |texts: Vec<String>, names: [&str; 2]| {
        let options = EmbedOptions { prompt: prompt(prompts, names)?, ..EmbedOptions::default() };
        Ok::<_, Problem>(ask::embed(&served, texts, options).await?)
    };
    let query = embed(vec![query], ["query", "question"]).await?;
    let vectors = embed(documents.clone(), ["document", "passage"]).await?;
    let id = served.id.clone();
    blocking(move || {
        let mut scores: Vec<(usize, f64)> =
            vectors.iter().map(|vector| cosine(&query[0].values, &vector.values)).enumerate().collect();
        // equal documents stay in their order
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        scores.truncate(top);
        let (score, text) = if plain { ("score", "text") } else { ("relevance_score", "document") };
        let results = scores.into_iter().map(|(index, value)| {
            let mut result = json!({"index": index, score: value});
            if repeat {
                let said = &documents[index];
                result[text] = if plain { json!(said) } else { json!({"text": said}) };
            }
            result
        });
        let results: Vec<Value> = results.collect();
        if plain {
            return Ok(json!(results));
        }
        let tokens: usize = query.iter().chain(&vectors).map(|vector| vector.tokens).sum();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        let document = json!({"object": "list", "model": id, "results": results, "usage": usage});
        Ok(with_warnings(document, warnings))
    })
    .await
}
