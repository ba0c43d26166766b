//! What was said so far.

use ingle_engine::ChatRequest;
use ingle_text::Message;
use serde_json::{Map, Value};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As templates and files write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    /// The role of that name.
    pub(crate) fn parse(name: &str) -> Option<Role> {
        [Role::User, Role::Assistant].into_iter().find(|role| role.name() == name)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) text: String,
}

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// How the model is to behave.
    pub(crate) system: Option<String>,
    /// Messages in order.
    pub(crate) turns: Vec<Turn>,
}

impl Conversation {
    /// A conversation that has not begun.
    pub(crate) fn new(system: Option<String>) -> Conversation {
        Conversation { system, turns: Vec::new() }
    }

    /// Adds a message.
    pub(crate) fn say(&mut self, role: Role, text: impl Into<String>) {
        self.turns.push(Turn { role, text: text.into() });
    }

    /// What is asked of the engine.
    pub(crate) fn request(&self, variables: Map<String, Value>) -> ChatRequest {
        let system = self.system.iter().map(|text| Message::new("system", text.as_str()));
        let turns = self.turns.iter().map(|turn| Message::new(turn.role.name(), turn.text.as_str()));
        ChatRequest { messages: system.chain(turns).collect(), tools: Vec::new(), variables }
    }
}
