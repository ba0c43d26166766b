//! Between people's text and a model's tokens: tokenizers, the streaming detokenizer, chat templates and the prompt
//! made from a conversation.
//!
//! Everything read here comes with a model file and is untrusted: a tokenizer with holes, a template that never ends
//! and a message that spells a control token are typed errors or harmless, never a panic.

pub mod answer;
pub mod detokenizer;
pub mod error;
pub mod message;
pub mod prompt;
pub mod template;
pub mod tokenizer;

pub use answer::{AnswerReader, Dialect, Ending, Notice, Piece, WrittenArguments, WrittenCalls};
pub use detokenizer::Detokenizer;
pub use error::{Error, Result};
pub use message::{Message, ToolCall};
pub use prompt::render_prompt;
pub use template::{ChatTemplate, Limits, Moment, TemplateSources};
pub use tokenizer::{Specials, TokenKind, Tokenizer};
