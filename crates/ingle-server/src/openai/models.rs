//! `GET /v1/models`

use crate::app::{App, answer};
use crate::models::Served;
use crate::openai;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

fn document(served: &Served) -> Value {
    let about = served.engine.about();
    json!({
        "id": served.id, "aliases": served.aliases, "object": "model", "created": served.created, "owned_by": "local",
        "context_length": about.context, "parameters": about.spec.parameters(), "weight_bytes": about.weight_bytes,
        "architecture": about.spec.architecture,
    })
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let all: Vec<Value> = app.models.all().iter().map(document).collect();
    answer(&json!({"object": "list", "data": all}))
}

pub(crate) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.models.find(Some(&id)) {
        Ok(served) => answer(&document(served)),
        Err(problem) => openai::error(problem),
    }
}
