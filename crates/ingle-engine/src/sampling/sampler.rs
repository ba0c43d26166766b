//! The sampler: one row of logits in, one token id out.

use super::candidate::{Candidate, collect, row_max};
use super::dry::{DryScratch, apply_dry};
use super::error::SamplingError;
use super::options::{SamplingOptions, Window};
use super::penalty::{apply_bias, apply_penalties, penalties_act};
use super::random::{Draws, draws, fresh_seed};
use super::truncate::{exclude_top_choices, keep_min_p, keep_top_p, keep_typical, largest};

/// Chooses tokens by one set of options. It keeps no memory of what it chose: the choice is a function of the options,
/// the seed, the logits, the history and the position (see [the chain](super)). What it holds besides is scratch
/// space, so that a token costs no allocation once the sampler is warm.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    seed: u64,
    /// The row after penalties and biases; as long as the vocabulary.
    logits: Vec<f32>,
    kept: Vec<Candidate>,
    weights: Vec<f64>,
    /// One number for each token of the vocabulary; zero between uses.
    numbers: Vec<u32>,
    dry: DryScratch,
}

impl Sampler {
    /// A sampler for logits of `vocabulary` tokens.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] and [`SamplingError::UnknownToken`] for options that make no sense.
    pub fn new(options: SamplingOptions, vocabulary: usize) -> Result<Sampler, SamplingError> {
        options.validate()?;
        if let Some((&id, _)) = options.logit_bias.iter().find(|&(&id, _)| id as usize >= vocabulary) {
            return Err(SamplingError::UnknownToken { field: "logit_bias", id, vocabulary });
        }
        Ok(Sampler {
            seed: options.seed.unwrap_or_else(fresh_seed),
            options,
            logits: vec![0.0; vocabulary],
            kept: Vec::new(),
            weights: Vec::new(),
            numbers: vec![0; vocabulary],
            dry: DryScratch::default(),
        })
    }

    /// The key of the random numbers: the one of the options, or the one drawn in its absence. A run with this seed
    /// and the same options gives the same tokens.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The options in force.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Chooses the token for `position` from the logits of the whole vocabulary.
    ///
    /// `history` holds the tokens before it, prompt included, oldest first: what penalties and DRY look at.
    /// `position` counts the random numbers; give every token of a run its own, by custom its place in the sequence.
    /// A mask (of a grammar, for example) is logits of minus infinity: no later rule brings such a token back.
    ///
    /// # Errors
    /// [`SamplingError::BadLogit`] for NaN or plus infinity, [`SamplingError::NothingLeft`] when every token is ruled
    /// out, [`SamplingError::WrongLength`] for a row of another vocabulary.
    pub fn sample(&mut self, logits: &[f32], history: &[u32], position: u64) -> Result<u32, SamplingError> {
        self.take(logits, position)?;
        self.adjust(history);
        if self.options.temperature == 0.0 {
            return most_likely(&self.logits).ok_or(SamplingError::NothingLeft { position });
        }
        let draws = draws(self.seed, position);
        self.narrow(draws);
        self.draw(draws).ok_or(SamplingError::NothingLeft { position })
    }

    /// Copies a row in. Minus zero becomes zero, so that equal logits compare as equal everywhere.
    fn take(&mut self, logits: &[f32], position: u64) -> Result<(), SamplingError> {
        if logits.len() != self.logits.len() {
            let vocabulary = self.logits.len();
            return Err(SamplingError::WrongLength { given: logits.len(), vocabulary });
        }
        let mut sound = true;
        for (copy, &logit) in self.logits.iter_mut().zip(logits) {
            *copy = logit + 0.0;
            sound &= logit < f32::INFINITY;
        }
        if !sound {
            let bad = logits.iter().enumerate().find(|&(_, &logit)| logit.is_nan() || logit == f32::INFINITY);
            if let Some((id, &value)) = bad {
                return Err(SamplingError::BadLogit { id: id as u32, value, position });
            }
        }
        Ok(())
    }

    /// The rules that change logits of single tokens.
    fn adjust(&mut self, history: &[u32]) {
        let options = &self.options;
        apply_bias(&options.logit_bias, &mut self.logits);
        if penalties_act(options) {
            let window = options.penalty_window.of(history);
            apply_penalties(options, &mut self.logits, window, &mut self.numbers);
        }
        if options.dry_multiplier > 0.0 && options.dry_penalty_last_n != Window::Last(0) {
            let window = options.dry_penalty_last_n.of(history);
            apply_dry(options, &mut self.logits, window, &mut self.numbers, &mut self.dry);
        }
    }

    /// The rules that drop tokens. Leaves at least one, unless every token was ruled out before.
    fn narrow(&mut self, draws: Draws) {
        let (options, kept) = (&self.options, &mut self.kept);
        collect(&self.logits, options.top_k as usize, kept);
        if options.typical_p < 1.0 {
            keep_typical(kept, options.typical_p);
        }
        if options.top_p < 1.0 {
            keep_top_p(kept, options.top_p);
        }
        if options.min_p > 0.0 {
            keep_min_p(kept, options.min_p);
        }
        if draws.exclusion < f64::from(options.xtc_probability) {
            exclude_top_choices(kept, options.xtc_threshold);
        }
    }

    /// Draws among the kept tokens at the temperature. They are walked in order of their ids, so that the choice
    /// depends on which are kept and not on how they were found.
    fn draw(&mut self, draws: Draws) -> Option<u32> {
        self.kept.sort_unstable_by_key(|c| c.id);
        let (max, temperature) = (largest(&self.kept), self.options.temperature);
        self.weights.clear();
        let weight = |c: &Candidate| f64::from(((c.logit - max) / temperature).exp());
        self.weights.extend(self.kept.iter().map(weight));

        let mut left = draws.token * self.weights.iter().sum::<f64>();
        let mut last = None;
        for (candidate, &weight) in self.kept.iter().zip(&self.weights) {
            if weight > 0.0 {
                last = Some(candidate.id);
                left -= weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        last // without the break: the last possible one, when rounding left a trifle over
    }
}

/// The token with the largest logit, of equals that with the lowest id; `None` when all are minus infinity.
fn most_likely(logits: &[f32]) -> Option<u32> {
    let max = row_max(logits);
    if max == f32::NEG_INFINITY {
        return None;
    }
    logits.iter().position(|&logit| logit == max).map(|id| id as u32)
}
