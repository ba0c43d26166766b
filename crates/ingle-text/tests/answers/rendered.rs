//! Reading inverts writing: an assistant's message that a template renders is read back as the same message.

use super::{Answer, answer, read};
use crate::common::shared;
use ingle_text::{ChatTemplate, Dialect, Ending, Message, Moment, ToolCall};
use serde_json::{Map, Value, json};

const NOON: Moment = Moment { year: 2025, month: 8, day: 5, hour: 12, minute: 0, second: 0 };

/// A dialect's templates, and what they cannot say.
struct Family {
    dialect: &'static str,
    /// The file with the template; empty for the format written here.
    template: &'static str,
    variables: Value,
    /// What ends the turn in the rendered text.
    end: &'static str,
    /// Whether it renders thoughts beside calls, several calls, and content beside calls.
    thoughts: bool,
    parallel: bool,
    preamble: bool,
}

fn families() -> Vec<Family> {
    let family = |dialect, template, end| Family {
        dialect,
        template,
        variables: json!({}),
        end,
        thoughts: true,
        parallel: true,
        preamble: true,
    };
    let deepseek_end = "<｜end▁of▁sentence｜>";
    vec![
        Family { thoughts: false, ..family("hermes", "Qwen-Qwen2.5-7B-Instruct", "<|im_end|>\n") },
        family("hermes", "Qwen-Qwen3-0.6B", "<|im_end|>\n"),
        Family { thoughts: false, ..family("qwen-xml", "Qwen3-Coder", "<|im_end|>\n") },
        family("qwen-xml", "Qwen3.5-4B", "<|im_end|>\n"),
        Family { thoughts: false, ..family("deepseek", "deepseek-ai-DeepSeek-V3.1", deepseek_end) },
        Family {
            variables: json!({"thinking": true}),
            ..family("deepseek-v3.2", "deepseek-ai-DeepSeek-V3.2", deepseek_end)
        },
        Family { variables: json!({"thinking": true}), ..family("deepseek-v3.2", "", deepseek_end) },
        Family { parallel: false, preamble: false, ..family("harmony", "openai-gpt-oss-120b", "") },
        family("harmony", "", ""),
        // Its template writes what is said after the calls.
        Family { preamble: false, ..family("gemma4", "google-gemma-4-31B-it", "<|tool_response>") },
    ]
}

fn template(family: &Family) -> Option<ChatTemplate> {
    if family.template.is_empty() {
        return ChatTemplate::built_in(&Dialect::named(family.dialect, None).unwrap());
    }
    let path = shared(&format!("goldens/templates/{}.jinja", family.template))?;
    Some(ChatTemplate::new(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn render(family: &Family, template: &ChatTemplate, messages: &[Message], prompt: bool) -> String {
    let mut variables: Map<String, Value> = family.variables.as_object().unwrap().clone();
    variables.insert("messages".into(), messages.iter().map(Message::to_json).collect());
    variables.insert("tools".into(), Value::Array(super::tools()));
    variables.insert("add_generation_prompt".into(), json!(prompt));
    variables.insert("bos_token".into(), json!("<s>"));
    template.render(&variables, NOON).unwrap_or_else(|error| panic!("{}: {error}", family.template))
}

/// Messages of every mixture of thoughts, content and calls.
fn messages() -> Vec<Message> {
    let call =
        |name: &str, arguments: Value| ToolCall { id: Some("call_1".into()), name: name.into(), arguments };
    let calls = [
        call(
            "get_weather",
            json!({"city": "Kö\"ln\\ <b>\n</b>\n日本 </tool_call", "days": -2, "exact": true}),
        ),
        call("search", json!({"queries": ["a, b", "}]"], "opts": {"deep": {"er": [1.5, null, ""]}}})),
        call("get_weather", json!({"city": "12"})),
        call("now", json!({})),
    ];
    let mut messages = Vec::new();
    for reasoning in [None, Some("First.\n\nThen <b>second</b>: {\"a\": 1}.")] {
        for content in ["", "Let me look.\n\nNow: 1 < 2"] {
            for count in 0..=calls.len() {
                let reasoning = reasoning.map(str::to_owned);
                let tool_calls = calls[..count].to_vec();
                messages.push(Message { reasoning, tool_calls, ..Message::new("assistant", content) });
            }
        }
    }
    messages
}

#[test]
fn what_templates_render_is_read_back() {
    let mut compared = 0;
    for family in families() {
        let Some(template) = template(&family) else { continue };
        let question = Message::new("user", "Weather?");
        let prompt = render(&family, &template, std::slice::from_ref(&question), true);
        let dialect = Dialect::named(family.dialect, None).unwrap();
        assert_eq!(
            template
                .source()
                .map(|source| Dialect::detect(Some(source), None).name())
                .unwrap_or(dialect.name()),
            family.dialect
        );
        for message in messages() {
            let content = message.content.as_str().unwrap_or_default();
            let has_calls = !message.tool_calls.is_empty();
            let mixes = message.reasoning.is_some() && (has_calls || !content.is_empty());
            if (message.reasoning.is_some() && !family.thoughts)
                || (message.tool_calls.len() > 1 && !family.parallel)
                || (has_calls && !content.is_empty() && !family.preamble)
                || (!has_calls && content.is_empty())
                // Harmony takes one text beside a call for the thought that led to it; Gemma shows thoughts only there.
                || (family.dialect == "harmony" && has_calls && !content.is_empty() && !mixes)
                || (family.dialect == "gemma4" && message.reasoning.is_some() && !has_calls)
            {
                continue;
            }
            let rendered = render(&family, &template, &[question.clone(), message.clone()], false);
            let (text, in_reasoning) = turn(&prompt, &rendered, &dialect);
            let ended = text.strip_suffix(family.end).or_else(|| text.strip_suffix("<turn|>\n"));
            let text = ended.unwrap_or_else(|| panic!("{text}"));
            let found = answer(&read(family.dialect, in_reasoning, &[text], Ending::Turn));
            let calls = message.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone()));
            let expected = Answer {
                reasoning: message.reasoning.clone().unwrap_or_default(),
                content: content.into(),
                calls: calls.collect(),
                notices: 0,
            };
            assert_eq!(found, expected, "{} {}:\n{text}", family.dialect, family.template);
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

/// The assistant's turn in a rendered conversation, which begins like the prompt for it; whether the prompt has opened a
/// thought.
fn turn<'a>(prompt: &str, rendered: &'a str, dialect: &Dialect) -> (&'a str, bool) {
    if let Some(text) = rendered.strip_prefix(prompt) {
        return (text, dialect.opens_reasoning(prompt));
    }
    // The prompt has closed a thought that the rendered turn does not have, or opened one that it has not.
    let shared = prompt.bytes().zip(rendered.bytes()).take_while(|(one, other)| one == other).count();
    let start = rendered.floor_char_boundary(shared);
    // not in the middle of a tag
    let tag = rendered[..start].rfind('<').filter(|&at| !rendered[at..start].contains('>'));
    let start = tag.unwrap_or(start);
    (&rendered[start..], dialect.opens_reasoning(&rendered[..start]))
}

#[test]
fn formats_written_here_are_the_templates() {
    let Some(goldens) = shared("goldens") else { return };
    let text = std::fs::read_to_string(goldens.join("chat_goldens.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for case in file["cases"].as_array().unwrap() {
        let name = match case["template"].as_str().unwrap() {
            "gpt-oss" => "harmony",
            "deepseek-v3.2" => "deepseek-v3.2",
            _ => continue,
        };
        let template = ChatTemplate::built_in(&Dialect::named(name, None).unwrap()).unwrap();
        let mut variables = case["kwargs"].as_object().unwrap().clone();
        variables.insert("messages".into(), case["messages"].clone());
        variables.insert("tools".into(), case["tools"].clone());
        let rendered = template.render(&variables, NOON).unwrap();
        match case["rendered"].as_str() {
            Some(expected) => assert_eq!(rendered, expected, "{name} {}", case["case"]),
            // The template asks for a filter nobody has; here arguments that are text are parsed.
            None => assert!(rendered.contains("name=\"days\" string=\"false\">2<"), "{rendered}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 18);
}

/// Schemas of every shape, rendered as the template renders them.
#[test]
fn tools_are_written_as_the_template_writes_them() {
    let Some(path) = shared("goldens/templates/openai-gpt-oss-120b.jinja") else { return };
    let template = ChatTemplate::new(&std::fs::read_to_string(path).unwrap()).unwrap();
    let native = ChatTemplate::built_in(&Dialect::named("harmony", None).unwrap()).unwrap();
    let mut state = 7u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % bound
    };
    for _ in 0..400 {
        let mut properties = Map::new();
        for at in 0..below(5) {
            properties.insert(format!("p{at}"), schema(&mut below, 0));
        }
        let parameters = json!({"type": "object", "properties": properties, "required": ["p0", "p2"]});
        let function = json!({"name": "f", "description": "Does é <b>.", "parameters": parameters});
        let variables = json!({
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": function}],
            "add_generation_prompt": true,
        });
        let variables = variables.as_object().unwrap();
        assert_eq!(
            native.render(variables, NOON).unwrap(),
            template.render(variables, NOON).unwrap(),
            "{function}"
        );
    }
}

fn schema(below: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
    let mut schema = match below(if depth < 3 { 11 } else { 7 }) {
        0 => json!({"type": "string"}),
        1 => json!({"type": "string", "enum": ["a", "b c"]}),
        2 => json!({"type": ["string", "null"]}),
        3 => json!({"type": "integer"}),
        4 => json!({"type": "boolean"}),
        5 => json!({}),
        6 => json!({"type": "array"}),
        7 => json!({"type": "array", "items": schema(below, depth + 1)}),
        8 | 9 => {
            let properties: Map<String, Value> =
                (0..below(3)).map(|at| (format!("m{at}"), schema(below, depth + 1))).collect();
            json!({"type": "object", "properties": properties, "required": ["m1"]})
        }
        _ => {
            let variants: Vec<Value> = (0..1 + below(2)).map(|_| schema(below, depth + 1)).collect();
            json!({"oneOf": variants})
        }
    };
    if below(3) == 0 {
        schema["description"] = json!("About it.");
    }
    if below(4) == 0 {
        schema["nullable"] = json!(true);
    }
    if below(4) == 0 {
        schema["default"] = json!("a");
    }
    schema
}
