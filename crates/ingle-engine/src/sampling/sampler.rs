//! The sampler: one row of logits in, one token id out.

use super::candidate::{Candidate, collect};
use super::dry::{DryScratch, apply_dry};
use super::error::SamplingError;
use super::options::{SamplingOptions, Window};
use super::penalty::{apply_bias, apply_penalties, penalties_act};
use super::random::{Draws, draws, fresh_seed};
use super::row::{self, Survey};
use super::truncate::{exclude_top_choices, keep_min_p, keep_most_likely, keep_top_p, keep_typical, largest};

/// Chooses tokens by one set of options. It keeps no memory of what it chose: the choice is a function of the options,
/// the seed, the logits, the history and the position (see [the chain](super)). What it holds besides is scratch
/// space, so that a token costs no allocation once the sampler is warm.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    seed: u64,
    vocabulary: usize,
    /// The row after penalties and biases, where there are any.
    adjusted: Vec<f32>,
    kept: Vec<Candidate>,
    weights: Vec<f64>,
    /// One number for each token of the vocabulary, where a rule needs them; zero between uses.
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
            vocabulary,
            adjusted: Vec::new(),
            kept: Vec::new(),
            weights: Vec::new(),
            numbers: Vec::new(),
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
        let vocabulary = self.vocabulary;
        if logits.len() != vocabulary {
            return Err(SamplingError::WrongLength { given: logits.len(), vocabulary });
        }
        let mut survey = Survey::of(logits);
        if !survey.sound {
            return Err(bad_logit(logits, position));
        }
        let mut row = logits;
        let mut adjusted = std::mem::take(&mut self.adjusted);
        if self.adjusts() {
            adjusted.clear();
            adjusted.extend_from_slice(logits);
            self.adjust(history, &mut adjusted);
            survey = Survey::of(&adjusted);
            row = &adjusted;
        }
        let chosen = self.choose(row, &survey, position);
        self.adjusted = adjusted;
        chosen.ok_or(SamplingError::NothingLeft { position })
    }

    /// Chooses from a row after penalties and biases.
    fn choose(&mut self, row: &[f32], survey: &Survey, position: u64) -> Option<u32> {
        let temperature = self.options.temperature;
        if temperature == 0.0 {
            return survey.most_likely(row);
        }
        let draws = draws(self.seed, position);
        if !self.narrows(draws) {
            return row::draw(row, survey, temperature, draws.token, &mut self.weights);
        }
        self.narrow(row, survey, draws);
        self.draw(draws)
    }

    /// Whether a rule changes logits of single tokens.
    fn adjusts(&self) -> bool {
        let options = &self.options;
        !options.logit_bias.is_empty() || penalties_act(options) || dry_acts(options)
    }

    /// The rules that change logits of single tokens.
    fn adjust(&mut self, history: &[u32], row: &mut [f32]) {
        let options = &self.options;
        apply_bias(&options.logit_bias, row);
        let acts = [penalties_act(options), dry_acts(options)];
        if acts != [false; 2] {
            self.numbers.resize(row.len(), 0);
        }
        if acts[0] {
            apply_penalties(options, row, options.penalty_window.of(history), &mut self.numbers);
        }
        if acts[1] {
            let window = options.dry_penalty_last_n.of(history);
            apply_dry(options, row, window, &mut self.numbers, &mut self.dry);
        }
    }

    /// Whether a rule drops tokens.
    fn narrows(&self, draws: Draws) -> bool {
        let SamplingOptions { top_k, typical_p, top_p, min_p, .. } = self.options;
        let limited = top_k > 0 && (top_k as usize) < self.vocabulary;
        limited || typical_p < 1.0 || top_p < 1.0 || min_p > 0.0 || self.excludes(draws)
    }

    /// Whether XTC acts at a position.
    fn excludes(&self, draws: Draws) -> bool {
        draws.exclusion < f64::from(self.options.xtc_probability)
    }

    /// The rules that drop tokens. Leaves at least one, unless every token was ruled out before.
    fn narrow(&mut self, row: &[f32], survey: &Survey, draws: Draws) {
        let (excludes, options, kept) = (self.excludes(draws), &self.options, &mut self.kept);
        let (typical, top, min) = (options.typical_p < 1.0, options.top_p < 1.0, options.min_p > 0.0);
        if options.top_k == 0 && !typical && (top || min) {
            // both keep the most likely: most of the row need not be looked at one by one
            keep_most_likely(row, survey, options.top_p, options.min_p, kept);
        } else {
            collect(row, options.top_k as usize, kept);
            if typical {
                keep_typical(kept, options.typical_p);
            }
            if top {
                keep_top_p(kept, options.top_p);
            }
            if min {
                keep_min_p(kept, options.min_p);
            }
        }
        if excludes {
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

fn dry_acts(options: &SamplingOptions) -> bool {
    options.dry_multiplier > 0.0 && options.dry_penalty_last_n != Window::Last(0)
}

/// The first logit that no network should give.
fn bad_logit(logits: &[f32], position: u64) -> SamplingError {
    let bad = |&(_, &logit): &(usize, &f32)| logit.is_nan() || logit == f32::INFINITY;
    let (id, &value) = logits.iter().enumerate().find(bad).unwrap_or((0, &f32::NAN));
    SamplingError::BadLogit { id: id as u32, value, position }
}
