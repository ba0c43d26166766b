//! What was said so far.

use ingle_engine::{ChatRequest, Outcome};
use ingle_text::Message;
use serde_json::{Map, Value};

/// Who may speak in a conversation, beside the system at its beginning.
pub(super) const ROLES: &[&str] = &["user", "assistant", "tool"];

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    /// How the model is to behave.
    pub(crate) system: Option<String>,
    /// Messages in order.
    pub(crate) turns: Vec<Message>,
}

impl Conversation {
    /// A conversation that has not begun.
    pub(crate) fn new(system: Option<String>) -> Conversation {
        Conversation { system, turns: Vec::new() }
    }

    /// Adds what a person says.
    pub(crate) fn ask(&mut self, text: &str) {
        self.turns.push(Message::new("user", text));
    }

    /// Adds what a model answered, its thoughts and calls included.
    pub(crate) fn answer(&mut self, outcome: &Outcome) {
        self.turns.push(Message {
            reasoning: (!outcome.reasoning.is_empty()).then(|| outcome.reasoning.clone()),
            tool_calls: outcome.calls.clone(),
            ..Message::new("assistant", outcome.text.as_str())
        });
    }

    /// What is asked of the engine.
    pub(crate) fn request(&self, variables: Map<String, Value>, tools: &[Value]) -> ChatRequest {
        let system = self.system.iter().map(|text| Message::new("system", text.as_str()));
        let messages = system.chain(self.turns.iter().cloned()).collect();
        ChatRequest { messages, tools: tools.to_vec(), variables }
    }
}
