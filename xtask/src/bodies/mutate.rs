//! Good bodies made bad.

use serde_json::{Map, Value, json};

/// Random numbers, of which each request has its own.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64, at: u64) -> Random {
        Random(seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    pub(super) fn of<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

const TEXTS: [&str; 28] = [
    "",
    " ",
    "\n\n\n",
    "\u{0}",
    "\u{feff}",
    "\u{202e}x",
    "e\u{301}\u{301}\u{301}",
    "👩‍👩‍👧",
    "\u{fffd}",
    "\u{10ffff}",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_start|>system\n",
    "<|endoftext|>",
    "</s>",
    "<tool_call>{",
    "</tool_call>",
    "<think>",
    "{{ messages }}",
    "{% for x in range(100000000) %}{% endfor %}",
    "../../etc/passwd",
    "%s%n",
    "auto",
    "none",
    "assistant",
    "tool",
    "json",
    "ember",
];
const REGEXES: [&str; 22] = [
    "(a*)*b",
    "(a|aa)+$",
    "[^",
    "\\p{L}{1000}",
    "(?=x)",
    "a{1,100000}",
    "\\1",
    "[z-a]",
    ".{0,1000000}",
    "(?i)x",
    "^$",
    "",
    "\\x{110000}",
    "(?P<n>a)",
    "[[:alpha:]]&&[a]",
    "a{5,1}",
    "((a{0,99}){0,99}){0,99}",
    "\\b",
    "\\uD800",
    "[\\w--a]",
    "(?s:.*)",
    "(",
];
const GRAMMARS: [&str; 20] = [
    "",
    "start: start",
    "start: \"a\"",
    "start: A\nA: /a*/",
    "start: A B\nA: \"\"\nB: A B",
    "%ignore /./\nstart: \"a\"",
    "start: \"a\"~1..1000000",
    "start: \"a\"~5..1",
    "%import common.WS\nstart: WS",
    "start: %json {\"type\": \"object\"}",
    "start: %json {",
    "%llguidance {\"x\": 1}\nstart: \"a\"",
    "start: a\na: b\nb: a",
    "start: (((((\"a\")))))*",
    "START: \"a\"",
    "start: <|im_end|>",
    "start: <[5]>",
    "start: \"a\" | ",
    "start[capture]: /x/\n",
    "start: /(/",
];

fn schemas() -> Vec<Value> {
    vec![
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"$ref": "http://example.com/x"}),
        json!({"type": "string", "pattern": "(a+)+$"}),
        json!({"type": "string", "minLength": 1_000_000_000}),
        json!({"type": "string", "minLength": 5, "maxLength": 1}),
        json!({"type": "number", "multipleOf": 0}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"type": "integer", "minimum": 5, "maximum": 1}),
        json!({"type": "integer", "minimum": -1e308, "exclusiveMaximum": 1e308}),
        json!({"enum": []}),
        json!({"anyOf": []}),
        json!({"oneOf": [{"type": "string"}, {"type": "string"}]}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"not": {}}),
        json!({"const": {"a": [1, {"b": null}]}}),
        json!({"type": "array", "minItems": 1_000_000}),
        json!({"type": "array", "maxItems": -1}),
        json!({"type": "array", "uniqueItems": true, "prefixItems": [{"type": "null"}], "items": false}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"type": "object", "patternProperties": {"[": {}}, "propertyNames": {"maxLength": 2}}),
        json!({"type": "object", "minProperties": 9, "additionalProperties": {"type": "boolean"}}),
        json!({"type": ["string", "null", "none"]}),
        json!({"type": "string", "format": "uuid"}),
        json!({"if": {}, "then": {}, "else": false}),
        json!(true),
        json!(false),
    ]
}

fn text(random: &mut Random) -> String {
    match random.below(12) {
        0 => random.of(&REGEXES).to_owned(),
        1 => random.of(&GRAMMARS).to_owned(),
        2 => random.of(&TEXTS).repeat(1 + random.below(300)),
        3 => "long ".repeat(random.below(2000)),
        4 => (0..random.below(40)).filter_map(|_| char::from_u32(random.below(0x11_0000) as u32)).collect(),
        // rarely: each is some hundred kilobytes
        5 if random.once_in(40) => "x".repeat(random.below(400_000)),
        _ => random.of(&TEXTS).to_owned(),
    }
}

fn number(random: &mut Random) -> Value {
    let whole = [0, 1, -1, 2, 127, 128, 129, 513, 65_536, i64::MAX, i64::MIN, 1 << 53, u32::MAX.into(), -100];
    match random.below(3) {
        0 => json!(whole[random.below(whole.len())]),
        1 => json!([0.0, -0.0, 0.5, 1.5, -1.5, 1e308, -1e308, 5e-324, 1e-7, 99.99][random.below(10)]),
        _ => [json!(u64::MAX), json!(random.below(1000)), json!(-(random.below(1000) as i64))]
            [random.below(3)]
        .clone(),
    }
}

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.once_in(2)),
        2 | 3 => number(random),
        4 | 5 => text(random).into(),
        6 => (0..random.below(5)).map(|_| value(random, depth - 1)).collect(),
        7 => (0..random.below(5))
            .map(|_| (text(random), value(random, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
        _ => {
            let all = schemas();
            all[random.below(all.len())].clone()
        }
    }
}

/// Nodes of a tree.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum::<usize>(),
        Value::Object(map) => map.values().map(nodes).sum::<usize>(),
        _ => 0,
    }
}

/// The node of a number, counted in depth first.
fn node<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| node(value, at)),
        Value::Object(map) => map.values_mut().find_map(|value| node(value, at)),
        _ => None,
    }
}

/// Stands where something nested is to come, deeper than a tree of ours should be.
const DEEP: &str = "@deep@";

/// Changes one node; `names` are the fields that the route knows.
fn change(body: &mut Value, names: &[String], random: &mut Random) {
    let mut at = random.below(nodes(body));
    // the body itself seldom
    if at == 0 && !random.once_in(20) {
        at = 1;
    }
    let Some(target) = node(body, &mut at) else { return };
    match (target, random.below(8)) {
        (target, 0) => *target = value(random, 3),
        (target, 1) if random.once_in(4) => *target = DEEP.into(),
        (Value::String(text), 2..=5) => {
            let letters: Vec<char> = text.chars().collect();
            let cut = random.below(letters.len() + 1);
            let (before, after) = letters.split_at(cut);
            let add = match random.below(3) {
                0 => random.of(&TEXTS).to_owned(),
                1 => random
                    .of(&["(", ")", "[", "]", "*", "{9}", "|", "\\", "\"", "/", "~3", ":", "\n", "%", "$"])
                    .to_owned(),
                _ => String::new(),
            };
            let after = &after[random.below(after.len() + 1).min(3)..];
            *text = before.iter().chain(add.chars().collect::<Vec<_>>().iter()).chain(after).collect();
        }
        (Value::Number(given), 2..=6) => {
            if let Value::Number(other) = number(random) {
                *given = other;
            }
        }
        (Value::Bool(given), 2..=6) => *given = !*given,
        (Value::Array(list), 2) => list.clear(),
        (Value::Array(list), 3 | 4) if !list.is_empty() => {
            let copy = list[random.below(list.len())].clone();
            let times = if random.once_in(30) { 3000 } else { 1 + random.below(3) };
            list.extend(std::iter::repeat_n(copy, times));
        }
        (Value::Array(list), 5 | 6) if !list.is_empty() => {
            list.remove(random.below(list.len()));
        }
        (Value::Object(map), 2 | 3) if !map.is_empty() => {
            let name = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            map.shift_remove(&name);
        }
        (Value::Object(map), 4 | 5) if !names.is_empty() => {
            map.insert(names[random.below(names.len())].clone(), value(random, 2));
        }
        (Value::Object(map), 6) => {
            map.insert(text(random), value(random, 2));
        }
        (target, _) => *target = value(random, 2),
    }
}

/// Keeps answers short, most of the time.
fn shorten(body: &mut Value, random: &mut Random) {
    if random.once_in(50) {
        return;
    }
    let Some(map) = body.as_object_mut() else { return };
    for name in ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "num_predict"] {
        if map.get(name).is_some_and(|value| value.as_f64().is_some_and(|number| number > 8.0)) {
            map.insert(name.into(), json!(1 + random.below(4)));
        }
    }
    let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens", "options", "content", "tokens"];
    if !limits.iter().any(|name| map.contains_key(*name)) {
        let name = if map.contains_key("input") { "max_output_tokens" } else { "max_tokens" };
        map.insert(name.into(), json!(3));
    }
    if let Some(options) = map.get_mut("options") {
        shorten_options(options, random);
    }
}

fn shorten_options(options: &mut Value, random: &mut Random) {
    if let Some(options) = options.as_object_mut() {
        options.insert("num_predict".into(), json!(1 + random.below(4)));
    }
}

/// The bytes of a body made from a good one.
pub(super) fn mutated(seed: &Value, names: &[String], random: &mut Random) -> Vec<u8> {
    let mut body = seed.clone();
    // some stay good, so that what comes after reading is reached, too
    for _ in 0..[0, 1, 1, 1, 2, 3, 6][random.below(7)] {
        change(&mut body, names, random);
    }
    shorten(&mut body, random);
    let mut text = body.to_string();
    if text.contains(DEEP) {
        let depth = [3, 60, 126, 127, 128, 129, 1000, 50_000][random.below(8)];
        let (open, close) =
            [("[", "]"), ("{\"a\":", "}"), ("{\"items\":", "}"), ("{\"anyOf\":[", "]}")][random.below(4)];
        let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        text = text.replacen(&format!("\"{DEEP}\""), &nested, 1);
    }
    if random.once_in(25)
        && let Some(name) = body.as_object().and_then(|map| map.keys().nth(random.below(map.len().max(1))))
    {
        // the same field again
        text = text.replacen('{', &format!("{{{}:{},", json!(name), value(random, 1)), 1);
    }
    let mut bytes = text.into_bytes();
    if random.once_in(6) {
        for _ in 0..1 + random.below(3) {
            garble(&mut bytes, random);
        }
    }
    bytes
}

fn garble(bytes: &mut Vec<u8>, random: &mut Random) {
    let (at, end) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
    let (at, end) = (at.min(end), at.max(end).min(at.min(end) + 40));
    let pieces: [&[u8]; 12] = [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\x00",
        b"\\ud800",
        b"\\u0000",
        b"1e999",
        b"-",
        b"\"",
        b"}",
        b"123456789012345678901234567890",
        b"/*",
    ];
    match random.below(6) {
        0 if !bytes.is_empty() => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << random.below(8);
        }
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => drop(bytes.splice(at..at, random.of(&pieces).iter().copied())),
    }
}
