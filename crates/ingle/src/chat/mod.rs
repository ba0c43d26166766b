//! Conversations: with one prompt from the shell, or many at a terminal.

mod answer;
mod conversation;
mod lines;
mod partner;
mod repl;
mod saved;
mod settings;
mod slash;

pub(crate) use answer::{Screen, reason_name, show_answer};
pub(crate) use conversation::Conversation;
pub(crate) use lines::Terminal;
pub(crate) use partner::{Loaded, Partner, Prompt};
pub(crate) use repl::Repl;
pub(crate) use settings::{Effort, Settings};
