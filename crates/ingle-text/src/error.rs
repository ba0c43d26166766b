//! What can be wrong with a tokenizer, a template or a conversation.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of this crate, with what happened, to what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Metadata of the wrong type.
    #[error(transparent)]
    Metadata(#[from] ingle_model::Error),

    /// A key a tokenizer cannot do without.
    #[error(
        "the model file has no `{key}`, which its tokenizer needs; the file is incomplete, convert it again"
    )]
    MissingKey {
        /// The metadata key or JSON member.
        key: String,
    },

    /// A kind of tokenizer this version does not know.
    #[error("tokenizer model `{model}` is not known; known are {known}")]
    UnknownModel {
        /// The kind the file names.
        model: String,
        /// The kinds that work.
        known: String,
    },

    /// A pre-tokeniser this version does not know. Guessing one would give wrong tokens without a sign of it.
    #[error("pre-tokeniser `{pre}` is not known; known are {known}")]
    UnknownPre {
        /// The value of `tokenizer.ggml.pre`.
        pre: String,
        /// The values that work.
        known: String,
    },

    /// Two lists that describe the same tokens differ in length.
    #[error(
        "`{key}` has {found} entries for {expected} tokens; the file is damaged, download or convert it again"
    )]
    LengthMismatch {
        /// The list that disagrees with the tokens.
        key: String,
        /// Number of tokens.
        expected: usize,
        /// Entries found.
        found: usize,
    },

    /// Two ids with one text: which one a text means would be chance.
    #[error("tokens {first} and {second} have the same text {text:?}; the vocabulary is damaged")]
    DuplicateToken {
        /// The text both have.
        text: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },

    /// A special token id outside the vocabulary, or an id no vocabulary can have.
    #[error("{what} is token {id}, but the vocabulary has {size} tokens")]
    IdOutOfRange {
        /// What names the id.
        what: String,
        /// The id.
        id: u64,
        /// Number of tokens, or the largest number supported.
        size: usize,
    },

    /// A merge rule that cannot be applied.
    #[error("merge rule {index} ({rule:?}) {reason}; the tokenizer is damaged")]
    BadMerge {
        /// Position in the list, from 0.
        index: usize,
        /// The rule as written.
        rule: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A token whose data makes no sense for its kind.
    #[error("token {id} ({text:?}) {reason}; the vocabulary is damaged")]
    BadToken {
        /// The token.
        id: u32,
        /// Its text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A JSON file that is not what its name says.
    #[error("{file}: {message}")]
    Json {
        /// Which file.
        file: &'static str,
        /// What is wrong, with line and column where known.
        message: String,
    },

    /// A tokenizer that needs something this version does not do.
    #[error("the tokenizer uses {what}, which is not supported")]
    Unsupported {
        /// The component.
        what: String,
    },

    /// A component of the `tokenizers` library refused its data or its text.
    #[error("the tokenizer failed: {message}")]
    Component {
        /// The library's words.
        message: String,
    },

    /// Text for which the vocabulary has neither tokens nor an unknown token.
    #[error("the vocabulary has no token for a part of {text:?}, and no unknown token")]
    Unencodable {
        /// The word with the part that has no token, cut to a readable length.
        text: String,
    },

    /// An id to decode that no token has.
    #[error("token {id} is not in the vocabulary of {size} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of tokens.
        size: usize,
    },
}

/// `text` cut to a length that fits in a message.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
