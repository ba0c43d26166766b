//! What is measured and what came out.

use crate::generate::prefill_rows;
use ingle_model::spec::{Bound, Cost, KvBytes, LeastTime, Load, ModelSpec, Rates};

/// Kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A prompt, in steps of as many tokens as answers take ([`prefill_rows`]).
    Prefill {
        /// Tokens of the prompt.
        tokens: usize,
    },
    /// Tokens one after the other.
    Decode {
        /// Steps.
        tokens: usize,
        /// Sequences that go on together, a token of each in every step.
        batch: usize,
    },
}

/// Work at a depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is computed.
    pub work: Work,
    /// Tokens in the cache before.
    pub depth: usize,
}

impl Case {
    /// Tokens that one run of it computes, of all sequences.
    pub fn tokens(&self) -> usize {
        match self.work {
            Work::Prefill { tokens } => tokens,
            Work::Decode { tokens, batch } => tokens * batch,
        }
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        match self.work {
            Work::Prefill { .. } => 1,
            Work::Decode { batch, .. } => batch,
        }
    }

    /// Positions that each sequence must hold.
    pub fn context(&self) -> usize {
        match self.work {
            Work::Prefill { tokens } | Work::Decode { tokens, .. } => self.depth.saturating_add(tokens),
        }
    }

    /// Its steps, first to last.
    pub(super) fn steps(&self, spec: &ModelSpec) -> Vec<Load> {
        let depth = self.depth as u64;
        match self.work {
            Work::Prefill { tokens } => {
                let at_once = prefill_rows(spec);
                let steps = (0..tokens).step_by(at_once).map(|first| {
                    let rows = at_once.min(tokens - first) as u64;
                    let logits = u64::from(first + at_once >= tokens);
                    // a row in the middle of the step sees what an average row sees
                    let context = depth + first as u64 + (rows - 1) / 2;
                    Load { tokens: rows, logits, sequences: 1, context }
                });
                steps.collect()
            }
            Work::Decode { tokens, batch } => {
                let rows = batch as u64;
                let step = |at: usize| Load {
                    tokens: rows,
                    logits: rows,
                    sequences: rows,
                    context: depth + at as u64,
                };
                (0..tokens).map(step).collect()
            }
        }
    }

    /// Bytes and operations of one run of it.
    pub fn cost(&self, spec: &ModelSpec, kv: KvBytes) -> Cost {
        let steps = self.steps(spec);
        match self.work {
            Work::Prefill { .. } => steps
                .iter()
                .map(|load| spec.step_cost(load, kv))
                .fold(Cost::default(), |sum, cost| sum + cost),
            // from step to step a position more is seen, so that the middle one stands for all
            Work::Decode { tokens, .. } => {
                let middle = steps.get(tokens / 2).map(|load| spec.step_cost(load, kv));
                middle.unwrap_or_default() * tokens as f64
            }
        }
    }
}

/// One run of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeat {
    /// How long it took.
    pub seconds: f64,
    /// What the machine could do at most while it ran.
    pub rates: Rates,
}

/// A case with its measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was run.
    pub case: Case,
    /// Threads it ran on.
    pub threads: usize,
    /// Bytes and operations of one run.
    pub cost: Cost,
    /// The runs.
    pub repeats: Vec<Repeat>,
}

/// The middle of some measurements and their extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of some values; all zero of none.
    pub fn of(values: &[f64]) -> Spread {
        let extreme = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(0.0);
        Spread { median: median(values), least: extreme(f64::min), most: extreme(f64::max) }
    }
}

impl Figure {
    /// Tokens per second of every run.
    pub fn rates(&self) -> Vec<f64> {
        self.repeats.iter().map(|repeat| self.case.tokens() as f64 / repeat.seconds).collect()
    }

    /// Tokens per second, all sequences together.
    pub fn tokens_per_second(&self) -> Spread {
        Spread::of(&self.rates())
    }

    /// The shortest time each run could have taken.
    fn least_times(&self) -> impl Iterator<Item = (LeastTime, f64)> {
        self.repeats.iter().map(|repeat| (self.cost.least_time(&repeat.rates), repeat.seconds))
    }

    /// Tokens per second that the machine would allow, as it was while each run was measured.
    pub fn limit(&self) -> Spread {
        let tokens = self.case.tokens() as f64;
        Spread::of(&self.least_times().map(|(least, _)| tokens / least.seconds()).collect::<Vec<_>>())
    }

    /// Share of the limit that was reached, the median of all runs, each beside its own limit.
    pub fn reached(&self) -> f64 {
        median(&self.least_times().map(|(least, took)| least.seconds() / took).collect::<Vec<_>>())
    }

    /// What limits it.
    pub fn bound(&self) -> Bound {
        self.cost.least_time(&self.machine()).bound()
    }

    /// What the machine could do at most, the median of all runs.
    pub fn machine(&self) -> Rates {
        let middle =
            |of: fn(&Rates) -> f64| median(&self.repeats.iter().map(|r| of(&r.rates)).collect::<Vec<_>>());
        Rates {
            bytes: middle(|rates| rates.bytes),
            integers: middle(|rates| rates.integers),
            words: middle(|rates| rates.words),
            floats: middle(|rates| rates.floats),
        }
    }

    /// Bytes and operations of one token.
    pub fn cost_per_token(&self) -> Cost {
        self.cost * (1.0 / self.case.tokens().max(1) as f64)
    }
}

/// The middle of some values, of an even number the mean of the two middle ones; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}
