//! What can be wrong with sampling: an option, a model's own defaults, or the logits themselves.

/// What can be wrong with sampling.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// An option's value makes no sense.
    #[error("sampling option `{field}` is {value}, allowed is {allowed}")]
    OutOfRange {
        /// The option, by its name in [`SamplingOptions`](super::SamplingOptions).
        field: &'static str,
        /// The value given.
        value: String,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// An option names a token that the model does not have.
    #[error("sampling option `{field}` names token {id}, but the vocabulary ends before {vocabulary}")]
    UnknownToken {
        /// The option.
        field: &'static str,
        /// The token id given.
        id: u32,
        /// Number of ids the model has.
        vocabulary: usize,
    },
    /// The row of logits is not as long as the vocabulary.
    #[error("got {given} logits for a vocabulary of {vocabulary}; the sampler belongs to another model")]
    WrongLength {
        /// Logits given.
        given: usize,
        /// Logits expected.
        vocabulary: usize,
    },
    /// The network computed something that is not a number, or plus infinity.
    #[error(
        "the logit of token {id} at position {position} is {value}; the model's weights are damaged or a \
         computation overflowed: check the file with `ingle show`, or run with another quantisation"
    )]
    BadLogit {
        /// The first such token.
        id: u32,
        /// NaN or infinity.
        value: f32,
        /// The position that was being sampled.
        position: u64,
    },
    /// Every token is ruled out by the mask or by logit biases of minus infinity.
    #[error(
        "at position {position} every token is ruled out (logit -inf); loosen `logit_bias` or the grammar"
    )]
    NothingLeft {
        /// The position that was being sampled.
        position: u64,
    },
    /// A model's `generation_config.json` holds something unusable.
    #[error("generation_config.json: `{key}` {what}")]
    GenerationConfig {
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A model's metadata holds something unusable.
    #[error(transparent)]
    Metadata(#[from] ingle_model::Error),
}
