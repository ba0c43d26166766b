//! A small model that guesses what a large one will say.
//!
//! It has a sequence of its own for every answer that it guesses for, and lags behind: what the answer has come to say since
//! it guessed last is fed first. Its guesses are chosen by the answer's own rule, with the random numbers that the
//! answer will use: where the two models think alike, they then choose alike, whatever the temperature.

use super::{NEW, Wanted};
use crate::engine::draft::MOST_GUESSES;
use crate::engine::job::Job;
use crate::error::EngineError;
use crate::model::Model;
use ingle_model::executor::{Batch, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::spec::{KvFormat, ModelSpec};

/// Tokens of a prompt that are fed between two steps of the large model: others wait meanwhile.
const PROMPT_ROWS: usize = 64;
/// Tokens that a step of guessing takes along.
const ALONG: usize = 16;
/// A small model at work.
pub(in crate::engine) struct Small {
    model: Model,
    output: StepOutput,
    /// Seconds per step, once there was one.
    seconds: f64,
}

/// What a small model has of an answer.
#[derive(Debug)]
pub(in crate::engine) struct Drafted {
    sequence: SequenceId,
    /// The tokens that are cached: of the answer, and guesses that may have been wrong.
    tokens: Vec<u32>,
}

impl Small {
    /// Of a model with the same tokens as the one it guesses for.
    ///
    /// # Errors
    /// A model with other tokens, or none that writes.
    pub(super) fn new(model: Model, target: &Model) -> Result<Small, EngineError> {
        let (ours, theirs) = (model.language().tokenizer(), target.language().tokenizer());
        if model.spec().head.is_none() {
            return Err(EngineError::OnlyEmbeds);
        }
        let tokens = theirs.vocab_size();
        let other = (0..tokens as u32).find(|&id| ours.token_bytes(id) != theirs.token_bytes(id));
        if ours.vocab_size() != tokens || other.is_some() {
            return Err(EngineError::OtherTokens { ours: ours.vocab_size(), theirs: tokens, other });
        }
        Ok(Small { model, output: StepOutput::default(), seconds: 0.0 })
    }

    /// About how long a guess takes.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// What is cached, and how.
    pub(super) fn cache(&self) -> (ModelSpec, KvFormat) {
        (self.model.spec().clone(), self.model.kv_format())
    }

    /// Bytes of its cache.
    pub(super) fn kv_bytes(&self) -> u64 {
        self.model.kv_bytes()
    }

    /// Bytes of its weights.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }

    /// Guesses what jobs will say. A failure means fewer guesses, and harms nobody.
    pub(super) fn guess(&mut self, jobs: &mut [Job], wanted: &[Wanted]) {
        let wanted: Vec<Wanted> =
            wanted.iter().copied().filter(|wanted| self.catch_up(&mut jobs[wanted.job])).collect();
        let most = wanted.iter().map(|wanted| wanted.count).max().unwrap_or(0);
        let vocabulary = self.model.spec().vocabulary;
        for at in 0..most {
            let some: Vec<Wanted> = wanted
                .iter()
                .copied()
                // a guess that could not be made ends the row
                .filter(|wanted| wanted.count > at && jobs[wanted.job].draft.tokens.len() == at)
                .collect();
            let feeds: Vec<(SequenceId, Vec<u32>)> = some
                .iter()
                .filter_map(|wanted| {
                    let job = &jobs[wanted.job];
                    let drafted = job.drafted.as_ref()?;
                    let said = job.history().iter().chain(&job.draft.tokens);
                    Some((drafted.sequence, said.skip(drafted.tokens.len()).copied().collect()))
                })
                .collect();
            if !self.step(&feeds, LogitRows::Last) {
                return;
            }
            let logits = self.output.logits.chunks_exact(vocabulary);
            for ((wanted, (_, fed)), logits) in some.iter().zip(feeds).zip(logits) {
                let job = &mut jobs[wanted.job];
                if let Some(drafted) = &mut job.drafted {
                    drafted.tokens.extend(fed);
                }
                job.guess_from(logits);
            }
        }
    }

    /// Brings a job's sequence to what has been said. Whether the last token is all that is missing.
    fn catch_up(&mut self, job: &mut Job) -> bool {
        if job.drafted.is_none() {
            let Ok(sequence) = self.model.executor.open(self.model.context()) else { return false };
            job.drafted = Some(Drafted { sequence, tokens: Vec::new() });
        }
        let Some(mut drafted) = job.drafted.take() else { return false };
        let history = job.history();
        let same = drafted.tokens.iter().zip(history).take_while(|(a, b)| a == b).count();
        // the last token is fed in any case: its logits are wanted
        let same = same.min(history.len() - 1);
        let kept = self.model.executor.truncate(drafted.sequence, same).unwrap_or(0);
        drafted.tokens.truncate(kept);
        let missing = &history[kept..history.len() - 1];
        let piece = &missing[..missing.len().min(PROMPT_ROWS)];
        let mut here = missing.len() <= ALONG;
        if !here && history.len() < self.model.context() {
            if self.step(&[(drafted.sequence, piece.to_vec())], LogitRows::None) {
                drafted.tokens.extend_from_slice(piece);
            }
            here = drafted.tokens.len() + 1 == history.len();
        }
        let room = history.len() + MOST_GUESSES < self.model.context();
        job.drafted = Some(drafted);
        here && room
    }

    fn step(&mut self, feeds: &[(SequenceId, Vec<u32>)], logits: LogitRows) -> bool {
        let slice = |(sequence, tokens)| Slice { sequence, tokens, logits };
        let slices: Vec<Slice> = feeds.iter().map(|(id, tokens)| slice((*id, tokens.as_slice()))).collect();
        if slices.is_empty() {
            return false;
        }
        let started = std::time::Instant::now();
        let batch = Batch { slices: &slices, hidden: Hidden::None, beside: &[] };
        let done = self.model.executor.step(&batch, &mut self.output).is_ok();
        if logits == LogitRows::Last {
            let seconds = started.elapsed().as_secs_f64();
            let before = if self.seconds == 0.0 { seconds } else { self.seconds };
            self.seconds = before + NEW * (seconds - before);
        }
        done
    }

    /// Forgets what it had of a job.
    pub(super) fn forget(&mut self, job: &mut Job) {
        if let Some(drafted) = job.drafted.take() {
            self.model.executor.close(drafted.sequence);
        }
    }
}
