//! Prefill and decode: a prompt in, an answer out, token by token.

use crate::answer::{Answer, Next};
use crate::constraint::{Calls, Form};
use crate::error::EngineError;
use crate::model::{Model, Session};
use crate::sampling::{Logprobs, SamplingOptions};
use ingle_model::executor::{Batch, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::spec::{FeedForward, KvBytes, LayerSpec, Load, ModelSpec};
use ingle_text::ToolCall;
use std::time::Instant;

/// What is asked of a run beside its prompt.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Most tokens to make; `None` stops at the context's end.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it. What the model thinks is not searched for them.
    pub stop: Vec<String>,
    /// How the answer is read.
    pub reading: Reading,
    /// Tell how likely each token was, and how likely so many others were in its place.
    pub logprobs: Option<usize>,
    /// The form that what is said has to have.
    pub form: Option<Form>,
    /// How tools are to be called, where the answer is read as a message.
    pub calls: Calls,
}

/// How an answer is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reading {
    /// As text, markers included.
    #[default]
    Text,
    /// As an assistant's message: reasoning, content and calls told apart in the model's dialect.
    Message {
        /// The tools that were offered, in the OpenAI layout: some dialects need the types of their parameters.
        tools: Vec<serde_json::Value>,
    },
}

/// What a run reports while it works.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Prompt tokens computed, of those that were not in the cache.
    Prefill {
        /// So far.
        done: usize,
        /// In all.
        total: usize,
    },
    /// A token was chosen, and how likely it was; where [`GenerateOptions::logprobs`] asks for it. What it says, if it is
    /// certain, comes next.
    Chosen(u32, &'a Logprobs),
    /// A token of the prompt, and how likely it was after those before it; where a request asks for it. They come in
    /// their order, from the second one on: nothing is before the first.
    Asked(u32, &'a Logprobs),
    /// The next piece of what is said: whole characters, perhaps none.
    Content(&'a str),
    /// The next piece of what the model thinks.
    Reasoning(&'a str),
    /// A call of a tool, whole. It has an id that occurs once in the conversation.
    Call(&'a ToolCall),
    /// Something to tell the person, such as a call that cannot be read and comes as content.
    Notice(&'a str),
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop after this step; what was said so far stands.
    Stop,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The model ended its turn.
    EndOfTurn,
    /// The most tokens asked for were made.
    Length,
    /// The context is full.
    ContextFull,
    /// A stop text appeared.
    StopText(String),
    /// The listener said so.
    Stopped,
}

/// Tokens and seconds of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, taken from the cache.
    pub cached_tokens: usize,
    /// Seconds to compute the rest.
    pub prefill_seconds: f64,
    /// Tokens made.
    pub decoded_tokens: usize,
    /// Of these, thought, not said; markers count with what they end.
    pub reasoning_tokens: usize,
    /// Seconds from the first to the last of them.
    pub decode_seconds: f64,
    /// Tokens guessed ahead (speculative decoding).
    pub guessed_tokens: usize,
    /// Of these, right.
    pub right_guesses: usize,
    /// Rows of logits from which a constraint ruled tokens out.
    pub masks: usize,
    /// Seconds that took.
    pub mask_seconds: f64,
    /// Of these, seconds in which the network did not compute meanwhile.
    pub mask_wait_seconds: f64,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Usage {
    /// Prompt tokens computed per second; `None` when none were.
    pub fn prefill_rate(&self) -> Option<f64> {
        let computed = self.prompt_tokens - self.cached_tokens;
        (computed > 0 && self.prefill_seconds > 0.0).then(|| computed as f64 / self.prefill_seconds)
    }

    /// Steps per second after the first token, which the prefill yields.
    pub fn decode_rate(&self) -> Option<f64> {
        let steps = self.decoded_tokens.saturating_sub(1);
        (steps > 0 && self.decode_seconds > 0.0).then(|| steps as f64 / self.decode_seconds)
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was said.
    pub text: String,
    /// What was thought, where the answer was read as a message.
    pub reasoning: String,
    /// The calls, likewise; their arguments are the text of JSON.
    pub calls: Vec<ToolCall>,
    /// What was told beside the answer.
    pub notices: Vec<String>,
    /// Its tokens, without the one that ended the turn.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub reason: EndReason,
    /// Tokens and seconds.
    pub usage: Usage,
}

/// Prompt tokens per step at least: fewer would leave the processor waiting for weights.
const LEAST_ROWS: usize = 64;
/// Prompt tokens per step at most: more are no faster.
const MOST_ROWS: usize = 256;
/// Operations of a step that a small machine does within a second or two.
const STEP_OPERATIONS: f64 = 1e12;
/// Tokens per step that an expert should meet on average: its weights are read once for all of them, and the products
/// take several at a time.
const ROWS_PER_EXPERT: usize = 32;

/// Prompt tokens per step: enough to use the processor well, few enough to hear of a stop within a second or two. The
/// same on every machine, so that a prompt is computed in the same steps everywhere.
pub fn prefill_rows(spec: &ModelSpec) -> usize {
    let token = Load { tokens: 1, logits: 0, sequences: 1, context: 0 };
    let operations = spec.step_cost(&token, KvBytes::F16).operations;
    let of = |layer: &LayerSpec| match &layer.feed_forward {
        FeedForward::Experts(moe) => ROWS_PER_EXPERT.saturating_mul(moe.experts) / moe.used.max(1),
        _ => 0,
    };
    rows_at_once(operations, spec.layers.iter().map(of).max().unwrap_or(0))
}

/// The same from a token's operations, and the tokens with which experts have enough to do.
fn rows_at_once(operations: f64, for_experts: usize) -> usize {
    let rows = (STEP_OPERATIONS / operations.max(1.0)) as usize / LEAST_ROWS * LEAST_ROWS;
    rows.max(for_experts).clamp(LEAST_ROWS, MOST_ROWS)
}

impl Model {
    /// Answers a prompt. Whatever the session's cache shares with the prompt's beginning is not computed again.
    ///
    /// # Errors
    /// An empty prompt or one that does not fit, impossible sampling options, an executor that fails. The session
    /// stays usable.
    pub fn generate(
        &mut self,
        session: &mut Session,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event) -> Flow,
    ) -> Result<Outcome, EngineError> {
        if self.spec().head.is_none() {
            return Err(EngineError::OnlyEmbeds);
        }
        let context = self.context();
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt.len() >= context {
            return Err(EngineError::PromptTooLong { prompt: prompt.len(), context });
        }
        let vocabulary = self.spec().vocabulary;
        let mut answer = Answer::new(&self.language, prompt, options, context, vocabulary)?;
        let mut output = StepOutput::default();
        if self.prefill(session, prompt, &mut answer, &mut output, on_event)? == Flow::Stop {
            return answer.stop(on_event);
        }
        let started = Instant::now();
        while let Next::Feed(token) = answer.next(&output.logits, on_event)? {
            let slices = [Slice { sequence: session.sequence, tokens: &[token], logits: LogitRows::Last }];
            self.executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output)?;
            session.tokens.push(token);
        }
        answer.usage.decode_seconds = started.elapsed().as_secs_f64();
        Ok(answer.into_outcome())
    }

    /// Brings the cache to the whole prompt and the logits to its last token.
    fn prefill(
        &mut self,
        session: &mut Session,
        prompt: &[u32],
        answer: &mut Answer,
        output: &mut StepOutput,
        on_event: &mut dyn FnMut(Event) -> Flow,
    ) -> Result<Flow, EngineError> {
        let shared = prompt.iter().zip(&session.tokens).take_while(|(a, b)| a == b).count();
        let cached = shared.min(prompt.len() - 1); // the last token is computed in any case: its logits are wanted
        let cached = self.executor.truncate(session.sequence, cached)?;
        session.tokens.truncate(cached);
        answer.usage.cached_tokens = cached;
        let started = Instant::now();
        let total = prompt.len() - cached;
        let mut flow = on_event(Event::Prefill { done: 0, total });
        for chunk in prompt[cached..].chunks(prefill_rows(self.executor.spec())) {
            if flow == Flow::Stop {
                break;
            }
            let last = session.tokens.len() + chunk.len() == prompt.len();
            let logits = if last { LogitRows::Last } else { LogitRows::None };
            let slices = [Slice { sequence: session.sequence, tokens: chunk, logits }];
            self.executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, output)?;
            session.tokens.extend_from_slice(chunk);
            flow = on_event(Event::Prefill { done: session.tokens.len() - cached, total });
        }
        answer.usage.prefill_seconds = started.elapsed().as_secs_f64();
        Ok(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_model::{Source, families};
    use std::path::Path;

    #[test]
    fn steps_are_longer_where_tokens_cost_little_or_experts_share_them() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingle-cpu/tests/fixtures");
        let spec = |name| families::describe(&Source::open(&fixtures.join(name)).unwrap()).unwrap();
        // these have almost nothing to do per token
        assert_eq!(prefill_rows(&spec("gguf/qwen3.gguf")), 256);
        assert_eq!(prefill_rows(&spec("gguf/qwen3_moe.gguf")), 256);
        for (parameters, for_experts, rows) in [
            (0.6e9, 0, 256),
            (4e9, 0, 64),
            (2.5e9, 0, 192),
            (70e9, 0, 64),
            (0.0, 0, 256),
            (12e9, 96, 96),
            (12e9, 256, 256),
            (12e9, 1024, 256),
        ] {
            assert_eq!(rows_at_once(2.0 * parameters, for_experts), rows, "{parameters} {for_experts}");
        }
    }
}
