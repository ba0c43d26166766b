//! How calls are written between their markers: one file per notation, each a function from text to calls.

mod deepseek;
mod gemma;
mod json;
mod mistral;
mod tags;

use super::grammar::Syntax;
use super::schema::Schemas;
use crate::message::ToolCall;

/// Why a text is not a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It may become one.
    Open {
        /// It ends inside a value, where a marker is only text.
        inside: bool,
    },
    /// Whatever follows, it cannot become one.
    Broken(String),
}

impl Fault {
    fn broken(reason: impl Into<String>) -> Fault {
        Fault::Broken(reason.into())
    }
}

type Read<T> = std::result::Result<T, Fault>;

/// Whether a text begins like a call, as far as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    Yes,
    No,
    /// More text decides.
    Perhaps,
}

impl Syntax {
    /// Whether `body`, which follows the marker, begins like a call at all. People write of markers too.
    pub(super) fn begins(self, body: &str) -> Begins {
        let rest = body.trim_start();
        let any = |beginnings: &[&str]| {
            if beginnings.iter().any(|text| rest.starts_with(text)) {
                Begins::Yes
            } else if beginnings.iter().any(|text| text.starts_with(rest)) {
                Begins::Perhaps
            } else {
                Begins::No
            }
        };
        match self {
            Syntax::Tagged => any(&["{", tags::FUNCTION]),
            Syntax::Gemma => any(&[gemma::CALL]),
            Syntax::Function => tags::begins(rest),
            Syntax::DeepSeek | Syntax::Dsml | Syntax::Harmony | Syntax::Mistral => Begins::Yes,
        }
    }

    /// Whether a call may end with the answer, without a marker of its own.
    pub(super) fn ends_with_turn(self) -> bool {
        matches!(self, Syntax::Function | Syntax::Harmony | Syntax::Mistral)
    }

    /// The calls in `body`. `name` is the tool's, where a header has it. `whole`: an end marker follows, or nothing at
    /// all. Of a beginning, what is [`Fault::Broken`] stays so whatever follows; the reason is the first that was found.
    pub(super) fn read(
        self,
        body: &str,
        name: Option<&str>,
        schemas: &Schemas,
        whole: bool,
    ) -> Read<Vec<ToolCall>> {
        match self {
            Syntax::Tagged if body.trim_start().starts_with('{') => Ok(vec![json::call(body)?]),
            Syntax::Tagged | Syntax::Function => Ok(vec![tags::function(body, schemas, whole)?]),
            Syntax::DeepSeek => Ok(vec![deepseek::call(body)?]),
            Syntax::Dsml => Ok(vec![tags::dsml(body, whole)?]),
            Syntax::Harmony => Ok(vec![harmony(name.unwrap_or_default(), body)?]),
            Syntax::Gemma => Ok(vec![gemma::call(body)?]),
            Syntax::Mistral => mistral::calls(body),
        }
    }
}

/// A call with these arguments, which are the text of an object.
fn call(name: &str, arguments: String) -> Read<ToolCall> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(char::is_whitespace) {
        return Err(Fault::broken("it names no tool"));
    }
    Ok(ToolCall { id: None, name: name.to_owned(), arguments: arguments.into() })
}

/// More bytes than the name of a tool has.
const LONGEST_NAME: usize = 256;

/// `functions.` is where people's tools are; the model's own have a name of their own and take any text.
fn harmony(recipient: &str, body: &str) -> Read<ToolCall> {
    match recipient.strip_prefix("functions.") {
        Some(name) if body.trim().is_empty() => call(name, "{}".into()),
        Some(name) => call(name, json::object(body)?),
        None if recipient == "functions" => Err(Fault::broken("it names no tool")),
        None => match json::object(body) {
            Err(Fault::Open { inside: true }) if body.trim_start().starts_with('{') => {
                Err(Fault::Open { inside: true })
            }
            read => call(recipient, read.unwrap_or_else(|_| body.to_owned())),
        },
    }
}
