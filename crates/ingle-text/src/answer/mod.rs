//! A model's answer read back while it comes: reasoning, content and calls of tools told apart.
//!
//! Families mark the parts of an answer differently. What differs is a table of markers per dialect (`grammar.rs`) and
//! the way a call is written between its markers (`calls/`); the [`AnswerReader`] is one machine over these.
//!
//! **Nothing is lost.** Every piece carries the text it stands for, markers included ([`Piece::source`]), and the sources
//! of all pieces, joined, are the answer. What looks like a call and is none is delivered as content, after a
//! [`Notice`] that says so. **Nothing waits longer than it must**: only the end of the text that may still become a
//! marker, line ends that may belong to one, and calls that are not over.
//!
//! A call ends at the first end marker at which what came before reads as a whole call; a marker inside a text of the
//! call's arguments is part of that text. Where a call can no longer become one, everything up to the next end marker
//! is content. So what a call carries is never taken for a call itself.

mod calls;
mod dialect;
mod grammar;
mod header;
mod held;
mod reader;
mod schema;
mod written;

use std::fmt;

pub use dialect::Dialect;
pub use reader::AnswerReader;
pub use written::{WrittenArguments, WrittenCalls};

use crate::message::ToolCall;

/// Bytes between a call's markers up to which it is waited for. Beyond, it is delivered as text.
pub const LONGEST_CALL: usize = 1 << 20;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Something the model thought.
    Reasoning(String),
    /// Something it said.
    Content(String),
    /// A call it made, whole.
    Call {
        /// Position among the answer's calls, from 0.
        index: usize,
        /// The call. Its arguments are the text of a JSON object, as the model wrote it where it wrote JSON; for a tool
        /// that takes plain text (Harmony's `python`), that text.
        call: ToolCall,
        /// The answer's text that was read as this call, markers included. Where one text holds several calls, the
        /// first has it.
        source: String,
    },
    /// Markers, headers, and the white space that belongs to them: nothing to show.
    Structure(String),
    /// Something to tell the person. What it is about comes next.
    Notice(Notice),
}

impl Piece {
    /// The part of the answer's text this piece stands for.
    pub fn source(&self) -> &str {
        match self {
            Piece::Reasoning(text) | Piece::Content(text) | Piece::Structure(text) => text,
            Piece::Call { source, .. } => source,
            Piece::Notice(_) => "",
        }
    }
}

/// What went wrong in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A call that cannot be read.
    NotACall {
        /// What is wrong with it.
        reason: String,
    },
    /// The answer ended in the middle of a call.
    UnfinishedCall,
    /// A call longer than [`LONGEST_CALL`].
    LongCall,
    /// The answer ended in the middle of a thought: nothing was said.
    UnfinishedReasoning,
    /// The same, and the thought speaks of a call.
    CallInReasoning,
    /// A message that ended as calls do and names no tool.
    NamelessCall,
    /// A message whose header cannot be read.
    BadHeader,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::NotACall { reason } => {
                write!(f, "what looks like a tool call cannot be read as one ({reason}) and is shown as text")
            }
            Notice::UnfinishedCall => {
                f.write_str("the answer ended in the middle of a tool call, which is shown as text")
            }
            Notice::LongCall => {
                write!(f, "a tool call is longer than {LONGEST_CALL} bytes and is shown as text")
            }
            Notice::UnfinishedReasoning => {
                f.write_str("the answer ended while the model was still reasoning; allow it more tokens")
            }
            Notice::CallInReasoning => f.write_str(
                "the answer ended inside the model's reasoning, which holds what looks like a tool call; it was not \
                 taken for one",
            ),
            Notice::NamelessCall => {
                f.write_str("a message ended as a tool call without the name of a tool; it is shown as text")
            }
            Notice::BadHeader => {
                f.write_str("the header of a message cannot be read and is shown as text")
            }
        }
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended its turn.
    Turn,
    /// It was cut off.
    Cut,
}
