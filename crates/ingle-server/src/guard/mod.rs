//! What stands before every route: who may ask, from where, and how much.

pub(crate) mod keys;
mod origin;

use crate::app::App;
use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt};
use keys::Role;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) use origin::Hosts;

/// The longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) u64);

/// Who asks: the name of a key. Where there are none, everybody is their connection, so that nobody's many requests keep
/// others waiting.
#[derive(Clone, Debug)]
pub(crate) struct Client(pub(crate) String);

/// Lets a request through, or refuses it in the shape of the API it is for.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let started = std::time::Instant::now();
    let method = request.method().clone();
    let mut response = match check(&app, &request) {
        Ok(client) if method == Method::OPTIONS => preflight(&client),
        Ok(client) => {
            request.extensions_mut().insert(client);
            // a defect of the program harms the request that met it, and no other
            let running = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind();
            running.await.unwrap_or_else(|_| {
                let message = "the request met a defect of the program; please report it";
                crate::app::refusal(&path, Problem::internal(message))
            })
        }
        Err(problem) => crate::app::refusal(&path, problem),
    };
    if let Some(origin) = origin.filter(|origin| app.hosts.allows_origin(origin)) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.metrics.requests.fetch_add(1, Ordering::Relaxed);
    if response.status().as_u16() >= 400 {
        app.metrics.refused.fetch_add(1, Ordering::Relaxed);
    }
    app.log(&method, &path, response.status(), started.elapsed());
    response
}

/// Who asks, if they may.
fn check(app: &App, request: &Request) -> Result<Client, Problem> {
    let headers = request.headers();
    // what a proxy says of itself (X-Forwarded-Host) anybody can say
    let host = headers.get(header::HOST);
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = authority.or_else(|| host.and_then(|host| host.to_str().ok()).map(str::to_owned));
    if !host.as_deref().is_some_and(|host| app.hosts.allows_host(host)) {
        return Err(Problem::forbidden(
            "the request's Host header names another machine than this one; use the address that the server prints, or \
             start it with --allow-host NAME",
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !app.hosts.allows_origin(origin)
    {
        return Err(Problem::forbidden(
            "a web page from elsewhere may not use this server; start it with --cors ORIGIN to allow it",
        ));
    }
    if request.method() == Method::OPTIONS || request.uri().path() == "/health" {
        return Ok(Client(String::new()));
    }
    if request.method() == Method::POST && !is_json(headers) {
        let message = "the body's Content-Type is not application/json";
        return Err(Problem::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            message,
        ));
    }
    let Some(keys) = &app.keys else {
        let peer = request.extensions().get::<Peer>();
        return Ok(Client(peer.map(|Peer(number)| format!("connection {number}")).unwrap_or_default()));
    };
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        bearer.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    let key = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    let Some(key) = key else {
        return Err(Problem::unauthorised(
            "a key is needed: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
        ));
    };
    match keys.find(key.trim()) {
        Some(found) if matches!(found.role, Role::Infer | Role::Manage) => Ok(Client(found.name.clone())),
        _ => Err(Problem::unauthorised("this key is not known here")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// What a browser asks before it asks.
fn preflight(_client: &Client) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, \
             anthropic-dangerous-direct-browser-access",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Of a body that is too large, so many times the limit is listened to and thrown away: a connection that is closed under what
/// is still being sent is reset, and the client never reads why.
const HEARD_OUT: usize = 4;

/// A body of no more than `most` bytes, arrived in time.
///
/// # Errors
/// One that is too large, too slow or cut off.
pub(crate) async fn body(body: Body, most: usize) -> Result<Bytes, Problem> {
    let read = async {
        let (mut parts, mut kept, mut length) = (body.into_data_stream(), Vec::new(), 0usize);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| Problem::invalid("the body was cut off"))?;
            length = length.saturating_add(part.len());
            if length <= most {
                kept.extend_from_slice(&part);
            } else if length > most.saturating_mul(HEARD_OUT) {
                break;
            } else {
                kept = Vec::new();
            }
        }
        if length <= most {
            return Ok(kept.into());
        }
        Err(Problem::with_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!(
                "the body has more than {most} bytes; send less, or start the server with a larger --max-body"
            ),
        ))
    };
    tokio::time::timeout(BODY_TIME, read).await.unwrap_or_else(|_| {
        Err(Problem::with_status(
            StatusCode::REQUEST_TIMEOUT,
            "timeout_error",
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Models;
    use axum::Router;
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_defect_harms_the_request_that_met_it_alone() {
        let app = Arc::new(App::new(Models::new(Vec::new()), None, Hosts::default(), 10, None));
        let routes = Router::new()
            .route(
                "/defect",
                get(|| async {
                    if true {
                        panic!("a defect")
                    }
                }),
            )
            .route("/health", get(crate::plain::health))
            .layer(axum::middleware::from_fn_with_state(app, guard));
        let service = TowerToHyperService::new(routes);
        let ask = |path: &str| {
            let request = Request::builder().uri(path).header(header::HOST, "localhost");
            runtime().block_on(service.call(request.body(Body::empty()).unwrap())).unwrap().status()
        };
        assert_eq!(ask("/defect"), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(ask("/health"), StatusCode::OK);
    }

    #[test]
    fn a_body_that_does_not_come_is_not_waited_for() {
        let never =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>());
        let problem = runtime().block_on(body(never, 10)).unwrap_err();
        assert_eq!(problem.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn a_body_is_taken_up_to_its_limit() {
        assert_eq!(runtime().block_on(body(Body::from("1234567890"), 10)).unwrap(), "1234567890");
        let problem = runtime().block_on(body(Body::from("12345678901"), 10)).unwrap_err();
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
