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

    /// A chat template that is not Jinja.
    #[error("the chat template does not compile: line {line}: {message}")]
    TemplateSyntax {
        /// Line in the template, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },

    /// A chat template that refused the conversation through `raise_exception`.
    #[error("the chat template refuses this conversation: {message}")]
    TemplateRaised {
        /// The template's own words.
        message: String,
    },

    /// A chat template that failed while it ran.
    #[error("the chat template failed in line {line}: {message}")]
    TemplateFailed {
        /// Line in the template, from 1.
        line: usize,
        /// What happened there.
        message: String,
    },

    /// A chat template that wanted more than it may have.
    #[error("the chat template was stopped: more than {limit} {what}")]
    TemplateLimit {
        /// What there is a limit of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },

    /// No thread to run a template on.
    #[error("no thread could be started for the chat template: {0}; close something and try again")]
    TemplateThread(#[source] std::io::Error),

    /// A model without a chat template.
    #[error("the model has no chat template{}; give one, or use the model with plain text", .name.as_ref().map(|name| format!(" called `{name}`")).unwrap_or_default())]
    NoTemplate {
        /// The variant asked for, when one was.
        name: Option<String>,
    },

    /// A conversation in which no noncharacter is free to mark control tokens that people wrote.
    #[error("the conversation uses all of U+FDD0 to U+FDEF, which no text should contain; remove them")]
    NoSentinel,

    /// A message that templates cannot be given.
    #[error("message {index}: {reason}")]
    BadMessage {
        /// Position in the conversation, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// `text` cut to a length that fits in a line of a message.
pub(crate) fn excerpt(text: &str) -> String {
    excerpt_of(text, 60)
}

/// `text` cut to so many characters.
pub(crate) fn excerpt_of(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
