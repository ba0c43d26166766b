//! Calls of Mistral's models: a list of them in JSON, or of the newer ones a name and the arguments.

use super::{Fault, LONGEST_NAME, Read, call, json};
use crate::message::ToolCall;

const ARGUMENTS: &str = "[ARGS]";
const ID: &str = "[CALL_ID]";

/// `[{"name": ..., "arguments": {...}}, ...]`, `name[ARGS]{...}` or `name[CALL_ID]id[ARGS]{...}`.
pub(super) fn calls(body: &str) -> Read<Vec<ToolCall>> {
    let body = body.trim_start();
    if body.is_empty() {
        return Err(Fault::Open { inside: false });
    }
    if body.starts_with('[') {
        return json::calls(body);
    }
    let at = body.find('{').map(|brace| body.find(ARGUMENTS).map_or(brace, |at| at.min(brace)));
    let Some(at) = at.filter(|&at| at <= LONGEST_NAME) else {
        let long = body.len() > LONGEST_NAME;
        return Err(if long {
            Fault::broken("its name does not end")
        } else {
            Fault::Open { inside: false }
        });
    };
    let (head, arguments) = body.split_at(at);
    let arguments = json::object(arguments.strip_prefix(ARGUMENTS).unwrap_or(arguments))?;
    let (name, id) = match head.split_once(ID) {
        Some((name, id)) => (name, Some(id.trim().to_owned())),
        None => (head, None),
    };
    Ok(vec![ToolCall { id, ..call(name.trim(), arguments)? }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_single_calls() {
        let list = calls(" [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"x\"}, {\"name\": \"g\"}]")
            .unwrap();
        assert_eq!(list.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["f", "g"]);
        for text in ["f[ARGS]{\"a\": 1}", "f{\"a\": 1}", "f[CALL_ID]x[ARGS]{\"a\": 1}"] {
            let [call] = &calls(text).unwrap()[..] else { panic!("{text}") };
            assert_eq!((call.name.as_str(), call.arguments.as_str()), ("f", Some("{\"a\": 1}")));
        }
        assert_eq!(calls("f[AR"), Err(Fault::Open { inside: false }));
        assert!(matches!(calls("f[ARGS]{a"), Err(Fault::Broken(_))));
    }
}
