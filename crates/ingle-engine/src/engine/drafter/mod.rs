//! What guesses ahead beside earlier text: a small model, or a block of the model's own.

mod block;
mod small;

use super::job::Job;
use crate::error::EngineError;
use crate::model::Model;
use block::Block;
pub(super) use block::Joined;
use ingle_model::spec::{KvFormat, ModelSpec};
pub(super) use small::Drafted;
use small::Small;

/// How much the latest step says about the time of the next.
const NEW: f64 = 0.2;

/// One of the two at work.
pub(super) enum Drafter {
    Small(Small),
    Block(Block),
}

/// What it promises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// About how long a guess takes.
    pub(super) seconds: f64,
    /// Most guesses at a time.
    pub(super) most: usize,
}

/// Tokens that are wanted of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Which of the running jobs.
    pub(super) job: usize,
    /// How many tokens.
    pub(super) count: usize,
}

impl Drafter {
    /// Of a small model with the same tokens as the one it guesses for.
    ///
    /// # Errors
    /// A model with other tokens, or none that writes.
    pub(super) fn small(model: Model, target: &Model) -> Result<Drafter, EngineError> {
        Small::new(model, target).map(Drafter::Small)
    }

    /// Of the model's own block, if it was loaded with it.
    pub(super) fn block(model: &mut Model) -> Option<Drafter> {
        let executor = model.next_token.take()?;
        Some(Drafter::Block(Block::new(executor, model.context(), model.kv_format())))
    }

    pub(super) fn promise(&self) -> Promise {
        match self {
            Drafter::Small(small) => Promise { seconds: small.seconds(), most: usize::MAX },
            Drafter::Block(block) => Promise { seconds: block.seconds(), most: 1 },
        }
    }

    /// What is cached, and how.
    pub(super) fn cache(&self) -> (ModelSpec, KvFormat) {
        match self {
            Drafter::Small(small) => small.cache(),
            Drafter::Block(block) => block.cache(),
        }
    }

    /// Bytes of its cache.
    pub(super) fn kv_bytes(&self) -> u64 {
        match self {
            Drafter::Small(small) => small.kv_bytes(),
            Drafter::Block(block) => block.kv_bytes(),
        }
    }

    /// Bytes of weights that only it has.
    pub(super) fn weight_bytes(&self) -> u64 {
        match self {
            Drafter::Small(small) => small.weight_bytes(),
            Drafter::Block(block) => block.weight_bytes(),
        }
    }

    /// Guesses what jobs will say. A failure means fewer guesses, and harms nobody.
    pub(super) fn guess(&mut self, jobs: &mut [Job], wanted: &[Wanted]) {
        match self {
            Drafter::Small(small) => small.guess(jobs, wanted),
            Drafter::Block(block) => block.guess(jobs, wanted),
        }
    }

    /// Whether it works with the large model's hidden rows.
    pub(super) fn takes_rows(&self) -> bool {
        matches!(self, Drafter::Block(_))
    }

    /// Takes a job's hidden rows from position `first` on.
    pub(super) fn hear(&mut self, job: &mut Job, first: usize, rows: &[f32]) {
        if let Drafter::Block(block) = self {
            block.hear(job, first, rows);
        }
    }

    /// Forgets what it had of a job.
    pub(super) fn forget(&mut self, job: &mut Job) {
        match self {
            Drafter::Small(small) => small.forget(job),
            Drafter::Block(block) => block.forget(job),
        }
    }
}
