//! Sampling: from a row of logits to a token.
//!
//! # The chain
//! The rules apply in this order, which is llama.cpp's default order, so that settings published for it mean the same
//! here. A neutral rule is skipped.
//!
//! | | rule | acts on |
//! |---|---|---|
//! | 1 | logit bias | adds to logits; minus infinity forbids |
//! | 2 | repetition, presence, frequency penalties | logits of tokens in the penalty window |
//! | 3 | DRY | logits of tokens that would prolong a repetition |
//! | 4 | top-k | keeps the most likely |
//! | 5 | typical | keeps by distance from the entropy |
//! | 6 | top-p | keeps by cumulated probability |
//! | 7 | min-p | keeps by probability relative to the most likely |
//! | 8 | XTC | with a chance, drops the most likely of several likely ones |
//! | 9 | temperature | divides the logits |
//! | 10 | draw | one token, by its probability |
//!
//! Rules 4 to 8 see the distribution at temperature 1, each that of the tokens which the rule before it left, and
//! never leave fewer than one. Temperature 0 is greedy: the most likely token after rule 3, of equally likely ones the
//! lowest id; rules 4 to 10 have no say in it.
//!
//! # Random numbers
//! They are keyed by seed and position, not drawn from a running state: a token depends on nothing that was sampled
//! before it except through the logits and the history. A run can be stopped and resumed token-exactly, and positions
//! can be sampled in any order. The same seed gives the same tokens as long as the logits are the same to the bit;
//! another machine or another number of threads may round logits differently.

mod candidate;
mod defaults;
mod dry;
mod error;
mod logprob;
mod options;
mod penalty;
mod random;
mod row;
mod sampler;
mod truncate;

pub use defaults::GenerationDefaults;
pub use error::SamplingError;
pub use logprob::{Logprobs, logprobs};
pub use options::{SamplingOptions, SamplingOverrides, Window};
pub use sampler::Sampler;
