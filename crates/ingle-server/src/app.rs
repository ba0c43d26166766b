//! The routes, and what all of them share.

use crate::guard::keys::Keys;
use crate::guard::limits::RETRY_AFTER;
use crate::guard::{self, Hosts};
use crate::metrics::Metrics;
use crate::models::Models;
use crate::openai::responses::store::Store;
use crate::problem::Problem;
use crate::{anthropic, ollama, openai, plain};
use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all routes share.
pub(crate) struct App {
    pub(crate) models: Arc<Models>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Option<Keys>,
    pub(crate) hosts: Hosts,
    /// Most bytes of a body.
    pub(crate) most_body: usize,
    /// Gets a line about every request when it is over.
    pub(crate) log: Option<Log>,
    /// Whether what was asked stands in it.
    pub(crate) log_prompts: bool,
    /// Answers that requests may refer to.
    pub(crate) responses: Store,
    ids: AtomicU64,
}

/// Hears of requests.
pub(crate) type Log = Arc<dyn Fn(&str) + Send + Sync>;

impl App {
    pub(crate) fn new(
        models: Arc<Models>,
        keys: Option<Keys>,
        hosts: Hosts,
        most_body: usize,
        log: Option<Log>,
        log_prompts: bool,
    ) -> App {
        // ids of different runs of the program differ
        let ids = AtomicU64::new(crate::models::now() << 20);
        let metrics = Arc::default();
        let responses = Store::default();
        App { responses, models, metrics, keys, hosts, most_body, log, log_prompts, ids }
    }

    /// A name for an answer.
    pub(crate) fn id(&self, prefix: &str) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        // spread over all digits, so that neighbours are told apart at a glance
        format!("{prefix}{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// A refusal in the shape of the API that a path belongs to.
pub(crate) fn refusal(path: &str, problem: Problem) -> Response {
    let below =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let wait = problem.more.iter().find(|(name, _)| *name == RETRY_AFTER).map(|&(_, seconds)| seconds);
    let mut response = match () {
        () if below("/v1/messages") => anthropic::error(problem),
        () if below("/api") => ollama::error(problem),
        () => openai::error(problem),
    };
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, wait.into());
    }
    response
}

/// JSON as an answer.
pub(crate) fn answer(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(plain::health))
        .route("/metrics", get(plain::metrics))
        .route("/tokenize", post(plain::tokenize))
        .route("/detokenize", post(plain::detokenize))
        .route("/apply-template", post(plain::apply_template))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::one))
        .route("/v1/chat/completions", post(openai::chat::chat))
        .route("/v1/completions", post(openai::completions::completions))
        .route("/v1/responses", post(openai::responses::create))
        .route("/v1/responses/{id}", get(openai::responses::one).delete(openai::responses::forget))
        .route("/v1/embeddings", post(openai::embeddings::embeddings))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/v1/rerank", post(openai::rerank::rerank))
        .route("/rerank", post(openai::rerank::rerank))
        .route("/", get(ollama::root))
        .route("/api/generate", post(ollama::generate::generate))
        .route("/api/chat", post(ollama::chat::chat))
        .route("/api/embed", post(ollama::embed::embed))
        .route("/api/embeddings", post(ollama::embed::embeddings))
        .route("/api/tags", get(ollama::list::tags))
        .route("/api/ps", get(ollama::list::ps))
        .route("/api/show", post(ollama::list::show))
        .route("/api/version", get(ollama::version))
        .route("/api/pull", post(ollama::not_here))
        .route("/api/push", post(ollama::not_here))
        .route("/api/create", post(ollama::not_here))
        .route("/api/copy", post(ollama::not_here))
        .route("/api/delete", delete(ollama::not_here))
        .route("/api/blobs/{digest}", post(ollama::not_here).head(ollama::not_here))
        .fallback(nothing_there)
        .method_not_allowed_fallback(another_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn nothing_there(uri: axum::http::Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    refusal(uri.path(), Problem::not_found(format!("there is nothing at {path}")))
}

async fn another_method(method: Method, uri: axum::http::Uri) -> Response {
    let message = format!("{method} is not for {}", uri.path());
    refusal(
        uri.path(),
        Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message),
    )
}
