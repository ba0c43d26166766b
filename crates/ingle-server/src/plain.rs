//! Routes of no API: health, metrics, tokens, templates.

use crate::app::{App, answer};
use crate::ask::{self, blocking};
use crate::fields::Fields;
use crate::guard;
use crate::models::Lease;
use crate::openai;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ingle_engine::EngineError;
use ingle_text::Specials;
use serde_json::{Value, json};
use std::sync::Arc;

/// That the server is there.
pub(crate) async fn health() -> Response {
    answer(&json!({"status": "ok"}))
}

/// What is counted.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text(&app.models)).into_response()
}

/// What there is to ask for.
pub(crate) async fn openapi() -> Response {
    answer(&crate::openapi::document())
}

/// Text to tokens: `{content, model?, add_special?, parse_special?, with_pieces?}`.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, body: Body) -> Response {
    respond(app, body, |lease, mut fields| {
        let text = fields.required::<String>("content")?;
        let special = fields.optional("add_special")?.unwrap_or(false);
        let parse = fields.optional("parse_special")?.unwrap_or(true);
        let pieces = fields.optional("with_pieces")?.unwrap_or(false);
        let warnings = fields.finish()?;
        let tokenizer = lease.engine.language().tokenizer();
        let specials = if parse { Specials::Parse } else { Specials::AsText };
        let ids = match special {
            true => tokenizer.encode_with_bos(&text, specials),
            false => tokenizer.encode(&text, specials),
        }
        .map_err(EngineError::from)?;
        let piece = |id: u32| match tokenizer.decode(&[id]) {
            Ok(text) if !text.contains(char::REPLACEMENT_CHARACTER) => Value::from(text),
            _ => json!(tokenizer.token_bytes(id).unwrap_or_default()),
        };
        let tokens: Value = match pieces {
            true => ids.iter().map(|&id| json!({"id": id, "piece": piece(id)})).collect(),
            false => json!(ids),
        };
        Ok(with_warnings(json!({"tokens": tokens}), warnings))
    })
    .await
}

/// Tokens to text: `{tokens, model?}`.
pub(crate) async fn detokenize(State(app): State<Arc<App>>, body: Body) -> Response {
    respond(app, body, |lease, mut fields| {
        let tokens = fields.required::<Vec<u32>>("tokens")?;
        let warnings = fields.finish()?;
        let text = lease.engine.language().tokenizer().decode(&tokens).map_err(EngineError::from)?;
        Ok(with_warnings(json!({"content": text}), warnings))
    })
    .await
}

/// A conversation as the model's template writes it: `{messages, model?, tools?, chat_template_kwargs?,
/// reasoning_effort?, continue_final_message?, add_generation_prompt?}`.
pub(crate) async fn apply_template(State(app): State<Arc<App>>, body: Body) -> Response {
    respond(app, body, |lease, mut fields| {
        let conversation = openai::messages::conversation(&mut fields)?;
        let mut warnings = fields.finish()?;
        let language = lease.engine.language();
        warnings.extend(conversation.variables.unread(language));
        let tokens = ask::tokens(language, &conversation.input())?;
        let text = language.tokenizer().decode(&tokens).map_err(EngineError::from)?;
        Ok(with_warnings(json!({"prompt": text}), warnings))
    })
    .await
}

/// Adds what the client should know of its request.
pub(crate) fn with_warnings(mut value: Value, warnings: Vec<String>) -> Value {
    if let (false, Some(object)) = (warnings.is_empty(), value.as_object_mut()) {
        object.insert("warnings".into(), json!(warnings));
    }
    value
}

async fn respond(
    app: Arc<App>,
    body: Body,
    work: impl FnOnce(&Lease, Fields) -> Result<Value, Problem> + Send + 'static,
) -> Response {
    let done = async {
        let bytes = guard::body(body, app.most_body).await?;
        let mut fields = Fields::parse(&bytes)?;
        let lease = app.models.lease(fields.optional::<String>("model")?.as_deref()).await?;
        blocking(move || work(&lease, fields)).await
    };
    match done.await {
        Ok(value) => answer(&value),
        Err(problem) => openai::error(problem),
    }
}
