//! What is known of a request when it is over: counted for its key, and written as a line.
//!
//! A record belongs to all who do something for the request: its answer's body, and whatever the engine makes of it. With
//! the last of them the request is over, in whatever order they go.

use crate::app::{App, Log};
use crate::guard::limits::Turn;
use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use ingle_engine::{EndReason, EngineError, Outcome};
use serde_json::{Map, Value};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

tokio::task_local! {
    /// The record of the request that the running code is for.
    static CURRENT: Arc<Record>;
}

/// A request's record.
pub(crate) struct Record {
    method: Method,
    path: String,
    started: Instant,
    /// Where its line goes.
    log: Option<Log>,
    /// Whether what was asked is to stand in it.
    wants_prompts: bool,
    /// Its place among its key's requests.
    turn: Option<Turn>,
    /// The name of the key that it came with.
    key: Option<String>,
    facts: Mutex<Facts>,
}

/// What becomes known of it.
#[derive(Debug, Default)]
struct Facts {
    status: Option<StatusCode>,
    /// From the request to the end of its answer's body.
    took: Option<Duration>,
    /// Whether all of the answer was taken.
    whole: bool,
    model: Option<String>,
    prompt_tokens: u64,
    cached_tokens: u64,
    answer_tokens: u64,
    finish: Option<&'static str>,
    /// What was asked, where that is written at all.
    prompts: Vec<String>,
}

impl Record {
    pub(crate) fn new(
        method: Method,
        path: &str,
        key: Option<String>,
        turn: Option<Turn>,
        app: &App,
    ) -> Arc<Record> {
        let path = path.chars().take(200).collect();
        let (started, facts) = (Instant::now(), Mutex::default());
        // not the app itself: it ends the engines, on whose threads a record may come to its own end
        let (log, wants_prompts) = (app.log.clone(), app.log_prompts);
        Arc::new(Record { method, path, started, log, wants_prompts, turn, key, facts })
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Which model it is for.
    pub(crate) fn model(&self, id: &str) {
        self.facts().model = Some(id.to_owned());
    }

    /// What was asked, which is kept only where it is to be written.
    pub(crate) fn asked(&self, prompt: impl FnOnce() -> String) {
        if self.wants_prompts {
            let prompt = prompt();
            self.facts().prompts.push(prompt);
        }
    }

    /// That one of its answers is over.
    pub(crate) fn ended(&self, outcome: &Result<Outcome, EngineError>) {
        match outcome {
            Ok(outcome) => {
                let usage = &outcome.usage;
                // of a prompt that was given up before its end nothing is counted
                let read = usage.decoded_tokens > 0 || usage.prefill_seconds > 0.0;
                let prompt = if read { usage.prompt_tokens } else { usage.cached_tokens };
                self.count(prompt, usage.cached_tokens, usage.decoded_tokens);
                self.facts().finish = Some(match outcome.reason {
                    EndReason::Length | EndReason::ContextFull => "length",
                    EndReason::Stopped => "cancelled",
                    _ if !outcome.calls.is_empty() => "tool_calls",
                    EndReason::EndOfTurn | EndReason::StopText(_) => "stop",
                });
            }
            Err(_) => self.facts().finish = Some("error"),
        }
    }

    /// Tokens that were used: of a prompt, of these found in the cache, and of an answer. A prompt with several answers
    /// counts with each of them; those that begin when it has been read find it in the cache.
    pub(crate) fn count(&self, prompt: usize, cached: usize, answer: usize) {
        let [prompt, cached, answer] = [prompt, cached, answer].map(|tokens| tokens as u64);
        if let Some(turn) = &self.turn {
            turn.count(prompt.saturating_sub(cached) + answer, crate::models::now());
        }
        let mut facts = self.facts();
        facts.prompt_tokens += prompt;
        facts.cached_tokens += cached;
        facts.answer_tokens += answer;
    }

    fn line(&self) -> Value {
        let facts = self.facts();
        let mut line = Map::new();
        let mut say = |name: &str, value: Value| _ = line.insert(name.to_owned(), value);
        say("at", crate::models::now().into());
        say("method", self.method.as_str().into());
        say("path", self.path.as_str().into());
        say("status", facts.status.map(|status| status.as_u16()).into());
        let took = facts.took.unwrap_or_else(|| self.started.elapsed());
        say("milliseconds", (took.as_millis() as u64).into());
        if let Some(key) = &self.key {
            say("key", key.as_str().into());
        }
        if let Some(model) = &facts.model {
            say("model", model.as_str().into());
            say("prompt_tokens", facts.prompt_tokens.into());
            say("cached_tokens", facts.cached_tokens.into());
            say("answer_tokens", facts.answer_tokens.into());
        }
        if let Some(finish) = facts.finish {
            say("finish", finish.into());
        }
        if !facts.prompts.is_empty() {
            say("prompts", facts.prompts.clone().into());
        }
        say("hung_up", (!facts.whole).into());
        line.into()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log(&self.line().to_string());
        }
    }
}

/// Runs `work` for a request.
pub(crate) fn scope<F: Future>(record: Arc<Record>, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(record, work)
}

/// The record of the request that this is for; none where it is for no request.
pub(crate) fn current() -> Option<Arc<Record>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs `work` for the request of `record` on a thread that is not its own.
pub(crate) fn within<T>(record: Option<Arc<Record>>, work: impl FnOnce() -> T) -> T {
    match record {
        Some(record) => CURRENT.sync_scope(record, work),
        None => work(),
    }
}

/// A body that says when it is over.
struct Recorded {
    body: Body,
    record: Option<Arc<Record>>,
}

/// A response's body, at whose end the record knows how long it took, and whether its client took all of it.
pub(crate) fn recorded(body: Body, status: StatusCode, record: Arc<Record>) -> Body {
    record.facts().status = Some(status);
    // an answer to HEAD has no body to take
    let bare = record.method == Method::HEAD;
    let mut recorded = Recorded { body, record: Some(record) };
    match bare {
        true => recorded.over(true),
        false => recorded.look(),
    }
    Body::new(recorded)
}

impl Recorded {
    fn look(&mut self) {
        if self.body.is_end_stream() {
            self.over(true);
        }
    }

    fn over(&mut self, whole: bool) {
        if let Some(record) = self.record.take() {
            let mut facts = record.facts();
            facts.whole = whole;
            facts.took = Some(record.started.elapsed());
        }
    }
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(None) => self.over(true),
            Poll::Ready(Some(Ok(_))) => self.look(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.over(false);
    }
}
