//! Why a model cannot be loaded or a request not be answered.

use crate::constraint::ConstraintError;
use crate::memory::Bytes;
use crate::sampling::SamplingError;
use ingle_model::executor::ExecutorError;
use std::path::PathBuf;

/// What can go wrong between a request and its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model's files.
    #[error(transparent)]
    Model(#[from] ingle_model::Error),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Text(#[from] ingle_text::Error),
    /// The executor.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The sampling options, or logits that cannot be sampled.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// What the answer is held to.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// Not enough memory, known before anything was loaded.
    #[error(
        "the model needs {} for its weights and {} for a context of {context} tokens, and {} of memory are free; \
         choose a smaller model, a stronger quantisation or a shorter context (--context)",
        Bytes(*weights), Bytes(*kv), Bytes(*available)
    )]
    DoesNotFit {
        /// Bytes of resident weights.
        weights: u64,
        /// Bytes of KV cache.
        kv: u64,
        /// Tokens that cache is for.
        context: usize,
        /// Bytes free now.
        available: u64,
    },
    /// The instruction set asked for is not there.
    #[error("this processor has no {0} instructions; leave the choice to the program or name another set")]
    NoIsa(&'static str),
    /// Chat was asked of a model without a chat template.
    #[error(
        "the model has no chat template: it is made to continue text, not to answer; send it plain text (--raw)"
    )]
    NoTemplate,
    /// A model that is to guess for another one has other tokens.
    #[error(
        "the models do not go together: the draft has {ours} tokens and the model {theirs}{}; a draft has to be of the same \
         family and vocabulary",
        other.map(|id| format!(", and token {id} is another one")).unwrap_or_default()
    )]
    OtherTokens {
        /// Tokens of the draft.
        ours: usize,
        /// Tokens of the model.
        theirs: usize,
        /// The first that differs.
        other: Option<u32>,
    },
    /// Text was asked of a model that makes embeddings.
    #[error("the model makes embeddings of texts and writes none; use it with `ingle embed`")]
    OnlyEmbeds,
    /// A vector was asked of a model whose files do not say how to make one.
    #[error(
        "the model's files do not say which of its rows stands for a text, so it may not be made for embeddings; if it \
         is, say it: the mean of all, the first or the last (--pooling)"
    )]
    NoPooling,
    /// A text without tokens.
    #[error("text {number} is empty, and the model puts nothing around a text: there is nothing to embed")]
    EmptyText {
        /// Which text, from 1 on.
        number: usize,
    },
    /// A text that does not fit.
    #[error(
        "text {number} has {tokens} tokens and the model takes {longest}; shorten it, split it, or let its end be cut \
         off (--truncate)"
    )]
    TextTooLong {
        /// Which text, from 1 on.
        number: usize,
        /// Its tokens, what the model puts around a text included.
        tokens: usize,
        /// The most there can be.
        longest: usize,
    },
    /// More values than the vector has, or none.
    #[error(
        "the model's vectors have {width} values, of which {wanted} cannot be kept; ask for 1 to {width}"
    )]
    Dimensions {
        /// Asked for.
        wanted: usize,
        /// There are.
        width: usize,
    },
    /// A prompt name the model does not have.
    #[error(
        "the model has no prompt `{name}`; its prompts are: {}",
        if known.is_empty() { "none" } else { known.as_str() }
    )]
    NoPrompt {
        /// Asked for.
        name: String,
        /// There are.
        known: String,
    },
    /// The network's numbers overflowed.
    #[error("the vector of text {number} is not made of numbers; the model's weights are damaged")]
    NotFinite {
        /// Which text, from 1 on.
        number: usize,
    },
    /// Nothing to continue.
    #[error("the prompt has no tokens; there is nothing to continue")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt} tokens and the context holds {context}; shorten it, clear the conversation or load \
         the model with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens a session holds.
        context: usize,
    },
    /// Too many requests wait already.
    #[error("{waiting} requests wait already; try again later")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// The prefix cache on disk has no place.
    #[error("prefixes cannot be kept in {}: {problem}", path.display())]
    PrefixFolder {
        /// Where they were to be.
        path: PathBuf,
        /// What is in the way.
        problem: String,
    },
    /// The engine has ended.
    #[error("the model is no longer loaded; ask again")]
    Gone,
}

impl EngineError {
    /// The same of the text that is `first` places further on.
    pub(crate) fn counted_from(mut self, first: usize) -> EngineError {
        if let EngineError::EmptyText { number }
        | EngineError::TextTooLong { number, .. }
        | EngineError::NotFinite { number } = &mut self
        {
            *number += first;
        }
        self
    }
}
