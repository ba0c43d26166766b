//! Server-sent events of an answer.

use crate::ask::{Answers, Told};
use axum::body::{Body, Bytes};
use ingle_engine::EngineError;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;

/// How long a stream is silent at most: a comment in between keeps the connection.
const SILENCE: Duration = Duration::from_secs(10);

/// What becomes of events: an API's chunks.
pub(super) trait Chunks: Send + 'static {
    /// The chunks before any event.
    fn begin(&mut self) -> Vec<Value>;
    /// The chunks of an event.
    fn told(&mut self, choice: usize, told: Told) -> Vec<Value>;
    /// The chunks after the last answer's end.
    fn end(&mut self) -> Vec<Value>;
    /// The chunk of a failure.
    fn failed(&mut self, error: EngineError) -> Value;
}

/// What is left to send.
struct State<C> {
    answers: Answers,
    chunks: C,
    /// Answers that are not over.
    left: usize,
    begun: bool,
    over: bool,
}

/// Streams `choices` answers.
pub(super) fn body<C: Chunks>(answers: Answers, chunks: C, choices: usize) -> Body {
    let state = State { answers, chunks, left: choices, begun: false, over: false };
    Body::from_stream(futures_util::stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), state))
    }))
}

impl<C: Chunks> State<C> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.begun {
            self.begun = true;
            let chunks = self.chunks.begin();
            if !chunks.is_empty() {
                return Some(events(&chunks));
            }
        }
        loop {
            let Ok(told) = tokio::time::timeout(SILENCE, self.answers.next()).await else {
                return Some(Bytes::from_static(b": still at it\n\n"));
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
                let mut last = events(&chunks).to_vec();
                last.extend_from_slice(b"data: [DONE]\n\n");
                return Some(last.into());
            }
            if !chunks.is_empty() {
                return Some(events(&chunks));
            }
        }
    }

    fn fail(&mut self, error: EngineError) -> Bytes {
        self.over = true;
        let chunk = self.chunks.failed(error);
        events(&[chunk])
    }
}

fn events(chunks: &[Value]) -> Bytes {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>().into()
}
