//! Calls of Gemma 4: `call:name{key:value,...}`, texts between quotes that are tokens of their own.

use serde_json::{Map, Number, Value};

use super::{Fault, LONGEST_NAME, Read, call as named};
use crate::message::ToolCall;

/// What begins a call.
pub(super) const CALL: &str = "call:";
const QUOTE: &str = "<|\"|>";
/// Levels of lists and objects.
const DEPTH: usize = 64;

/// A whole call.
pub(super) fn call(body: &str) -> Read<ToolCall> {
    let body = body.trim_start();
    let Some(rest) = body.strip_prefix(CALL) else {
        return Err(if CALL.starts_with(body) {
            open()
        } else {
            Fault::broken("it does not begin as a call")
        });
    };
    let Some(at) = rest.find('{').filter(|&at| at <= LONGEST_NAME) else {
        let long = rest.len() > LONGEST_NAME;
        return Err(if long { Fault::broken("its name does not end") } else { open() });
    };
    let mut reader = Reader { rest: &rest[at + 1..] };
    let arguments = reader.object(0)?;
    if !reader.rest.trim().is_empty() {
        return Err(Fault::broken("there is text after its end"));
    }
    named(rest[..at].trim(), Value::Object(arguments).to_string())
}

fn open() -> Fault {
    Fault::Open { inside: false }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Members up to and with the closing brace.
    fn object(&mut self, depth: usize) -> Read<Map<String, Value>> {
        let mut members = Map::new();
        if self.eat("}") {
            return Ok(members);
        }
        loop {
            let key = if self.eat(QUOTE) { self.text()? } else { self.word(&[':'])? };
            self.expect(":")?;
            let value = self.value(depth)?;
            if members.insert(key, value).is_some() {
                return Err(Fault::broken("a key is there twice"));
            }
            if self.eat("}") {
                return Ok(members);
            }
            self.expect(",")?;
        }
    }

    fn list(&mut self, depth: usize) -> Read<Vec<Value>> {
        let mut items = Vec::new();
        if self.eat("]") {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth)?);
            if self.eat("]") {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn value(&mut self, depth: usize) -> Read<Value> {
        if depth > DEPTH {
            return Err(Fault::broken("it is nested too deeply"));
        }
        if self.eat(QUOTE) {
            return Ok(Value::String(self.text()?));
        }
        if self.eat("{") {
            return Ok(Value::Object(self.object(depth + 1)?));
        }
        if self.eat("[") {
            return Ok(Value::Array(self.list(depth + 1)?));
        }
        let word = self.word(&[',', '}', ']'])?;
        match word.as_str() {
            "true" | "True" => Ok(Value::Bool(true)),
            "false" | "False" => Ok(Value::Bool(false)),
            "null" | "None" => Ok(Value::Null),
            word => match serde_json::from_str::<Number>(word) {
                Ok(number) => Ok(Value::Number(number)),
                Err(_) => Err(Fault::broken("a value is neither text nor number")),
            },
        }
    }

    /// A text up to its closing quote.
    fn text(&mut self) -> Read<String> {
        let (text, rest) = self.rest.split_once(QUOTE).ok_or(Fault::Open { inside: true })?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    /// A word up to one of `ends`.
    fn word(&mut self, ends: &[char]) -> Read<String> {
        match self.rest.find(|character| ends.contains(&character) || character == '<') {
            Some(at) if self.rest[at..].starts_with('<') => {
                let quote = QUOTE.starts_with(&self.rest[at..]) && self.rest[..at].trim().is_empty();
                Err(if quote { open() } else { Fault::broken("a value is neither text nor number") })
            }
            Some(at) if at > LONGEST_NAME => Err(Fault::broken("a word does not end")),
            Some(at) => {
                let word = self.rest[..at].trim().to_owned();
                self.rest = &self.rest[at..];
                Ok(word)
            }
            None if self.rest.len() > LONGEST_NAME => Err(Fault::broken("a word does not end")),
            None => Err(open()),
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Read<()> {
        if self.eat(text) {
            return Ok(());
        }
        let nothing = self.rest.trim().is_empty();
        Err(if nothing { open() } else { Fault::broken(format!("`{text}` is missing")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_all_kinds() {
        let text = "call:f{a:<|\"|>x}<tool_call|>{<|\"|>,b:[1,-2.5,[]],c:{<|\"|>k<|\"|>:true, n:null},d:{}}";
        let read = call(text).unwrap();
        let arguments: Value = serde_json::from_str(read.arguments.as_str().unwrap()).unwrap();
        let expected =
            json!({"a": "x}<tool_call|>{", "b": [1, -2.5, []], "c": {"k": true, "n": null}, "d": {}});
        assert_eq!((read.name.as_str(), arguments), ("f", expected));
        assert_eq!(call("call:f{}").unwrap().arguments, "{}");
    }

    #[test]
    fn what_may_still_become_a_call_is_told_from_what_cannot() {
        for (text, inside) in [
            ("cal", false),
            ("call:f", false),
            ("call:f{a:<|\"|>x", true),
            ("call:f{a:<|\"|", false),
            ("call:f{a:1", false),
            ("call:f{a:1,", false),
        ] {
            assert_eq!(call(text), Err(Fault::Open { inside }), "{text}");
        }
        let deep = format!("call:f{{a:{}", "[".repeat(1000));
        for text in ["call:f{a:x}", "call:f{} x", "call:{}", "call:f{a:1 b:2}", "call:f{a:1,a:2}", &deep] {
            assert!(matches!(call(text), Err(Fault::Broken(_))), "{text}");
        }
    }
}
