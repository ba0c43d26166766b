//! `GET /v1/models`

use crate::app::{App, answer};
use crate::models::Offer;
use crate::openai;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

fn document(app: &App, offer: &Offer) -> Value {
    let spec = &offer.description.spec;
    let loaded = app.models.loaded();
    let loaded =
        loaded.iter().find(|(other, ..)| other.id == offer.id).map(|(_, served, _)| served.engine.about());
    json!({
        "id": offer.id, "aliases": offer.aliases, "object": "model", "created": offer.changed, "owned_by": "local",
        // what it was made for, until it is known what the memory allows
        "context_length": loaded.map_or(spec.context, |about| about.context), "parameters": spec.parameters(),
        "weight_bytes": spec.resident_bytes(), "architecture": spec.architecture, "loaded": loaded.is_some(),
    })
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let all: Vec<Value> = app.models.offers().iter().map(|offer| document(&app, offer)).collect();
    answer(&json!({"object": "list", "data": all}))
}

pub(crate) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.models.named(Some(&id)) {
        Ok(at) => answer(&document(&app, &app.models.offers()[at])),
        Err(problem) => openai::error(problem),
    }
}
