//! Calls of DeepSeek V3, R1 and V3.1: a name, a separator, and the arguments, which the older ones put into a fence.

use super::{Fault, LONGEST_NAME, Read, call as named, json};
use crate::message::ToolCall;

const SEPARATOR: &str = "<｜tool▁sep｜>";
const FENCE: &str = "```json";

/// `name<sep>{...}`, or `function<sep>name`, a line end and the arguments in a fence.
pub(super) fn call(body: &str) -> Read<ToolCall> {
    let Some((head, tail)) = body.split_once(SEPARATOR) else {
        return Err(if body.len() > LONGEST_NAME { Fault::broken("it has no separator") } else { open() });
    };
    if head.len() > LONGEST_NAME {
        return Err(Fault::broken("it has no separator"));
    }
    let tail = tail.trim_start();
    if tail.is_empty() {
        return Err(open());
    }
    if tail.starts_with('{') {
        return named(head.trim(), json::object(tail)?);
    }
    let Some((name, rest)) = tail.split_once('\n') else {
        return Err(if tail.len() > LONGEST_NAME { Fault::broken("its name does not end") } else { open() });
    };
    if name.len() > LONGEST_NAME {
        return Err(Fault::broken("its name does not end"));
    }
    let rest = rest.trim_start();
    match rest.strip_prefix(FENCE) {
        // The fence's end is no JSON, nor is what there is of it.
        Some(fenced) => named(name.trim(), json::object(fenced.trim_end().trim_end_matches('`'))?),
        None if FENCE.starts_with(rest) => Err(open()),
        None => Err(Fault::broken("its arguments are not fenced")),
    }
}

fn open() -> Fault {
    Fault::Open { inside: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let old = call("function<｜tool▁sep｜>f\n```json\n{\"a\": \"```\"}\n```").unwrap();
        let new = call("f<｜tool▁sep｜>{\"a\": \"```\"}").unwrap();
        assert_eq!(old, new);
        assert_eq!((old.name.as_str(), old.arguments.as_str()), ("f", Some("{\"a\": \"```\"}")));
    }

    #[test]
    fn what_may_still_become_a_call_is_told_from_what_cannot() {
        for (text, inside) in [
            ("f", false),
            ("function<｜tool▁sep｜>", false),
            ("function<｜tool▁sep｜>f\n``", false),
            ("function<｜tool▁sep｜>f\n```json\n{\"a\": \"x", true),
            ("f<｜tool▁sep｜>{\"a\": \"x", true),
        ] {
            assert_eq!(call(text), Err(Fault::Open { inside }), "{text}");
        }
        for text in
            ["function<｜tool▁sep｜>f\n{}", "f<｜tool▁sep｜>{} x", "<｜tool▁sep｜>{}", "f<｜tool▁sep｜>{a"]
        {
            assert!(matches!(call(text), Err(Fault::Broken(_))), "{text}");
        }
    }
}
