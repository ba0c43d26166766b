//! Answers that are held to a form, or to calls.

use ingle_engine::constraint::{CallChoice, Calls, ConstraintError, Form};
use ingle_engine::sampling::SamplingOptions;
use ingle_engine::{
    ChatRequest, Engine, EngineError, EngineOptions, Flow, GenerateOptions, LoadOptions, Model, Outcome,
    Reading, Request,
};
use ingle_model::Source;
use ingle_text::Message;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
    let options = LoadOptions { context: Some(1024), ..LoadOptions::default() };
    let model = Model::load(Arc::new(Source::open(&path).unwrap()), &options, &mut |_| {}).unwrap();
    Engine::start(model, &EngineOptions::default())
});

/// What is asked of an answer.
#[derive(Clone, Default)]
struct Asked {
    form: Option<Form>,
    calls: Calls,
    tools: Vec<Value>,
    thinking: bool,
    temperature: f32,
    seed: u64,
}

fn submit(text: &str, asked: &Asked) -> Result<Outcome, EngineError> {
    let Asked { form, calls, tools, thinking, temperature, seed } = asked.clone();
    let mut variables = serde_json::Map::new();
    variables.insert("enable_thinking".into(), thinking.into());
    let chat = ChatRequest { messages: vec![Message::new("user", text)], tools: tools.clone(), variables };
    let prompt = ENGINE.language().render(&chat)?;
    let options = GenerateOptions {
        sampling: SamplingOptions { temperature, seed: Some(seed), ..SamplingOptions::default() },
        max_tokens: Some(300),
        reading: Reading::Message { tools },
        form,
        calls,
        ..GenerateOptions::default()
    };
    let (send, ended) = mpsc::channel();
    let request = Request { prompt, options, ..Request::default() };
    let on_end = Box::new(move |outcome| _ = send.send(outcome));
    let ticket = ENGINE.submit(request, Box::new(|_| Flow::Continue), on_end)?;
    let outcome = ended.recv().unwrap();
    drop(ticket);
    outcome
}

fn answer(text: &str, asked: &Asked) -> Outcome {
    submit(text, asked).unwrap()
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["cat", "dog"]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": false,
    })
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {
        "name": name,
        "description": "Looks it up",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}, "days": {"enum": [1, 2, 7]}},
            "required": ["city", "days"],
            "additionalProperties": false,
        },
    }})
}

#[test]
fn json_fits_its_schema_at_any_temperature() {
    for seed in 0..8 {
        let asked = Asked {
            form: Some(Form::Schema(person())),
            temperature: 0.5 * seed as f32,
            seed,
            ..Asked::default()
        };
        let outcome = answer("Describe Tom as JSON.", &asked);
        let said: Value = serde_json::from_str(&outcome.text).expect(&outcome.text);
        let fields: Vec<&String> = said.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["name", "age", "kind"], "{said}");
        assert!(said["age"].as_u64().unwrap() <= 150, "{said}");
        assert!(said["name"].as_str().unwrap().chars().count() <= 20, "{said}");
        assert!(["cat", "dog"].contains(&said["kind"].as_str().unwrap()), "{said}");
        assert!(outcome.usage.masks >= outcome.tokens.len(), "{:?}", outcome.usage);
    }
}

#[test]
fn forms_apply_after_the_thought() {
    let mut thoughts = 0;
    for seed in 0..4 {
        let asked = Asked {
            form: Some(Form::Regex("(yes|no)!".into())),
            thinking: true,
            temperature: 0.7,
            seed,
            ..Asked::default()
        };
        let outcome = answer("Is 3 greater than 2?", &asked);
        assert!(["yes!", "no!"].contains(&outcome.text.as_str()), "{outcome:?}");
        thoughts += usize::from(!outcome.reasoning.is_empty());
    }
    assert!(thoughts > 0, "nothing was thought in any of the answers");
}

#[test]
fn regular_expressions_grammars_and_any_object() {
    let date = Asked { form: Some(Form::Regex(r"\d{4}-\d{2}-\d{2}".into())), ..Asked::default() };
    let text = answer("When?", &date).text;
    let digits = |range: std::ops::Range<usize>| text[range].bytes().all(|byte| byte.is_ascii_digit());
    assert!(text.len() == 10 && digits(0..4) && &text[4..5] == "-" && digits(8..10), "{text}");

    let lark = "start: color (\", \" color)~2\ncolor: \"red\" | \"green\" | \"blue\"\n";
    let colors = Asked { form: Some(Form::Lark(lark.into())), temperature: 1.0, ..Asked::default() };
    let text = answer("Name colours.", &colors).text;
    let all: Vec<&str> = text.split(", ").collect();
    assert!(all.len() == 3 && all.iter().all(|one| ["red", "green", "blue"].contains(one)), "{text}");

    let object = Asked { form: Some(Form::Object), ..Asked::default() };
    let text = answer("Give me JSON with a name.", &object).text;
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
}

#[test]
fn calls_that_have_to_be_made_are_made_and_fit_their_schema() {
    let tools = vec![tool("weather"), tool("tides")];
    let single = |choice| Calls { choice, single: true };
    for (choice, seed) in [
        (CallChoice::Required, 1),
        (CallChoice::Required, 2),
        (CallChoice::Named("tides".into()), 3),
        (CallChoice::Named("weather".into()), 4),
    ] {
        let asked = Asked {
            calls: single(choice.clone()),
            tools: tools.clone(),
            temperature: 1.0,
            seed,
            ..Asked::default()
        };
        let outcome = answer("Hello, how are you?", &asked);
        let [call] = &outcome.calls[..] else { panic!("{outcome:?}") };
        if let CallChoice::Named(name) = choice {
            assert_eq!(call.name, name);
        }
        let arguments: Value = serde_json::from_str(call.arguments.as_str().unwrap()).unwrap();
        assert!(arguments["city"].is_string(), "{arguments}");
        assert!([1, 2, 7].contains(&arguments["days"].as_i64().unwrap()), "{arguments}");
        assert_eq!(outcome.text, "", "{outcome:?}");
    }
}

#[test]
fn with_a_form_and_tools_an_answer_is_either() {
    let asked = Asked {
        form: Some(Form::Schema(person())),
        tools: vec![tool("weather")],
        temperature: 0.8,
        ..Asked::default()
    };
    for seed in 0..4 {
        let outcome = answer("What is the weather in Paris?", &Asked { seed, ..asked.clone() });
        match &outcome.calls[..] {
            [] => assert!(serde_json::from_str::<Value>(&outcome.text).is_ok(), "{outcome:?}"),
            calls => assert!(calls.iter().all(|call| call.name == "weather"), "{outcome:?}"),
        }
    }
}

#[test]
fn what_cannot_be_honoured_is_an_error_before_anything_is_computed() {
    let refused = |form: Form| match submit("Hello", &Asked { form: Some(form), ..Asked::default() }) {
        Err(EngineError::Constraint(ConstraintError::Form { problem })) => problem,
        other => panic!("{other:?}"),
    };
    for schema in [
        json!({"type": "nonsense"}),
        json!({"type": "object", "properties": 7}),
        json!({"$ref": "https://example.org/schema.json"}),
        json!(17),
        json!({"type": "string", "pattern": "("}),
        json!({"type": "integer", "minimum": 5, "maximum": 1}),
        json!({"enum": [i64::MIN]}),
        json!({"type": "integer", "maximum": -1e30}),
        json!({"type": "string", "pattern": "a?".repeat(5_000)}),
        json!({"enum": (0..50_000).collect::<Vec<u32>>()}),
    ] {
        refused(Form::Schema(schema));
    }
    for regex in ["(", "a{2,1}", r"(?=x)y", r"(a)\1"] {
        refused(Form::Regex(regex.into()));
    }
    for lark in ["", "nothing here", "start: missing"] {
        refused(Form::Lark(lark.into()));
    }
}

#[test]
fn chains_of_rules_do_not_overflow_the_stack() {
    let mut rules = String::from("start:r0\n");
    let mut terms = String::from("start:R0\n");
    for at in 0..2_000 {
        rules += &format!("r{at}:r{}\n", at + 1);
        terms += &format!("R{at}:\"x\" R{}\n", at + 1);
    }
    for lark in [rules + "r2000: \"yes\"", terms + "R2000: \"yes\""] {
        let asked = Asked { form: Some(Form::Lark(lark)), ..Asked::default() };
        assert!(!answer("Hello", &asked).text.is_empty());
    }
    let next = |at: usize| json!({"$ref": format!("#/$defs/d{at}")});
    let mut definitions: serde_json::Map<String, Value> =
        (0..2_000).map(|at| (format!("d{at}"), next(at + 1))).collect();
    definitions.insert("d2000".into(), json!({"enum": ["yes"]}));
    let schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    let asked = Asked { form: Some(Form::Schema(schema)), ..Asked::default() };
    assert_eq!(answer("Hello", &asked).text, "\"yes\"");
}

#[test]
fn hostile_forms_have_bounds() {
    let started = std::time::Instant::now();
    for regex in ["(a*)*b", "(a|a)*c", "((((a{100}){100}){100}){100})", "(x+x+)+y", "[^\u{0}]{1000000}"] {
        _ = submit(
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            &Asked { form: Some(Form::Regex(regex.into())), ..Asked::default() },
        );
    }
    let mut deep = json!({"type": "string"});
    for _ in 0..400 {
        deep = json!({"type": "array", "items": deep, "minItems": 1});
    }
    _ = submit("Hello", &Asked { form: Some(Form::Schema(deep)), ..Asked::default() });
    let wide: serde_json::Map<String, Value> =
        (0..3000).map(|at| (format!("field{at}"), json!({"type": ["string", "null"]}))).collect();
    let wide = json!({"type": "object", "properties": wide});
    _ = submit("Hello", &Asked { form: Some(Form::Schema(wide)), ..Asked::default() });
    // generous: on a busy machine without optimisation; without bounds it is for ever
    assert!(started.elapsed().as_secs() < 300, "{:?}", started.elapsed());
    answer("The engine goes on.", &Asked::default());
}
