//! The model's own block that predicts a further token.
//!
//! It is fed with the model's last hidden row of every position and the token after it, and has a sequence of its own for
//! every answer. That sequence begins where the first row was heard: positions of a cached beginning have none. Rotary
//! positions are relative, so it knows less then, but nothing wrong. Rows wait until a guess is wanted, or many are there.
//!
//! One token is guessed at a time: for a second one the block would have to go on from its own row, which it was not
//! made for (several such blocks in a row were).

use super::{NEW, Wanted};
use crate::engine::job::Job;
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::spec::{KvFormat, ModelSpec};
use std::time::Instant;

/// Rows that are worth a step of their own.
const MANY: usize = 64;

/// A block at work.
pub(in crate::engine) struct Block {
    executor: Box<dyn Executor>,
    context: usize,
    kv: KvFormat,
    output: StepOutput,
    /// Rows of a step.
    beside: Vec<f32>,
    /// Seconds per step, once there was one.
    seconds: f64,
}

/// What the block has of an answer.
#[derive(Debug)]
pub(in crate::engine) struct Joined {
    sequence: SequenceId,
    /// Position of the first row that waits.
    next: usize,
    /// Those that wait, one after the other.
    rows: Vec<f32>,
}

impl Block {
    pub(super) fn new(executor: Box<dyn Executor>, context: usize, kv: KvFormat) -> Block {
        Block { executor, context, kv, output: StepOutput::default(), beside: Vec::new(), seconds: 0.0 }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    pub(super) fn cache(&self) -> (ModelSpec, KvFormat) {
        (self.executor.spec().clone(), self.kv)
    }

    pub(super) fn kv_bytes(&self) -> u64 {
        self.executor.kv_bytes()
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        self.executor.weight_bytes()
    }

    /// Takes a job's rows from position `first` on; what it has of them already is left as it is.
    pub(super) fn hear(&mut self, job: &mut Job, first: usize, rows: &[f32]) {
        if rows.is_empty() {
            return;
        }
        let width = self.executor.spec().hidden;
        let end = job.joined.as_ref().map(|joined| joined.next + joined.rows.len() / width);
        if end.is_none_or(|end| end < first) {
            self.forget(job);
            let Ok(sequence) = self.executor.open(self.context) else { return };
            job.joined = Some(Joined { sequence, next: first, rows: Vec::new() });
        }
        if let Some(joined) = &mut job.joined {
            let known = end.map_or(0, |end| end.saturating_sub(first));
            joined.rows.extend_from_slice(rows.get(known * width..).unwrap_or_default());
        }
    }

    /// Feeds what waits, and guesses a token of each job that wants one.
    pub(super) fn guess(&mut self, jobs: &mut [Job], wanted: &[Wanted]) {
        let width = self.executor.spec().hidden;
        let wants = |at: usize| wanted.iter().any(|wanted| wanted.job == at);
        let fed: Vec<usize> = (0..jobs.len())
            .filter(|&at| {
                let rows = jobs[at].joined.as_ref().map_or(0, |joined| joined.rows.len() / width);
                rows >= if wants(at) { 1 } else { MANY }
            })
            .collect();
        self.beside.clear();
        let mut slices = Vec::new();
        for &at in &fed {
            let Some(joined) = &jobs[at].joined else { continue };
            let logits = if wants(at) { LogitRows::Last } else { LogitRows::None };
            // a row is joined by the token after it
            let tokens = joined.next + 1..joined.next + 1 + joined.rows.len() / width;
            let Some(tokens) = jobs[at].history().get(tokens) else { continue };
            slices.push(Slice { sequence: joined.sequence, tokens, logits });
            self.beside.extend_from_slice(&joined.rows);
        }
        if slices.is_empty() {
            return;
        }
        let started = Instant::now();
        let batch = Batch { slices: &slices, hidden: Hidden::None, beside: &self.beside };
        let done = self.executor.step(&batch, &mut self.output).is_ok();
        if batch.rows() < MANY {
            let seconds = started.elapsed().as_secs_f64();
            let before = if self.seconds == 0.0 { seconds } else { self.seconds };
            self.seconds = before + NEW * (seconds - before);
        }
        if !done {
            fed.into_iter().for_each(|at| self.forget(&mut jobs[at]));
            return;
        }
        let mut logits = self.output.logits.chunks_exact(self.executor.spec().vocabulary.max(1));
        for at in fed {
            if let Some(joined) = &mut jobs[at].joined {
                joined.next += joined.rows.len() / width;
                joined.rows.clear();
            }
            if wants(at)
                && let Some(logits) = logits.next()
            {
                jobs[at].guess_from(logits);
            }
        }
    }

    pub(super) fn forget(&mut self, job: &mut Job) {
        if let Some(joined) = job.joined.take() {
            self.executor.close(joined.sequence);
        }
    }
}
