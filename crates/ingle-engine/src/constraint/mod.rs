//! What an answer can be held to: a form of what is said, and calls that have to be made.

use serde_json::Value;

/// The form of what is said. What is thought before it is free.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A JSON object, whichever.
    Object,
    /// JSON that a schema describes.
    Schema(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// Text of a context-free grammar, in the Lark notation.
    Lark(String),
}

/// Which of the offered tools are to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// One of them has to be called.
    Required,
    /// This one has to be called.
    Named(String),
}

/// How an answer is to call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Which.
    pub choice: CallChoice,
    /// At most one call.
    pub single: bool,
}
