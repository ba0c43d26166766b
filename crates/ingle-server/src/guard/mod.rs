//! What stands before every route: who may ask, from where, and how much.

pub(crate) mod keys;
pub(crate) mod limits;
mod origin;

use crate::app::App;
use crate::problem::Problem;
use crate::record::{self, Record};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt};
use keys::{Key, Role};
use limits::Turn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) use origin::Hosts;

/// The longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// How many came before it.
    pub(crate) number: u64,
    /// Whether it came by a socket in the file system, which no web page reaches.
    pub(crate) by_file: bool,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The name of a key. Where there are none, everybody is their connection, so that nobody's many requests keep others
    /// waiting.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
}

/// Whether `client` may change which models there are; routes that do so call this first.
///
/// # Errors
/// Whoever may only ask models.
pub(crate) fn may_manage(client: &Client) -> Result<(), Problem> {
    match client.role {
        Role::Manage => Ok(()),
        Role::Infer => Err(Problem::forbidden(
            "to change which models there are takes a key of the role `manage`; make one with `ingle key new NAME --role \
             manage --keys FILE`",
        )),
    }
}

/// Lets a request through, or refuses it in the shape of the API it is for.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let method = request.method().clone();
    let checked = check(&app, &request).and_then(|(client, key)| Ok((admit(key, &method)?, client, key)));
    let (client, key, turn) = match checked {
        Ok((turn, client, key)) => (Ok(client), key, turn),
        Err(problem) => (Err(problem), None, None),
    };
    let record = Record::new(method.clone(), &path, key.map(|key| key.name.clone()), turn, &app);
    let mut response = match client {
        Ok(_) if method == Method::OPTIONS => preflight(),
        Ok(client) => {
            request.extensions_mut().insert(client);
            // a defect of the program harms the request that met it, and no other
            let running = record::scope(record.clone(), next.run(request));
            std::panic::AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| {
                let message = "the request met a defect of the program; please report it";
                crate::app::refusal(&path, Problem::internal(message))
            })
        }
        Err(problem) => {
            discard(request.into_body()).await;
            crate::app::refusal(&path, problem)
        }
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
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        // a queue that is full may not be so in a moment
        response.headers_mut().entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
    }
    response.map(|body| record::recorded(body, status, record))
}

/// A place for a request among those of its key, where it asks for something.
fn admit(key: Option<&Key>, method: &Method) -> Result<Option<Turn>, Problem> {
    let Some(key) = key.filter(|_| method == Method::POST) else { return Ok(None) };
    key.account.admit(&key.name, key.limits, std::time::Instant::now(), crate::models::now()).map(Some)
}

/// Who asks, if they may, and with which key.
fn check<'a>(app: &'a App, request: &Request) -> Result<(Client, Option<&'a Key>), Problem> {
    let headers = request.headers();
    // what a proxy says of itself (X-Forwarded-Host) anybody can say
    let host = headers.get(header::HOST);
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = authority.or_else(|| host.and_then(|host| host.to_str().ok()).map(str::to_owned));
    let peer = request.extensions().get::<Peer>().copied();
    let by_file = peer.is_some_and(|peer| peer.by_file);
    if !by_file && !host.as_deref().is_some_and(|host| app.hosts.allows_host(host)) {
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
        return Ok((Client { name: String::new(), role: Role::Infer }, None));
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
        let name = peer.map(|Peer { number, .. }| format!("connection {number}")).unwrap_or_default();
        // whoever can reach the server may ask it, but not everybody who can may change it
        let role = if app.hosts.beyond { Role::Infer } else { Role::Manage };
        return Ok((Client { name, role }, None));
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
        Some(found) => Ok((Client { name: found.name.clone(), role: found.role }, Some(found))),
        None => Err(Problem::unauthorised("this key is not known here")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// What a browser asks before it asks.
fn preflight() -> Response {
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

/// Listens to a body that is not wanted, for a while, for the same reason.
async fn discard(body: Body) {
    const MOST: usize = 16 << 20;
    const TIME: Duration = Duration::from_secs(5);
    let read = async {
        let (mut parts, mut length) = (body.into_data_stream(), 0usize);
        while let (true, Some(Ok(part))) = (length < MOST, parts.next().await) {
            length += part.len();
        }
    };
    _ = tokio::time::timeout(TIME, read).await;
}

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
        let models = Arc::new(Models::new(Vec::new(), Default::default()));
        let app = Arc::new(App::new(models, None, Hosts::default(), 10, None, false));
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
