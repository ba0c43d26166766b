//! From a conversation to the tokens a model continues.
//!
//! What people write is text, whatever it spells. A message that contains `<|im_end|>` must not end its own turn, and
//! after rendering nobody can tell the template's control tokens from the message's. So before rendering, every
//! spelling of a control token inside the conversation is broken by a noncharacter that occurs nowhere in it; what is
//! found whole afterwards is the template's, and from the text between, the noncharacter is taken out again.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::message::Message;
use crate::template::{ChatTemplate, Moment};
use crate::tokenizer::{Matcher, Piece, Tokenizer};

/// The tokens of `messages` as `template` arranges them, ready to be continued.
///
/// `variables` are further variables of the template; among them `add_generation_prompt` is true, and `bos_token`,
/// `eos_token`, `pad_token` and `unk_token` are the tokenizer's, unless they are given. `now` is what the template is
/// told of the time. Control tokens in messages, tools and variables are text; user-defined tokens are found everywhere.
/// A BOS is put first when the model asks for one and the template did not write it.
///
/// # Errors
/// Those of [`ChatTemplate::render`] and [`Tokenizer::encode`]; [`Error::NoSentinel`] for a conversation made of
/// noncharacters.
pub fn render_prompt(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    tools: Option<&[Value]>,
    variables: &Map<String, Value>,
    now: Moment,
) -> Result<Vec<u32>> {
    let mut context = variables.clone();
    context.insert("messages".into(), messages.iter().map(Message::to_json).collect());
    context.insert("tools".into(), tools.map_or(Value::Null, |tools| Value::Array(tools.to_vec())));
    context.entry("documents").or_insert(Value::Null);
    let control = tokenizer.control();
    let sentinel = sentinel(&context)?;
    for value in context.values_mut() {
        neutralise(value, control, sentinel);
    }
    // These are ours and stay whole.
    context.entry("add_generation_prompt").or_insert(Value::Bool(true));
    for (name, id) in [
        ("bos_token", tokenizer.bos()),
        ("eos_token", tokenizer.eos()),
        ("pad_token", tokenizer.pad()),
        ("unk_token", tokenizer.unknown()),
    ] {
        let given = variables.get(name).and_then(Value::as_str).map(str::to_owned);
        let text = given.or_else(|| id.and_then(|id| tokenizer.token_text(id)).map(str::to_owned));
        match text {
            Some(text) => drop(context.insert(name.into(), Value::String(text))),
            None => drop(context.shift_remove(name)),
        }
    }
    let text = template.render(&context, now)?;

    // The text without sentinels, and where in it the template's control tokens are.
    let mut plain = String::with_capacity(text.len());
    let mut pieces = Vec::new();
    for Piece { token, range } in control.cut(&text) {
        let start = plain.len();
        plain.extend(text[range].chars().filter(|&character| character != sentinel));
        if start < plain.len() {
            pieces.push(Piece { token, range: start..plain.len() });
        }
    }
    let mut ids = tokenizer.encode_cut(&plain, &pieces)?;
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos())
        && ids.first() != Some(&bos)
    {
        ids.insert(0, bos);
    }
    Ok(ids)
}

/// A noncharacter that occurs nowhere in `context`.
fn sentinel(context: &Map<String, Value>) -> Result<char> {
    let mut used = [false; 32];
    let mut look = |text: &str| {
        for character in text.chars().filter(|character| ('\u{FDD0}'..='\u{FDEF}').contains(character)) {
            used[(character as u32 - 0xFDD0) as usize] = true;
        }
    };
    let mut todo: Vec<&Value> = Vec::new();
    for (name, value) in context {
        look(name);
        todo.push(value);
    }
    while let Some(value) = todo.pop() {
        match value {
            Value::String(text) => look(text),
            Value::Array(items) => todo.extend(items),
            Value::Object(members) => {
                for (name, member) in members {
                    look(name);
                    todo.push(member);
                }
            }
            _ => {}
        }
    }
    let free = used.iter().position(|&used| !used).ok_or(Error::NoSentinel)?;
    char::from_u32(0xFDD0 + free as u32).ok_or(Error::NoSentinel)
}

/// Breaks every control token in the texts of `value`, member names included.
fn neutralise(value: &mut Value, control: &Matcher, sentinel: char) {
    match value {
        Value::String(text) => {
            if let Some(broken) = control.broken(text, sentinel) {
                *text = broken;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| neutralise(item, control, sentinel)),
        Value::Object(members) => {
            if members.keys().any(|name| control.broken(name, sentinel).is_some()) {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(name, member)| (control.broken(&name, sentinel).unwrap_or(name), member))
                    .collect();
            }
            members.values_mut().for_each(|member| neutralise(member, control, sentinel));
        }
        _ => {}
    }
}
