//! One answer in the making: from a row of logits to the next token, and to the events it causes.

use crate::constraint::Constraint;
use crate::error::EngineError;
use crate::generate::{EndReason, Event, GenerateOptions, Outcome, Usage};
use crate::language::Language;
use crate::listener::{Heard, Listener, OnEvent, Wanted};
use crate::sampling::{Sampler, logprobs};
use ingle_text::Ending;
use std::sync::Arc;

/// What comes after a row of logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This token wants to be fed.
    Feed(u32),
    /// The answer is over.
    End,
}

/// An answer that is not over.
pub(crate) struct Answer {
    language: Arc<Language>,
    options: GenerateOptions,
    sampler: Sampler,
    /// What it is held to.
    constraint: Option<Constraint>,
    listener: Listener,
    /// Prompt and answer so far. All but the last token are fed, or on their way.
    history: Vec<u32>,
    context: usize,
    reason: Option<EndReason>,
    pub(crate) usage: Usage,
}

impl Answer {
    /// To a prompt that the context has room for.
    ///
    /// # Errors
    /// Impossible sampling options.
    pub(crate) fn new(
        language: &Arc<Language>,
        prompt: &[u32],
        options: &GenerateOptions,
        context: usize,
        vocabulary: usize,
    ) -> Result<Answer, EngineError> {
        let sampler = Sampler::new(options.sampling.clone(), vocabulary)?;
        let constraint = Constraint::new(language, prompt, options, vocabulary)?;
        let reader = language.reader(prompt, &options.reading)?;
        Ok(Answer {
            listener: Listener::new(language.tokenizer(), reader, &options.stop),
            usage: Usage { prompt_tokens: prompt.len(), seed: sampler.seed(), ..Usage::default() },
            language: language.clone(),
            options: options.clone(),
            sampler,
            constraint,
            history: prompt.to_vec(),
            context,
            reason: None,
        })
    }

    /// Prompt and answer so far.
    pub(crate) fn history(&self) -> &[u32] {
        &self.history
    }

    /// Tokens and seconds so far.
    pub(crate) fn usage(&self) -> Usage {
        let spent = self.constraint.as_ref().map(Constraint::spent).unwrap_or_default();
        let (masks, mask_seconds, mask_wait_seconds) = (spent.masks, spent.seconds, spent.waited);
        Usage { masks, mask_seconds, mask_wait_seconds, ..self.usage }
    }

    /// Chooses the token after the history from its logits, and tells what it says.
    ///
    /// # Errors
    /// Logits that cannot be sampled.
    pub(crate) fn next(&mut self, logits: &[f32], on_event: OnEvent) -> Result<Next, EngineError> {
        let most = self.options.max_tokens.unwrap_or(usize::MAX);
        if self.usage.decoded_tokens >= most {
            return self.end(EndReason::Length, None, on_event);
        }
        let row = match &mut self.constraint {
            Some(constraint) => constraint.mask(logits)?,
            None => logits,
        };
        let token = self.sampler.sample(row, &self.history, self.history.len() as u64)?;
        if self.language.ends(token) {
            let marker = self.language.is_marker(token, &self.options.reading).then_some(token);
            return self.end(EndReason::EndOfTurn, marker, on_event);
        }
        self.history.push(token);
        self.usage.decoded_tokens += 1;
        self.usage.reasoning_tokens += usize::from(self.listener.is_thinking());
        if let Some(count) = self.options.logprobs {
            on_event(Event::Chosen(token, &logprobs(logits, token, count)));
        }
        let complete = match &mut self.constraint {
            Some(constraint) => constraint.take(token)?,
            None => false,
        };
        let wanted = self.listener.token(token, self.history.len(), on_event)?;
        let complete = complete || (self.options.calls.single && self.listener.has_call());
        match wanted {
            Wanted::Stop(stop) => {
                self.reason = Some(EndReason::StopText(stop));
                Ok(Next::End)
            }
            Wanted::Enough => self.end(EndReason::Stopped, None, on_event),
            // what was asked for is there, and nothing more was
            Wanted::More if complete => self.end(EndReason::EndOfTurn, None, on_event),
            Wanted::More if self.history.len() >= self.context => {
                self.end(EndReason::ContextFull, None, on_event)
            }
            Wanted::More if self.usage.decoded_tokens >= most => self.end(EndReason::Length, None, on_event),
            Wanted::More => Ok(Next::Feed(token)),
        }
    }

    /// What would be chosen from these logits after the history and some guesses; no token that ends the answer.
    pub(crate) fn would_choose(&mut self, logits: &[f32], guesses: &[u32]) -> Option<u32> {
        let before = self.history.len();
        self.history.extend_from_slice(guesses);
        let token = self.sampler.sample(logits, &self.history, self.history.len() as u64);
        self.history.truncate(before);
        token.ok().filter(|&token| !self.language.ends(token))
    }

    /// Ends it where it is, because nobody listens any more.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn stop(mut self, on_event: OnEvent) -> Result<Outcome, EngineError> {
        self.end(EndReason::Stopped, None, on_event)?;
        Ok(self.into_outcome())
    }

    fn end(
        &mut self,
        reason: EndReason,
        marker: Option<u32>,
        on_event: OnEvent,
    ) -> Result<Next, EngineError> {
        let ending = if reason == EndReason::EndOfTurn { Ending::Turn } else { Ending::Cut };
        self.reason = Some(match self.listener.finish(marker, ending, self.history.len() + 1, on_event)? {
            Wanted::Stop(stop) => EndReason::StopText(stop),
            Wanted::More | Wanted::Enough => reason,
        });
        Ok(Next::End)
    }

    /// What became of it, when it is over.
    pub(crate) fn into_outcome(mut self) -> Outcome {
        let usage = self.usage();
        let Heard { text, reasoning, calls, notices } = self.listener.into_heard();
        let tokens = self.history.split_off(self.usage.prompt_tokens);
        let reason = self.reason.unwrap_or(EndReason::Stopped);
        Outcome { text, reasoning, calls, notices, tokens, reason, usage }
    }
}
