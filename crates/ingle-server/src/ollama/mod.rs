//! Ollama's API, for its clients: `/api/..`, and a line at `/`.
//!
//! Ollama has no strict reading of bodies; here, as everywhere, a field is used, told in `warnings` (of the last chunk,
//! where there are several), or refused. Durations are in nanoseconds, as its clients expect them.

mod answer;
pub(crate) mod chat;
pub(crate) mod embed;
pub(crate) mod generate;
pub(crate) mod list;
mod message;
pub(crate) mod options;
mod settings;

use crate::app::{App, answer as document};
use crate::guard::{Client, may_manage};
use crate::models::Lease;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// An error as its clients expect it.
pub(crate) fn error(problem: Problem) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (problem.status, kind, json!({"error": problem.message}).to_string()).into_response()
}

/// That the server is there: clients look at the status, and people at the text.
pub(crate) async fn root() -> &'static str {
    "Ingle is running (it speaks Ollama's API)"
}

/// `GET /api/version`: `{version}`, this program's own. Some clients compare it with the version of Ollama that a feature
/// came with, and hold features back that are here; to claim one of Ollama's would mislead those that work around its
/// defects.
pub(crate) async fn version() -> Response {
    document(&json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// What would change which models there are.
pub(crate) async fn not_here(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    uri: Uri,
    body: Body,
) -> Response {
    // who is not listened to to the end gets no answer either: the connection is reset under what is still being sent
    _ = crate::guard::body(body, app.most_body).await;
    if let Err(problem) = may_manage(&client) {
        return error(problem);
    }
    let path: String = uri.path().chars().take(200).collect();
    let message = format!(
        "{path} is not here yet: the models are those that the server was started with; to have another one, start it \
         with `ingle serve MODEL`"
    );
    error(Problem::with_status(StatusCode::NOT_IMPLEMENTED, "not_implemented_error", message))
}

/// The place of the model of a name.
///
/// # Errors
/// A name that none has.
fn named(app: &App, name: &str) -> Result<usize, Problem> {
    app.models.named(Some(name)).map_err(|_| {
        let name: String = name.chars().take(200).collect();
        let all: Vec<&str> = app.models.offers().iter().map(|offer| offer.id.as_str()).collect();
        // clients look for these words
        Problem::not_found(format!("model '{name}' not found; there is: {}", all.join(", ")))
    })
}

/// A lease of the model of a name.
///
/// # Errors
/// A name that none has, and a model that cannot be loaded.
async fn find(app: &App, name: &str) -> Result<Lease, Problem> {
    named(app, name)?;
    app.models.lease(Some(name)).await
}
