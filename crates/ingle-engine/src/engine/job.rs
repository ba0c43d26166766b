//! A request on its way.

use super::draft::Draft;
use super::drafter::{Drafted, Joined, Promise};
use super::schedule::Pace;
use super::{OnEnd, OnEvent, Request};
use crate::answer::{Answer, Next};
use crate::error::EngineError;
use crate::generate::{Event, Flow, Usage};
use crate::sampling::logprobs;
use ingle_model::executor::SequenceId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// An answer in the making, or waiting for its turn.
pub(super) struct Job {
    answer: Answer,
    pub(super) client: String,
    pub(super) priority: i32,
    /// Positions it may come to fill: prompt and longest answer, where that is known.
    pub(super) most: Option<usize>,
    cancelled: Arc<AtomicBool>,
    on_event: OnEvent,
    on_end: OnEnd,
    /// Its cache while it is running.
    pub(super) place: Option<Place>,
    pub(super) draft: Draft,
    /// What a small model has of it.
    pub(super) drafted: Option<Drafted>,
    /// What the model's own block has of it.
    pub(super) joined: Option<Joined>,
    /// What the disk has of its prompt.
    pub(super) on_disk: OnDisk,
    /// What a step feeds of it.
    fed_next: Vec<u32>,
    prompt_logprobs: Option<PromptLogprobs>,
    began: Option<Instant>,
    first_token: Option<Instant>,
}

/// What is to be told of a prompt's tokens.
struct PromptLogprobs {
    /// Tokens in whose place others are told.
    count: usize,
    /// The next token to tell of.
    next: usize,
    /// The prompt's length.
    end: usize,
}

/// What the disk has of a prompt that waits.
#[derive(Clone, Debug, Default)]
pub(super) enum OnDisk {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// A file is being read, for which it waits until some time at most. The memory had so many tokens of the prompt.
    Reading { name: String, until: Instant, memory: usize },
    /// It was read.
    Read { memory: usize },
    /// Nothing of use.
    Nothing,
}

/// Where a running job's tokens are cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) sequence: SequenceId,
    /// Tokens of the history that are cached.
    pub(super) fed: usize,
    /// Positions that memory is set aside for.
    pub(super) reserved: usize,
    /// Tokens that were cached before.
    begun_at: usize,
    /// Tokens there were to be fed then.
    goal: usize,
}

impl Job {
    pub(super) fn new(
        answer: Answer,
        request: &Request,
        context: usize,
        cancelled: Arc<AtomicBool>,
        on_event: OnEvent,
        on_end: OnEnd,
    ) -> Job {
        let most =
            request.options.max_tokens.map(|most| (request.prompt.len().saturating_add(most)).min(context));
        Job {
            answer,
            client: request.client.clone(),
            priority: request.priority,
            most,
            cancelled,
            on_event,
            on_end,
            place: None,
            draft: Draft::default(),
            drafted: None,
            joined: None,
            on_disk: OnDisk::default(),
            fed_next: Vec::new(),
            prompt_logprobs: request.prompt_logprobs.map(|count| PromptLogprobs {
                count,
                next: 1,
                end: request.prompt.len(),
            }),
            began: None,
            first_token: None,
        }
    }

    /// Whether it waits for the disk.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.on_disk, OnDisk::Reading { .. })
    }

    /// Whether nobody wants it any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Prompt and answer so far.
    pub(super) fn history(&self) -> &[u32] {
        self.answer.history()
    }

    /// Tokens and seconds so far.
    pub(super) fn usage(&self) -> Usage {
        self.answer.usage()
    }

    /// Tokens that are to be fed before the next one can be chosen; of a job without a place, all.
    pub(super) fn unfed(&self) -> usize {
        self.history().len() - self.place.map_or(0, |place| place.fed)
    }

    /// Tokens of the history that need not be computed if another sequence has them cached. The last one is in any case:
    /// its logits are wanted.
    pub(super) fn most_cached(&self) -> usize {
        let untold = self.untold().map_or(usize::MAX, |prompt| prompt.next - 1);
        (self.history().len() - 1).min(untold)
    }

    fn untold(&self) -> Option<&PromptLogprobs> {
        self.prompt_logprobs.as_ref().filter(|prompt| prompt.next < prompt.end)
    }

    /// Whether the logits of all that is fed next are wanted, because they tell of the prompt.
    pub(super) fn tells_of_prompt(&self) -> bool {
        self.untold().is_some()
    }

    /// Tells of the tokens after those that were just fed, of which the first was at `first`.
    pub(super) fn tell_of_prompt(&mut self, first: usize, rows: &[&[f32]]) -> Flow {
        let Some(prompt) = &mut self.prompt_logprobs else { return Flow::Continue };
        for (at, row) in (first + 1..prompt.end).zip(rows) {
            if at != prompt.next {
                continue;
            }
            let token = self.answer.history()[at];
            prompt.next += 1;
            if (self.on_event)(Event::Asked(token, &logprobs(row, token, prompt.count))) == Flow::Stop {
                return Flow::Stop;
            }
        }
        Flow::Continue
    }

    /// Begins, or begins again, with `fed` tokens found in the cache; tells how many there are to compute. Whether it
    /// goes on.
    pub(super) fn begin(&mut self, sequence: SequenceId, fed: usize, reserved: usize) -> Flow {
        let goal = self.history().len();
        self.place = Some(Place { sequence, fed, reserved, begun_at: fed, goal });
        if self.began.is_none() {
            self.began = Some(Instant::now());
            self.answer.usage.cached_tokens = fed;
        }
        self.tell_prefill()
    }

    /// Guesses at most `most` tokens, in a step of `rows` rows besides, or says how many a drafter is to guess.
    pub(super) fn guess(&mut self, rows: usize, most: usize, pace: &Pace, drafter: Option<Promise>) -> usize {
        self.draft.guess(self.answer.history(), rows, most, pace, drafter)
    }

    /// Takes a guess from a drafter's logits.
    pub(super) fn guess_from(&mut self, logits: &[f32]) {
        let guess = self.answer.would_choose(logits, &self.draft.tokens);
        self.draft.tokens.extend(guess);
    }

    /// Puts together what a step feeds: the next `tokens` tokens of the history, and the guesses.
    pub(super) fn gather(&mut self, tokens: usize) {
        let fed = self.place.map_or(0, |place| place.fed);
        self.fed_next.clear();
        self.fed_next.extend_from_slice(&self.answer.history()[fed..fed + tokens]);
        self.fed_next.extend_from_slice(&self.draft.tokens);
    }

    /// What was [put together](Self::gather).
    pub(super) fn gathered(&self) -> &[u32] {
        &self.fed_next
    }

    /// So many guesses of so many were right.
    pub(super) fn judged(&mut self, right: usize) {
        self.answer.usage.guessed_tokens += self.draft.tokens.len();
        self.answer.usage.right_guesses += right;
        self.draft.judged(right);
    }

    /// So many tokens more are cached.
    pub(super) fn advance(&mut self, tokens: usize) -> Flow {
        let Some(place) = &mut self.place else { return Flow::Continue };
        let prefilling = place.fed < place.goal;
        place.fed += tokens;
        if prefilling { self.tell_prefill() } else { Flow::Continue }
    }

    fn tell_prefill(&mut self) -> Flow {
        let Some(Place { fed, begun_at, goal, .. }) = self.place else { return Flow::Continue };
        // an answer that was put back has been heard of already
        if self.answer.usage.decoded_tokens > 0 {
            return Flow::Continue;
        }
        (self.on_event)(Event::Prefill { done: fed - begun_at, total: goal - begun_at })
    }

    /// Chooses the next token.
    pub(super) fn next(&mut self, logits: &[f32]) -> Result<Next, EngineError> {
        let now = Instant::now();
        if let (None, Some(began)) = (self.first_token, self.began) {
            self.answer.usage.prefill_seconds = now.duration_since(began).as_secs_f64();
            self.first_token = Some(now);
        }
        let next = self.answer.next(logits, &mut *self.on_event);
        if let Some(first) = self.first_token {
            self.answer.usage.decode_seconds = first.elapsed().as_secs_f64();
        }
        next
    }

    /// Whether it was never begun.
    pub(super) fn is_new(&self) -> bool {
        self.began.is_none()
    }

    /// Says how it ended: when the answer is over, or `stopped` before that.
    pub(super) fn end(mut self, stopped: bool) {
        (self.on_end)(match stopped {
            false => Ok(self.answer.into_outcome()),
            true => self.answer.stop(&mut *self.on_event),
        });
    }

    /// Says that it failed.
    pub(super) fn fail(self, error: EngineError) {
        (self.on_end)(Err(error));
    }
}
