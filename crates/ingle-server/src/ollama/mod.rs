//! Ollama's API.

use crate::problem::Problem;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error as its clients expect it.
pub(crate) fn error(problem: Problem) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (problem.status, kind, json!({"error": problem.message}).to_string()).into_response()
}
