//! Anthropic's API: `POST /v1/messages` and `POST /v1/messages/count_tokens`.
//!
//! ```text
//! body ─► request (fields) ─► conversation (blocks to messages) ─► Ask
//! Told ─► response (blocks of a whole answer) or stream (the same as events)
//! ```
//!
//! The headers `anthropic-version` and `anthropic-beta` and the query `?beta=true` make no difference: there is one version
//! here, with all that it can do.

mod conversation;
mod request;
mod response;
mod stream;

use crate::app::{App, answer};
use crate::ask::{self, blocking};
use crate::guard::Client;
use crate::openai::fields;
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::stream::Framing;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
pub(crate) use request::{OF_ANSWERS, WITHOUT_EFFECT};
use response::Frame;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `POST /v1/messages`
pub(crate) async fn messages(
    State(app): State<Arc<App>>,
    Extension(Client { name: client, .. }): Extension<Client>,
    body: Body,
) -> Response {
    respond(&app, client, body).await.unwrap_or_else(error)
}

async fn respond(app: &Arc<App>, client: String, body: Body) -> Result<Response, Problem> {
    let request::Create { model, ask, stream, variables, mut warnings } =
        request::create(fields(app, body).await?, client)?;
    let lease = app.models.lease(model.as_deref()).await?;
    warnings.extend(variables.unread(lease.engine.language()));
    let frame = Frame { id: app.id("msg_"), model: lease.id.clone() };
    let mut answers = ask::submit(&lease, &app.metrics, ask).await?;
    warnings.append(&mut answers.warnings);
    if stream {
        let chunks = stream::Stream::new(frame, answers.prompt_tokens(), warnings);
        return Ok(crate::stream::response(answers, chunks, 1, Framing::Named));
    }
    let mut blocks = response::Blocks::default();
    let outcomes = answers.outcomes(1, |_, told| blocks.add(told)).await?;
    Ok(answer(&response::whole(&frame, &blocks, &outcomes, warnings)))
}

/// `POST /v1/messages/count_tokens`: the tokens of the prompt that a request makes, which is not answered.
pub(crate) async fn count_tokens(State(app): State<Arc<App>>, body: Body) -> Response {
    count(app, body).await.unwrap_or_else(error)
}

async fn count(app: Arc<App>, body: Body) -> Result<Response, Problem> {
    let request::Count { model, input, variables, mut warnings } = request::count(fields(&app, body).await?)?;
    let lease = app.models.lease(model.as_deref()).await?;
    // templates and long texts take their time: others shall not wait for it
    let counted = move || {
        let language = lease.engine.language();
        warnings.extend(variables.unread(language));
        let tokens = ask::tokens(language, &input)?.len();
        Ok(with_warnings(json!({"input_tokens": tokens}), warnings))
    };
    Ok(answer(&blocking(counted).await?))
}

/// An error as the SDKs expect it.
pub(crate) fn error(problem: Problem) -> Response {
    let status = problem.status;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, error_body(problem).to_string()).into_response()
}

/// Its body, which is also what a stream says that fails.
fn error_body(problem: Problem) -> Value {
    let Problem { status, kind, message, more, .. } = problem;
    let kind = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::BAD_REQUEST => "invalid_request_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::INTERNAL_SERVER_ERROR => "api_error",
        _ => kind,
    };
    let mut error = Map::new();
    error.insert("type".into(), kind.into());
    error.insert("message".into(), message.into());
    error.extend(more.into_iter().map(|(name, figure)| (name.to_owned(), figure.into())));
    json!({"type": "error", "error": error})
}
