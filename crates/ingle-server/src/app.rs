//! The routes, and what all of them share.

use crate::guard::keys::Keys;
use crate::guard::limits::RETRY_AFTER;
use crate::guard::{self, Hosts};
use crate::metrics::Metrics;
use crate::models::Models;
use crate::openai::responses::store::Store;
use crate::problem::Problem;
use crate::{anthropic, ollama, openai};
use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
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
    let routes = crate::routes::routes().into_iter();
    routes
        .fold(Router::new(), |router, route| router.route(route.path, route.handler))
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
