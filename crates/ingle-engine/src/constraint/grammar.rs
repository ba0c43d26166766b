//! What an answer may look like, thoughts and markers included, as one grammar from its first token to its last:
//!
//! ```text
//! answer := thought? (form | calls)          most families
//! answer := analysis* (final form | call)    Harmony
//! ```

use super::vocabulary::Vocabulary;
use super::{CallChoice, Calls, ConstraintError, Form};
use ingle_text::{Dialect, WrittenArguments, WrittenCalls};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// White space between the parts of JSON: what pretty printers write. Without a bound, a small model that has lost its way
/// writes line ends until it is stopped.
const SPACE: &str = r" |\n[ \t]{0,64}";

/// What an answer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// What is said.
    Content,
    /// The prompt has opened a thought.
    Thought,
    /// Perhaps a thought, which the answer opens.
    PerhapsThought,
}

/// What an answer is held to.
pub(super) struct Held<'a> {
    pub(super) form: Option<&'a Form>,
    pub(super) calls: &'a Calls,
    pub(super) tools: &'a [Value],
    pub(super) dialect: &'a Dialect,
    pub(super) beginning: Beginning,
}

/// Rules of the main grammar, and the grammars they refer to.
#[derive(Default)]
struct Rules {
    lark: String,
    others: Vec<GrammarWithLexer>,
}

impl Rules {
    fn rule(&mut self, name: &str, body: &str) {
        _ = writeln!(self.lark, "{name}: {body}");
    }

    /// A name for another grammar.
    fn other(&mut self, grammar: GrammarWithLexer) -> String {
        let name = format!("g{}", self.others.len());
        self.others.push(GrammarWithLexer { name: Some(name.clone()), ..grammar });
        format!("@{name}")
    }

    /// Text up to a marker, which belongs to it. Where the marker is a control token, no text can be it; where it begins as
    /// text, that text ends here.
    fn text_until(&mut self, name: &str, marker: &str, vocabulary: &Vocabulary) {
        let mut parts = vocabulary.literals(marker);
        if parts.first().is_none_or(|first| first.starts_with('<')) {
            self.rule(name, &format!("TEXT? {}", parts.join(" ")));
            return;
        }
        let first = parts.remove(0);
        self.rule(&format!("{name}_begin[suffix={first}]"), "/(?s:.*)/");
        self.rule(name, &format!("{name}_begin {}", parts.join(" ")));
    }

    fn schema(&mut self, schema: Value) -> String {
        self.other(GrammarWithLexer::from_json_schema(with_space(schema)))
    }
}

/// The grammar of an answer.
///
/// # Errors
/// Calls that cannot be written, because the model's way to write them is not known or a tool's name is none.
pub(super) fn grammar(held: &Held, vocabulary: &Vocabulary) -> Result<TopLevelGrammar, ConstraintError> {
    let mut rules = Rules::default();
    let harmony = held.dialect.name() == "harmony";
    let mut ends = Vec::new();
    let has_to_call = held.calls.choice != CallChoice::Auto;
    if let (Some(form), false) = (held.form, has_to_call) {
        let form = match form {
            Form::Object => rules.schema(json!({"type": "object"})),
            Form::Schema(schema) => rules.schema(schema.clone()),
            Form::Regex(regex) => rules.other(GrammarWithLexer::from_regex(regex)),
            Form::Lark(lark) => rules.other(GrammarWithLexer::from_lark(lark.clone())),
        };
        let header = if harmony { vocabulary.literal("<|channel|>final<|message|>") } else { String::new() };
        rules.rule("form", &format!("{header} {form}"));
        ends.push("form");
    }
    // a model that calls nothing is held to the form alone
    let may_call = held.form.is_some() && held.dialect.has_calls();
    if !held.tools.is_empty() && (has_to_call || may_call) {
        calls(&mut rules, held, vocabulary)?;
        ends.push("calls");
    }
    let end = ends.join(" | ");
    if harmony {
        let open = vocabulary.literal("<|channel|>analysis<|message|>");
        let close = vocabulary.literal("<|end|><|start|>assistant");
        rules.rule("start", &format!("analysis* ({end})"));
        rules.rule("analysis", &format!("{open} TEXT? {close}"));
    } else {
        thought(&mut rules, held, vocabulary, &end);
    }
    rules.lark.push_str("TEXT: /(?s:.+)/\n");
    let main = GrammarWithLexer::from_lark(rules.lark);
    let grammars =
        std::iter::once(GrammarWithLexer { name: Some("answer".into()), ..main }).chain(rules.others);
    Ok(TopLevelGrammar { grammars: grammars.collect(), max_tokens: None })
}

/// What comes before `end`: a thought, or none.
fn thought(rules: &mut Rules, held: &Held, vocabulary: &Vocabulary, end: &str) {
    let markers = held.dialect.reasoning().filter(|_| held.beginning != Beginning::Content);
    let Some((open, close)) = markers else {
        rules.rule("start", &format!("({end})"));
        return;
    };
    rules.text_until("thought", close, vocabulary);
    rules.lark.push_str("LINES: /\\n{1,2}/\n");
    match held.beginning {
        Beginning::PerhapsThought => {
            let open = vocabulary.literal(open);
            rules.rule("start", &format!("({open} thought LINES?)? ({end})"));
        }
        _ => rules.rule("start", &format!("thought LINES? ({end})")),
    }
}

/// Calls of the tools that may be called.
fn calls(rules: &mut Rules, held: &Held, vocabulary: &Vocabulary) -> Result<(), ConstraintError> {
    let wanted = |name: &str| match &held.calls.choice {
        CallChoice::Named(wanted) => wanted == name,
        CallChoice::Auto | CallChoice::Required => true,
    };
    let mut tools = Vec::new();
    for tool in held.tools {
        let name = tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default();
        if wanted(name) {
            tools.push((name, parameters(tool)));
        }
    }
    let mut ways = Vec::new();
    for (way, written) in held.dialect.written_calls().enumerate() {
        let mut one = Vec::new();
        for (index, (name, parameters)) in tools.iter().enumerate() {
            let rule = format!("call{way}_{index}");
            call(rules, written, vocabulary, &rule, name, parameters)?;
            one.push(rule);
        }
        let literal = |text: &str| vocabulary.literal(text);
        let mut body = format!("{} call{way}", literal(written.begin));
        if let (Some(between), false) = (written.between, held.calls.single) {
            _ = write!(body, " ({} call{way})*", literal(between));
        }
        _ = write!(body, " {}", literal(written.end));
        rules.rule(&format!("call{way}"), &one.join(" | "));
        rules.rule(&format!("calls{way}"), &body);
        ways.push(format!("calls{way}"));
    }
    if ways.is_empty() {
        return Err(ConstraintError::Calls { dialect: held.dialect.name() });
    }
    rules.rule("calls", &ways.join(" | "));
    Ok(())
}

/// A call of one tool.
fn call(
    rules: &mut Rules,
    written: &WrittenCalls,
    vocabulary: &Vocabulary,
    rule: &str,
    name: &str,
    parameters: &Value,
) -> Result<(), ConstraintError> {
    let plain = |name: &str| {
        let fits = |c: char| c.is_alphanumeric() || "_-.:/$".contains(c);
        !name.is_empty() && name.chars().all(fits)
    };
    if !plain(name) {
        return Err(ConstraintError::Name { name: name.chars().take(80).collect() });
    }
    let begin = vocabulary.literal(&format!("{}{name}{}", written.open, written.middle));
    let close = vocabulary.literal(written.close);
    let arguments = match written.arguments {
        WrittenArguments::Json => rules.schema(parameters.clone()),
        WrittenArguments::Parameters { open, text, json, close } => {
            let required: Vec<&str> =
                parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut all = Vec::new();
            for (at, (key, schema)) in parameters["properties"].as_object().into_iter().flatten().enumerate()
            {
                if !plain(key) {
                    return Err(ConstraintError::Name { name: key.chars().take(80).collect() });
                }
                let rule = format!("{rule}_{at}");
                // a text without a form of its own is written as it is
                let is_text = schema["type"] == "string";
                let value = match is_text {
                    true => {
                        let text = format!("{rule}_text");
                        rules.text_until(&text, close, vocabulary);
                        text
                    }
                    false => {
                        let schema = rules.schema(with_definitions(schema, parameters));
                        format!("{schema} {}", vocabulary.literal(close))
                    }
                };
                let begin = vocabulary.literal(&format!("{open}{key}{}", if is_text { text } else { json }));
                rules.rule(&rule, &format!("{begin} {value}"));
                all.push(if required.contains(&key.as_str()) { rule } else { format!("{rule}?") });
            }
            all.join(" ")
        }
    };
    rules.rule(rule, &format!("{begin} {arguments} {close}"));
    Ok(())
}

/// A tool's parameters: an object in any case.
fn parameters(tool: &Value) -> Value {
    let mut parameters: Map<String, Value> =
        tool.pointer("/function/parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    parameters.entry("type").or_insert("object".into());
    Value::Object(parameters)
}

/// A part of a schema, with the definitions it may refer to.
fn with_definitions(part: &Value, whole: &Value) -> Value {
    let mut part = part.clone();
    for name in ["$defs", "definitions"] {
        if let (Some(object), Some(definitions)) = (part.as_object_mut(), whole.get(name)) {
            object.entry(name).or_insert(definitions.clone());
        }
    }
    part
}

/// A schema with bounded white space.
fn with_space(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert(json!({"whitespace_pattern": SPACE}));
    }
    schema
}
