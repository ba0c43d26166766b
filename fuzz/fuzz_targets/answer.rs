//! Any text as a model's answer: the first byte chooses the dialect, the second how it begins and ends, the third where
//! it is cut; nothing may be lost, and every cut reads like the whole.
#![no_main]

use ingle_text::{AnswerReader, Dialect, Ending, Notice, Piece};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let [dialect, flags, cut, rest @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(rest);
    let names: Vec<&str> = Dialect::names().collect();
    let Some(dialect) = Dialect::named(names[usize::from(*dialect) % names.len()], None) else { return };
    let tools = [json!({"function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}})];
    let ending = if flags & 2 == 0 { Ending::Turn } else { Ending::Cut };
    let read = |size: usize| {
        let mut reader = AnswerReader::new(&dialect, &tools, flags & 1 != 0, false);
        let mut pieces = Vec::new();
        let mut rest = &*text;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
            reader.push(part, &mut pieces);
            rest = after;
        }
        reader.finish(ending, &mut pieces);
        let sources: String = pieces.iter().map(Piece::source).collect();
        assert_eq!(sources, text);
        merged(pieces)
    };
    let whole = read(usize::MAX);
    assert_eq!(read(1 + usize::from(*cut)), whole);
    assert_eq!(read(1), whole);
});

/// Neighbouring texts joined, reasons left out: which fault is found first is open.
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
