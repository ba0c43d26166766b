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
mod time;

use crate::app::{App, answer as document};
use crate::models::Served;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// What names of models end with where nothing else is said.
const LATEST: &str = ":latest";

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
pub(crate) async fn not_here(State(app): State<Arc<App>>, uri: Uri, body: Body) -> Response {
    // who is not listened to to the end gets no answer either: the connection is reset under what is still being sent
    _ = crate::guard::body(body, app.most_body).await;
    let path: String = uri.path().chars().take(200).collect();
    let message = format!(
        "{path} is not here yet: the models are those that the server was started with; to have another one, start it \
         with `ingle serve MODEL`"
    );
    error(Problem::with_status(StatusCode::NOT_IMPLEMENTED, "not_implemented_error", message))
}

/// The model of a name, with or without `:latest`, which clients add to names without a tag.
///
/// # Errors
/// A name that none has.
fn find<'a>(app: &'a App, name: &str) -> Result<&'a Served, Problem> {
    let models = &app.models;
    let other = name.strip_suffix(LATEST).map_or_else(|| format!("{name}{LATEST}"), str::to_owned);
    models.find(Some(name)).or_else(|_| models.find(Some(&other))).map_err(|_| {
        let name: String = name.chars().take(200).collect();
        let all: Vec<&str> = models.all().iter().map(|served| served.id.as_str()).collect();
        // clients look for these words
        Problem::not_found(format!("model '{name}' not found; there is: {}", all.join(", ")))
    })
}
