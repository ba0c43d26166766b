//! Chat templates against the reference renderings, and templates that misbehave.

mod common;

use std::time::{Duration, Instant};

use common::shared;
use ingle_text::{ChatTemplate, Error, Limits, Moment};
use serde_json::{Map, Value, json};

const NOON: Moment = Moment { year: 2025, month: 8, day: 5, hour: 12, minute: 0, second: 0 };

fn variables(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is not an object"),
    }
}

fn render(source: &str, value: Value) -> Result<String, Error> {
    ChatTemplate::new(source)?.render(&variables(value), NOON)
}

#[test]
fn every_golden_case_renders_as_the_reference_does() {
    let Some(goldens) = shared("goldens") else { return };
    let text = std::fs::read_to_string(goldens.join("chat_goldens.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 57);
    let mut wrong = Vec::new();
    for case in cases {
        let name = format!("{} {}", case["template"], case["case"]);
        assert_eq!(case["now"], "2025-08-05T12:00:00");
        let source = std::fs::read_to_string(goldens.join(case["path"].as_str().unwrap())).unwrap();
        let mut context = case["kwargs"].as_object().unwrap().clone();
        context.insert("messages".into(), case["messages"].clone());
        context.insert("tools".into(), case["tools"].clone());
        context.insert("documents".into(), Value::Null);
        let result = ChatTemplate::new(&source).unwrap().render(&context, NOON);
        match (case["rendered"].as_str(), result) {
            (Some(expected), Ok(found)) if found == expected => {}
            (None, Err(error)) => {
                // "TemplateError: Conversation roles must alternate ...": the template's own words.
                let (kind, words) = case["error"].as_str().unwrap().split_once(": ").unwrap();
                match (kind, &error) {
                    ("TemplateError", Error::TemplateRaised { message }) if message == words => {}
                    ("TemplateRuntimeError", Error::TemplateFailed { message, line: 1.. })
                        if message.contains("from_json") => {}
                    _ => wrong.push(format!("{name}: {error:?}, not {kind}: {words}")),
                }
            }
            (expected, found) => wrong.push(format!("{name}:\n{expected:?}\n{found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn values_are_written_as_python_writes_them() {
    for (source, expected) in [
        ("{{ x|tojson }}", r#"{"a": [1, 2.0, null, true, "é<'&>\n\u0001"], "b": {}}"#),
        ("{{ x.b|tojson(indent=2) }}{{ [[]]|tojson(indent=2) }}", "{}[\n  []\n]"),
        ("{{ {'k': [1]}|tojson(indent=4) }}", "{\n    \"k\": [\n        1\n    ]\n}"),
        ("{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}", r#"{"a":2,"b":1}"#),
        ("{{ 'é😀'|tojson(ensure_ascii=true) }}", r#""\u00e9\ud83d\ude00""#),
        ("{{ none }} {{ true }} {{ 1.0 }} {{ [1, 'a', none] }}", "None True 1.0 [1, 'a', None]"),
        ("{{ none|string ~ true ~ 1.5 }}{{ x|upper|length > 0 }}", "NoneTrue1.5True"),
        ("{{ undefined_thing }}{{ x.missing }}|", "|"),
        (
            "{{ '  a b '.strip() }},{{ 'a.b.c'.rsplit('.', 1) }},{{ 'k=v'.partition('=')|list }}",
            "a b,['a.b', 'c'],['k', '=', 'v']",
        ),
        (
            "{{ 'xx-y'.removeprefix('xx-') }}{{ 'a'.replace('a', 'b').upper() }}{{ '-'.join(['a', 'b']) }}",
            "yBa-b",
        ),
        ("{{ x.items()|list|length }}{{ x.get('zz', 'd') }}{{ 'a' in x }}", "2dTrue"),
        ("{{ [3, 1, 2]|sort|join(', ') }}{{ [{'n': 1}]|map(attribute='n')|list }}", "1, 2, 3[1]"),
        ("{{ '%s-%d'|format('a', 3) }}{{ '{}:{}'.format(1, 'b') }}", "a-31:b"),
        ("{{ strftime_now('%d %b %Y %H:%M') }}", "05 Aug 2025 12:00"),
    ] {
        let x = json!({"x": {"a": [1, 2.0, null, true, "é<'&>\n\u{1}"], "b": {}}});
        assert_eq!(render(source, x).unwrap(), expected, "{source}");
    }
}

#[test]
fn blocks_are_trimmed_and_loops_controlled_as_in_the_library() {
    let source = "{% for i in [1, 2, 3, 4] %}\n    {% if i == 2 %}\n        {% continue %}\n    {% endif %}\n    \
                  {% if i == 4 %}{% break %}{% endif %}\n{{ i }}\n{% endfor %}\nend\n";
    assert_eq!(render(source, json!({})).unwrap(), "1\n3\nend");
    let source = "a\n{% generation %}\nb {{ x }}\n{%- endgeneration %}\nc";
    assert_eq!(render(source, json!({"x": 1})).unwrap(), "a\nb 1c");
}

#[test]
fn namespaces_keep_what_they_are_given() {
    let source = "{% set ns = namespace(a=1, b=[]) %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}\
                  {% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }} {{ ns.b }}";
    assert_eq!(render(source, json!({})).unwrap(), "4 [1, 2]");
}

#[test]
fn what_a_template_raises_is_told_in_its_words() {
    match render("\n{{ raise_exception('no <system> here') }}", json!({})) {
        Err(Error::TemplateRaised { message }) => assert_eq!(message, "no <system> here"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_template_that_does_not_compile_names_the_line() {
    for source in ["a\nb\n{% if %}", "a\nb\n{{ 1 + }}", "a\nb\n{% unknown %}", "\n\n{% endfor %}"] {
        match ChatTemplate::new(source) {
            Err(Error::TemplateSyntax { line: 3, .. }) => {}
            other => panic!("{source}: {other:?}"),
        }
    }
}

/// Renders within ten seconds to a limit.
fn assert_limited(name: &str, source: &str) {
    let start = Instant::now();
    match render(source, json!({"messages": [{"role": "user", "content": "hi"}]})) {
        Err(Error::TemplateLimit { .. }) => {}
        other => panic!("{name}: {:.300?}", format!("{other:?}")),
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
}

#[test]
fn endless_and_enormous_work_meets_a_limit() {
    let loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    for (name, source) in [
        ("loop", loops.to_owned()),
        ("output", "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}".into()),
        ("multiplication", "{{ ('x' * 10000000000)|length }}".into()),
        ("doubling", "{% set ns = namespace(x='ab') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".into()),
        ("list doubling", "{% set ns = namespace(x=['ab']) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}".into()),
        ("join", "{{ ([1] * 100000)|join('x' * 1000000)|length }}".into()),
        ("join method", "{{ ('x' * 1000000).join(['a'] * 100000)|length }}".into()),
        ("replace", "{{ ('a' * 1000000)|replace('a', 'b' * 1000000)|length }}".into()),
        ("replace method", "{{ ('a' * 1000000).replace('a', 'b' * 1000000)|length }}".into()),
        ("written list", "{{ ['x' * 1000000] * 100000 }}".into()),
        ("list as text", "{{ (['x' * 1000000] * 100000)|string|length }}".into()),
        ("upper list", "{{ (['x' * 1000000] * 100000)|upper|length }}".into()),
        ("json", "{{ (['x' * 1000000] * 100000)|tojson|length }}".into()),
        ("format", "{{ '{:>1000000000}'.format(1)|length }}".into()),
        ("format filter", "{{ '%1000000000d'|format(1)|length }}".into()),
        ("format repeat", "{{ ('{0}' * 100000).format('x' * 1000000)|length }}".into()),
        ("indent", "{{ ('x\n' * 100000)|indent(1000000000)|length }}".into()),
        ("macro", "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".into()),
        ("recursive loop", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".into()),
        ("inclusion", "{% include 'chat template' %}".into()),
        ("deep list", "{% set ns = namespace(x=1) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}".into()),
        ("deep map", "{% set ns = namespace(x=1) %}{% for i in range(90000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}".into()),
        ("wide and deep", "{% set ns = namespace(x=1) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}".into()),
        ("self", "{% set ns = namespace(x=1, y=namespace(z=1)) %}{{ ns.y }}".to_owned() + loops),
    ] {
        assert_limited(name, &source);
    }
}

#[test]
fn a_range_without_end_is_an_error() {
    for source in ["{% for i in range(1000000000000) %}a{% endfor %}", "{{ range(10 ** 12)|list }}"] {
        assert!(render(source, json!({})).is_err());
    }
}

#[test]
fn a_namespace_cannot_contain_itself() {
    for source in [
        "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}",
        "{% set ns = namespace(x=1) %}{% set ns.x = [{'a': ns}] %}{{ ns|tojson }}",
        "{% set ns = namespace(x=1) %}\n{%- set ns . x = [ns] -%}\n{{ ns ~ '' }}",
        "{% set ns = namespace(x=1) %}{% set ns.x, y = ns, 1 %}{{ ns ~ '' }}",
    ] {
        assert!(matches!(render(source, json!({})), Err(Error::TemplateFailed { .. })), "{source}");
    }
}

#[test]
fn deep_syntax_is_an_error_or_harmless() {
    let many = 20_000;
    for (name, source) in [
        ("sum", format!("{{{{ {}1 }}}}", "1+".repeat(4000))),
        ("power", format!("{{{{ {}1 }}}}", "1**".repeat(2500))),
        ("not", format!("{{{{ {}1 }}}}", "not ".repeat(8000))),
        ("minus", format!("{{{{ {}1 }}}}", "-".repeat(8000))),
        ("attributes", format!("{{{{ x{} }}}}", ".a".repeat(4000))),
        ("items", format!("{{{{ x{} }}}}", "[0]".repeat(2700))),
        ("calls", format!("{{{{ x{} }}}}", "()".repeat(4000))),
        ("filters", format!("{{{{ x{} }}}}", "|upper".repeat(4000))),
        ("choice", format!("{{{{ {}1 }}}}", "1 if 0 else ".repeat(2000))),
        ("brackets", format!("{{{{ {}1{} }}}}", "(".repeat(4000), ")".repeat(4000))),
        ("lists", format!("{{{{ {}1{} }}}}", "[".repeat(4000), "]".repeat(4000))),
        ("ifs", format!("{}{}", "{% if 1 %}".repeat(10_000), "{% endif %}".repeat(10_000))),
        ("elifs", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(many))),
        ("sets", "{% set x=[x] %}".repeat(15_000) + "{{ x }}"),
        ("too long", " ".repeat(300 << 10)),
    ] {
        // What counts is that it comes back.
        match render(&source, json!({"x": "a"})) {
            Ok(_) => assert!(!["brackets", "lists", "ifs", "sets", "too long"].contains(&name), "{name}"),
            Err(
                Error::TemplateSyntax { .. } | Error::TemplateLimit { .. } | Error::TemplateFailed { .. },
            ) => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
}

#[test]
fn limits_can_be_set() {
    let limits = Limits { output_bytes: 10, ..Limits::default() };
    let template = ChatTemplate::with_limits("{{ x }}", limits).unwrap();
    assert!(template.render(&variables(json!({"x": "0123456789"})), NOON).is_ok());
    assert!(matches!(
        template.render(&variables(json!({"x": "0123456789a"})), NOON),
        Err(Error::TemplateLimit { limit: 10, .. })
    ));
    let limits = Limits { source_bytes: 3, ..Limits::default() };
    assert!(matches!(ChatTemplate::with_limits("four", limits), Err(Error::TemplateLimit { limit: 3, .. })));
}

#[test]
fn a_long_conversation_is_not_a_misbehaving_one() {
    let Some(path) = shared("goldens/templates/openai-gpt-oss-120b.jinja") else { return };
    let source = std::fs::read_to_string(path).unwrap();
    let turn = |index: usize| match index % 2 {
        0 => json!({"role": "user", "content": "question ".repeat(200)}),
        _ => json!({"role": "assistant", "content": "answer ".repeat(200)}),
    };
    let messages: Vec<Value> = (0..2001).map(turn).collect();
    let text = render(&source, json!({"messages": messages, "add_generation_prompt": true})).unwrap();
    assert!(text.len() > 3_000_000 && text.ends_with("<|start|>assistant"));
}
