//! Answers as streams: what an API makes of events, chunk by chunk.

use crate::ask::{Answers, Told};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ingle_engine::EngineError;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;

/// How long a stream is silent at most: a comment in between keeps the connection.
const SILENCE: Duration = Duration::from_secs(10);

/// What becomes of events: an API's chunks.
pub(crate) trait Chunks: Send + 'static {
    /// The chunks before any event.
    fn begin(&mut self) -> Vec<Value>;
    /// The chunks of an event.
    fn told(&mut self, choice: usize, told: Told) -> Vec<Value>;
    /// The chunks after the last answer's end.
    fn end(&mut self) -> Vec<Value>;
    /// The chunk of a failure.
    fn failed(&mut self, error: EngineError) -> Value;
}

/// How chunks go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events without names; the last one says `[DONE]`.
    Data,
    /// Server-sent events named after the `type` of their chunk.
    Named,
    /// A line of JSON each.
    Lines,
}

impl Framing {
    /// The header that says so.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Framing::Data | Framing::Named => "text/event-stream; charset=utf-8",
            Framing::Lines => "application/x-ndjson",
        }
    }

    fn frame(self, chunks: &[Value]) -> String {
        let one = |chunk: &Value| match self {
            Framing::Data => format!("data: {chunk}\n\n"),
            Framing::Named => {
                format!("event: {}\ndata: {chunk}\n\n", chunk["type"].as_str().unwrap_or_default())
            }
            Framing::Lines => format!("{chunk}\n"),
        };
        chunks.iter().map(one).collect()
    }

    /// What keeps a connection while there is nothing to say.
    fn alive(self) -> Option<&'static str> {
        match self {
            Framing::Data | Framing::Named => Some(": still at it\n\n"),
            Framing::Lines => None,
        }
    }
}

/// What is left to send.
struct State<C> {
    framing: Framing,
    answers: Answers,
    chunks: C,
    /// Answers that are not over.
    left: usize,
    begun: bool,
    over: bool,
}

/// Streams `choices` answers.
pub(crate) fn response<C: Chunks>(answers: Answers, chunks: C, choices: usize, framing: Framing) -> Response {
    let state = State { framing, answers, chunks, left: choices, begun: false, over: false };
    let body = Body::from_stream(futures_util::stream::unfold(state, |mut state| async move {
        let text = state.next().await?;
        Some((Ok::<Bytes, Infallible>(text.into()), state))
    }));
    let headers = [(header::CONTENT_TYPE, framing.content_type()), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

impl<C: Chunks> State<C> {
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        if !self.begun {
            self.begun = true;
            let chunks = self.chunks.begin();
            if !chunks.is_empty() {
                return Some(self.framing.frame(&chunks));
            }
        }
        loop {
            let Ok(told) = tokio::time::timeout(SILENCE, self.answers.next()).await else {
                match self.framing.alive() {
                    Some(alive) => return Some(alive.to_owned()),
                    None => continue,
                }
            };
            let mut chunks = match told {
                Some((_, Told::Ended(Err(error)))) => return Some(self.fail(error)),
                Some((choice, told)) => {
                    self.left -= usize::from(matches!(told, Told::Ended(_)));
                    self.chunks.told(choice, told)
                }
                None => return Some(self.fail(EngineError::Gone)),
            };
            if self.left == 0 {
                self.over = true;
                chunks.extend(self.chunks.end());
                let mut last = self.framing.frame(&chunks);
                if self.framing == Framing::Data {
                    last.push_str("data: [DONE]\n\n");
                }
                return Some(last);
            }
            if !chunks.is_empty() {
                return Some(self.framing.frame(&chunks));
            }
        }
    }

    fn fail(&mut self, error: EngineError) -> String {
        self.over = true;
        let chunk = self.chunks.failed(error);
        self.framing.frame(&[chunk])
    }
}
