//! Answers read back: every dialect, whole, cut anywhere, damaged, and against what templates render.

#[path = "../common/mod.rs"]
mod common;

mod cuts;
mod damaged;
mod dialects;
mod random;
mod rendered;
mod tokens;

use ingle_text::{AnswerReader, Dialect, Ending, Notice, Piece};
use serde_json::{Value, json};

/// Tools whose parameters have types.
fn tools() -> Vec<Value> {
    let function = |name: &str, properties: Value| {
        json!({"type": "function", "function": {"name": name, "description": "", "parameters":
            {"type": "object", "properties": properties}}})
    };
    vec![
        function(
            "get_weather",
            json!({"city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"}}),
        ),
        function(
            "search",
            json!({"queries": {"type": "array", "items": {"type": "string"}}, "opts": {"type": "object"}}),
        ),
    ]
}

/// Neighbouring texts of one kind joined, and reasons left out: which fault of a call is found first is open.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (out.last_mut(), piece) {
            (Some(Piece::Content(text)), Piece::Content(more))
            | (Some(Piece::Reasoning(text)), Piece::Reasoning(more))
            | (Some(Piece::Structure(text)), Piece::Structure(more)) => text.push_str(&more),
            (_, Piece::Notice(Notice::NotACall { .. })) => {
                out.push(Piece::Notice(Notice::NotACall { reason: String::new() }));
            }
            (_, piece) => out.push(piece),
        }
    }
    out
}

/// Reads `parts`; nothing may be lost.
fn read(dialect: &str, in_reasoning: bool, parts: &[&str], ending: Ending) -> Vec<Piece> {
    let dialect = Dialect::named(dialect, None).unwrap();
    let mut reader = AnswerReader::new(&dialect, &tools(), in_reasoning, false);
    let mut pieces = Vec::new();
    for part in parts {
        reader.push(part, &mut pieces);
    }
    reader.finish(ending, &mut pieces);
    let sources: String = pieces.iter().map(Piece::source).collect();
    assert_eq!(sources, parts.concat(), "{dialect:?}: something is lost");
    merged(pieces)
}

/// What a person and a program get of an answer.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    reasoning: String,
    content: String,
    /// Name and arguments.
    calls: Vec<(String, Value)>,
    notices: usize,
}

fn answer(pieces: &[Piece]) -> Answer {
    let mut answer = Answer::default();
    for piece in pieces {
        match piece {
            Piece::Reasoning(text) => answer.reasoning.push_str(text),
            Piece::Content(text) => answer.content.push_str(text),
            Piece::Call { index, call, .. } => {
                assert_eq!(*index, answer.calls.len());
                let arguments = call.arguments.as_str().unwrap();
                let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
                answer.calls.push((call.name.clone(), arguments));
            }
            Piece::Notice(_) => answer.notices += 1,
            Piece::Structure(_) => {}
        }
    }
    answer
}
