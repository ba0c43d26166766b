//! All routes, with what is said of them: what the router and the document that describes it are made from.

use crate::app::App;
use crate::openapi::bodies;
use crate::openapi::fields::Field;
use crate::{anthropic, ollama, openai, plain};
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use std::sync::Arc;

/// What a route answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A document.
    Json,
    /// A document or server-sent events.
    Events,
    /// A document or lines of them.
    Lines,
    /// Text.
    Text,
    /// Nothing: it is not here yet.
    NotHere,
}

/// A method of a path.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    pub(crate) about: &'static str,
    /// The fields of its body, if it reads one.
    pub(crate) body: Option<fn() -> Vec<Field>>,
    pub(crate) answer: Answer,
    pub(crate) handler: MethodRouter<Arc<App>>,
}

impl Route {
    /// Whose API it belongs to.
    pub(crate) fn api(&self) -> &'static str {
        match self.path {
            path if path.starts_with("/v1/messages") => "Anthropic",
            path if path == "/" || path.starts_with("/api/") => "Ollama",
            path if path.starts_with("/v1/") => "OpenAI",
            _ => "Ingle",
        }
    }

    fn body(self, body: fn() -> Vec<Field>) -> Route {
        Route { body: Some(body), ..self }
    }
}

fn route<H, T>(
    (method, filter): (&'static str, MethodFilter),
    path: &'static str,
    handler: H,
    answer: Answer,
    about: &'static str,
) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    Route { path, method, about, body: None, answer, handler: on(filter, handler) }
}

const GET: (&str, MethodFilter) = ("GET", MethodFilter::GET);
const HEAD: (&str, MethodFilter) = ("HEAD", MethodFilter::HEAD);
const POST: (&str, MethodFilter) = ("POST", MethodFilter::POST);
const DELETE: (&str, MethodFilter) = ("DELETE", MethodFilter::DELETE);

/// The table.
pub(crate) fn routes() -> Vec<Route> {
    use Answer::{Events, Json, Lines, NotHere, Text};
    let changes = "Would change which models there are";
    vec![
        route(GET, "/health", plain::health, Json, "That the server is there"),
        route(GET, "/metrics", plain::metrics, Text, "What is counted, for Prometheus"),
        route(GET, "/openapi.json", plain::openapi, Json, "This document"),
        route(POST, "/tokenize", plain::tokenize, Json, "Text to tokens").body(bodies::tokenize),
        route(POST, "/detokenize", plain::detokenize, Json, "Tokens to text").body(bodies::detokenize),
        route(
            POST,
            "/apply-template",
            plain::apply_template,
            Json,
            "A conversation as the model's template writes it",
        )
        .body(bodies::apply_template),
        route(GET, "/v1/models", openai::models::list, Json, "The models"),
        route(GET, "/v1/models/{*id}", openai::models::one, Json, "A model"),
        route(POST, "/v1/chat/completions", openai::chat::chat, Events, "A conversation is answered")
            .body(bodies::chat),
        route(POST, "/v1/completions", openai::completions::completions, Events, "Text goes on")
            .body(bodies::completions),
        route(POST, "/v1/responses", openai::responses::create, Events, "A conversation is answered")
            .body(bodies::responses),
        route(GET, "/v1/responses/{id}", openai::responses::one, Json, "A stored answer"),
        route(DELETE, "/v1/responses/{id}", openai::responses::forget, Json, "A stored answer is forgotten"),
        route(POST, "/v1/embeddings", openai::embeddings::embeddings, Json, "Texts to vectors")
            .body(bodies::embeddings),
        route(POST, "/v1/messages", anthropic::messages, Events, "A conversation is answered")
            .body(bodies::messages),
        route(
            POST,
            "/v1/messages/count_tokens",
            anthropic::count_tokens,
            Json,
            "The tokens of a request's prompt",
        )
        .body(bodies::count_tokens),
        route(POST, "/v1/rerank", openai::rerank::rerank, Json, "Which documents are about a question")
            .body(bodies::rerank),
        route(POST, "/rerank", openai::rerank::rerank, Json, "The same by another name").body(bodies::rerank),
        route(GET, "/", ollama::root, Text, "That the server is there, for people"),
        route(POST, "/api/generate", ollama::generate::generate, Lines, "A text is answered")
            .body(bodies::ollama_generate),
        route(POST, "/api/chat", ollama::chat::chat, Lines, "A conversation is answered")
            .body(bodies::ollama_chat),
        route(POST, "/api/embed", ollama::embed::embed, Json, "Texts to vectors").body(bodies::ollama_embed),
        route(
            POST,
            "/api/embeddings",
            ollama::embed::embeddings,
            Json,
            "A text to a vector, as it was before",
        )
        .body(bodies::ollama_embeddings),
        route(GET, "/api/tags", ollama::list::tags, Json, "The models"),
        route(GET, "/api/ps", ollama::list::ps, Json, "The models that are loaded"),
        route(POST, "/api/show", ollama::list::show, Json, "What there is to know of a model")
            .body(bodies::ollama_show),
        route(GET, "/api/version", ollama::version, Json, "The program's version"),
        route(POST, "/api/pull", ollama::not_here, NotHere, changes),
        route(POST, "/api/push", ollama::not_here, NotHere, changes),
        route(POST, "/api/create", ollama::not_here, NotHere, changes),
        route(POST, "/api/copy", ollama::not_here, NotHere, changes),
        route(DELETE, "/api/delete", ollama::not_here, NotHere, changes),
        route(POST, "/api/blobs/{digest}", ollama::not_here, NotHere, changes),
        route(HEAD, "/api/blobs/{digest}", ollama::not_here, NotHere, changes),
    ]
}
