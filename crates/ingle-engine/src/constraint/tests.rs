//! Answers as each dialect writes them, walked through the grammar they are held to.

use super::grammar::{Beginning, Held, grammar};
use super::*;
use ingle_text::Specials;
use ingle_text::Tokenizer;
use serde_json::{Map, json};

/// A vocabulary of bytes and these control tokens.
fn tokenizer(control: &[&str]) -> Tokenizer {
    let plain = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others: Vec<u8> = (0..=255u8).filter(|byte| !plain(byte)).collect();
    let letter = |byte: u8| match others.iter().position(|&other| other == byte) {
        Some(at) => char::from_u32(256 + at as u32).unwrap(),
        None => char::from(byte),
    };
    let vocab: Map<String, Value> = (0..=255u8).map(|byte| (letter(byte).to_string(), byte.into())).collect();
    let added: Vec<Value> = control
        .iter()
        .enumerate()
        .map(|(at, text)| {
            json!({"id": 256 + at, "content": text, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let json = json!({
        "version": "1.0", "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Tokenizer::from_json(json.to_string().as_bytes(), None).unwrap()
}

const HARMONY: &[&str] =
    &["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>", "<|constrain|>"];
const DEEPSEEK: &[&str] = &[
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "｜DSML｜",
];

struct Case {
    dialect: &'static str,
    control: &'static [&'static str],
    beginning: Beginning,
    form: Option<Form>,
    choice: CallChoice,
}

/// How far the text goes along the grammar, in bytes of tokens, and whether it may end there.
fn walk(case: &Case, text: &str) -> Result<(), String> {
    let tokenizer = tokenizer(case.control);
    let rows = tokenizer.vocab_size();
    let vocabulary = Vocabulary::new(&tokenizer, rows, &[]).unwrap();
    let dialect = Dialect::named(case.dialect, Some(&tokenizer)).unwrap();
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": {
        "type": "object",
        "properties": {"at": {"type": "string"}, "far": {"type": "integer"}},
        "required": ["at"], "additionalProperties": false}}});
    let calls = Calls { choice: case.choice.clone(), single: false };
    let tools = [tool];
    let held = Held {
        form: case.form.as_ref(),
        calls: &calls,
        tools: &tools,
        dialect: &dialect,
        beginning: case.beginning,
    };
    let mut matcher = vocabulary.matcher(grammar(&held, &vocabulary).unwrap()).unwrap();
    let tokens = tokenizer.encode(text, Specials::Parse).unwrap();
    for (at, &token) in tokens.iter().enumerate() {
        if !matches!(matcher.try_consume_tokens(&[token]), Ok(1)) {
            return Err(tokenizer.decode(&tokens[..at]).unwrap());
        }
    }
    match matcher.is_stopped() || matcher.is_accepting().unwrap() {
        true => Ok(()),
        false => Err("it may not end there".into()),
    }
}

fn case(dialect: &'static str, control: &'static [&'static str], beginning: Beginning) -> Case {
    Case { dialect, control, beginning, form: None, choice: CallChoice::Required }
}

#[test]
fn forced_calls_are_written_as_each_family_writes_them() {
    use Beginning::{Content, PerhapsThought, Thought};
    for (case, text) in [
        (
            case("hermes", &[], PerhapsThought),
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"look\", \
             \"arguments\": {\"at\": \"y\", \"far\": 3}}\n</tool_call>",
        ),
        (
            case("hermes", &[], PerhapsThought),
            "<think>\nWell, </thin > {1}\n</think>\n\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \
             \"x\"}}\n</tool_call>",
        ),
        (
            case("hermes", &["<think>", "</think>"], Thought),
            "\nSo it is.\n</think>\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}\n</tool_call>",
        ),
        (
            case("qwen-xml", &[], Content),
            "<tool_call>\n<function=look>\n<parameter=at>\nA \"b\"\n<c>\n</parameter>\n<parameter=far>\n7\n</parameter>\n\
             </function>\n</tool_call>",
        ),
        (
            case("deepseek", DEEPSEEK, Content),
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{\"at\": \
             \"x\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        (
            case("deepseek", DEEPSEEK, Content),
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>look<｜tool▁sep｜>{\"at\": \
             \"x\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        (
            case("deepseek-v3.2", DEEPSEEK, Content),
            "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"look\">\n<｜DSML｜parameter name=\"at\" \
             string=\"true\">x</｜DSML｜parameter>\n<｜DSML｜parameter name=\"far\" \
             string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        ),
        (
            case("mistral", &["[TOOL_CALLS]"], Content),
            "[TOOL_CALLS][{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}, {\"name\": \"look\", \"arguments\": {\"at\": \
             \"y\"}}]",
        ),
        (
            case("harmony", HARMONY, Content),
            "<|channel|>analysis<|message|>Let me <look>.<|end|><|start|>assistant<|channel|>commentary to=functions.look \
             <|constrain|>json<|message|>{\"at\": \"x\"}",
        ),
    ] {
        assert_eq!(walk(&case, text), Ok(()), "{}", case.dialect);
        assert!(walk(&case, "Hello there, this is an answer in words.").is_err(), "{}", case.dialect);
        assert!(walk(&case, &text.replace("look", "seek")).is_err(), "{}", case.dialect);
        assert!(walk(&case, &text.replace("at", "in")).is_err(), "{}", case.dialect);
    }
}

#[test]
fn a_form_comes_after_the_thoughts_of_each_family() {
    use Beginning::{Content, PerhapsThought, Thought};
    let with_form = |case: Case| Case { form: Some(Form::Object), choice: CallChoice::Auto, ..case };
    for (case, text) in [
        (case("plain", &[], Content), "{\"a\": [1, 2]}"),
        (case("hermes", &[], Content), "{\n  \"a\": 1\n}"),
        (case("hermes", &[], PerhapsThought), "{}"),
        (case("hermes", &[], PerhapsThought), "<think>\nx < 3\n</think>\n\n{}"),
        (case("deepseek", &["<think>", "</think>"], Thought), "Hm.\n</think>\n\n{\"a\": null}"),
        (case("think", &[], Thought), "</think>{}"),
        (case("harmony", HARMONY, Content), "<|channel|>final<|message|>{\"a\": \"b\"}"),
        (
            case("harmony", HARMONY, Content),
            "<|channel|>analysis<|message|>{x<|end|><|start|>assistant<|channel|>final<|message|>{}",
        ),
    ] {
        let case = with_form(case);
        // tools of a family whose calls nobody can write are no hindrance to a form
        let held_to = walk(&case, text);
        assert_eq!(held_to, Ok(()), "{} {text}", case.dialect);
        assert!(walk(&case, &text.replace('}', ")")).is_err(), "{} {text}", case.dialect);
    }
}
