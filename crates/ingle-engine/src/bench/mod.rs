//! Measuring prefill and decode, each beside what the machine allows.
//!
//! A [`Case`] is run some times over random tokens. Before, after and every fifth of a second in between, what the
//! machine can do at most is sampled ([`Limits`]); with the bytes and operations that the network's description counts
//! ([`ModelSpec::step_cost`]) this gives the shortest time each repeat could have taken:
//!
//! `least seconds = max(bytes / bytes per second, integers / integers per second + floats / floats per second)`
//!
//! Choosing tokens (sampling) is not part of what is measured.

mod figure;
mod quiet;

pub use figure::{Case, Figure, Repeat, Spread, Work, median};
pub use quiet::{Disturbance, Quiet};

use crate::generate::{Flow, prefill_rows};
use ingle_cpu::Limits;
use ingle_model::executor::{
    Batch, Executor, ExecutorError, Hidden, LogitRows, SequenceId, Slice, StepOutput,
};
use ingle_model::spec::{KvBytes, ModelSpec, Rates};
use std::time::{Duration, Instant};

/// How long is measured between two samples of the limits.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(200);

/// Tokens that warm caches and memory up.
const WARM_UP: usize = 4;

/// An executor under measurement.
pub struct Bench<'a> {
    executor: &'a mut dyn Executor,
    limits: &'a Limits,
    kv: KvBytes,
    /// Positions of every sequence.
    context: usize,
    sequences: Vec<SequenceId>,
    random: Random,
    output: StepOutput,
}

impl<'a> Bench<'a> {
    /// Measures `executor` beside `limits`, which must stand for the same threads. Sequences are opened for `context`
    /// tokens, the most that any case needs, and hold `kv` bytes per value.
    pub fn new(executor: &'a mut dyn Executor, limits: &'a Limits, kv: KvBytes, context: usize) -> Bench<'a> {
        let sequences = Vec::new();
        Bench { executor, limits, kv, context, sequences, random: Random(1), output: StepOutput::default() }
    }

    /// Runs a case `repeats` times after a warm-up. `watch` hears of tokens computed, filling the cache up to the case's
    /// depth included, and can stop the run, which then gives what was measured so far.
    ///
    /// # Errors
    /// What the executor fails with, such as no memory for the cache or a case that the context does not hold.
    pub fn measure(
        &mut self,
        case: Case,
        repeats: usize,
        watch: &mut dyn FnMut(usize) -> Flow,
    ) -> Result<Figure, ExecutorError> {
        let cost = case.cost(self.executor.spec(), self.kv);
        let mut figure =
            Figure { case, threads: self.limits.cpu().pool.threads(), cost, repeats: Vec::new() };
        if self.fill(case, watch)? == Flow::Stop || self.warm_up(case)? == Flow::Stop {
            return Ok(figure);
        }
        for _ in 0..repeats {
            if self.fill(case, watch)? == Flow::Stop {
                break;
            }
            match self.repeat(case, watch)? {
                Some(repeat) => figure.repeats.push(repeat),
                None => break,
            }
        }
        Ok(figure)
    }

    /// Brings as many sequences as the case has to its depth.
    fn fill(&mut self, case: Case, watch: &mut dyn FnMut(usize) -> Flow) -> Result<Flow, ExecutorError> {
        while self.sequences.len() < case.batch() {
            self.sequences.push(self.executor.open(self.context)?);
        }
        let at_once = prefill_rows(self.executor.spec());
        for at in 0..case.batch() {
            let sequence = self.sequences[at];
            self.executor.truncate(sequence, case.depth)?;
            while self.executor.length(sequence) < case.depth {
                let missing = case.depth - self.executor.length(sequence);
                let tokens = self.tokens(missing.min(at_once));
                self.step(&[Slice { sequence, tokens: &tokens, logits: LogitRows::None }])?;
                if watch(tokens.len()) == Flow::Stop {
                    return Ok(Flow::Stop);
                }
            }
        }
        Ok(Flow::Continue)
    }

    /// The first steps of the case, which touch code and memory for the first time.
    fn warm_up(&mut self, case: Case) -> Result<Flow, ExecutorError> {
        let work = match case.work {
            Work::Prefill { tokens } => {
                Work::Prefill { tokens: tokens.min(prefill_rows(self.executor.spec())) }
            }
            Work::Decode { tokens, batch } => Work::Decode { tokens: tokens.min(WARM_UP), batch },
        };
        let done = self.repeat(Case { work, ..case }, &mut |_| Flow::Continue)?;
        Ok(if done.is_some() { Flow::Continue } else { Flow::Stop })
    }

    /// One run of the case; `None` if it was stopped.
    fn repeat(
        &mut self,
        case: Case,
        watch: &mut dyn FnMut(usize) -> Flow,
    ) -> Result<Option<Repeat>, ExecutorError> {
        let steps = case.steps(self.executor.spec());
        let mut samples = vec![self.limits.sample()];
        let (mut all, mut since_sample) = (Duration::ZERO, Duration::ZERO);
        for (index, load) in steps.iter().enumerate() {
            let rows = (load.tokens / load.sequences) as usize;
            let tokens = self.tokens(load.tokens as usize);
            let logits = if load.logits > 0 { LogitRows::Last } else { LogitRows::None };
            let slices: Vec<Slice> = tokens
                .chunks(rows)
                .zip(&self.sequences)
                .map(|(tokens, &sequence)| Slice { sequence, tokens, logits })
                .collect();
            let started = Instant::now();
            self.executor
                .step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut self.output)?;
            let took = started.elapsed();
            (all, since_sample) = (all + took, since_sample + took);
            if watch(tokens.len()) == Flow::Stop {
                return Ok(None);
            }
            if since_sample >= BETWEEN_SAMPLES && index + 1 < steps.len() {
                samples.push(self.limits.sample());
                since_sample = Duration::ZERO;
            }
        }
        samples.push(self.limits.sample());
        Ok(Some(Repeat { seconds: all.as_secs_f64(), rates: on_average(&samples) }))
    }

    fn step(&mut self, slices: &[Slice]) -> Result<(), ExecutorError> {
        self.executor.step(&Batch { slices, hidden: Hidden::None, beside: &[] }, &mut self.output)
    }

    fn tokens(&mut self, count: usize) -> Vec<u32> {
        let vocabulary = self.executor.spec().vocabulary;
        (0..count).map(|_| self.random.token(vocabulary)).collect()
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        for sequence in self.sequences.drain(..) {
            self.executor.close(sequence);
        }
    }
}

/// Bytes of a step of the work to be measured, for what a sample of the memory's speed should read.
pub fn step_bytes(spec: &ModelSpec, kv: KvBytes) -> u64 {
    spec.step_cost(&ingle_model::spec::Load::decode(0), kv).bytes() as u64
}

/// What all samples together did per second: the same amount of each at every sample's speed.
fn on_average(samples: &[Rates]) -> Rates {
    let mean = |of: fn(&Rates) -> f64| {
        let seconds: f64 = samples.iter().map(|rates| 1.0 / of(rates)).sum();
        samples.len() as f64 / seconds
    };
    Rates {
        bytes: mean(|r| r.bytes),
        integers: mean(|r| r.integers),
        words: mean(|r| r.words),
        floats: mean(|r| r.floats),
    }
}

/// Tokens without a pattern, the same in every run.
struct Random(u32);

impl Random {
    fn token(&mut self, vocabulary: usize) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % u32::try_from(vocabulary.max(1)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
