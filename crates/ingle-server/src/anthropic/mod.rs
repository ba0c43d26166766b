//! Anthropic's API.

use crate::problem::Problem;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

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
