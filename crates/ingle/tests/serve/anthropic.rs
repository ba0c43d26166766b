//! `POST /v1/messages` and `POST /v1/messages/count_tokens`

use super::{Answer, Server, user, with};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json";

/// A request that is answered the same every time.
fn greedy(messages: Value, more: Value) -> Value {
    with(json!({"model": "ember", "messages": messages, "temperature": 0, "max_tokens": 40}), more)
}

fn ask(server: &Server, messages: Value, more: Value) -> Answer {
    server.post("/v1/messages", &greedy(messages, more))
}

/// Tokens of the prompt that a request makes.
fn count(server: &Server, messages: Value, more: Value) -> u64 {
    let mut body = json!({"messages": messages});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let counted = server.post("/v1/messages/count_tokens", &body).good();
    assert!(counted.get("output_tokens").is_none());
    counted["input_tokens"].as_u64().unwrap()
}

fn text(answer: &Value) -> &str {
    assert_eq!(answer["content"].as_array().unwrap().len(), 1, "{answer}");
    answer["content"][0]["text"].as_str().unwrap()
}

/// The same question with what holds the answer.
fn held(server: &Server, more: Value) -> Value {
    ask(server, user("Hello"), more).good()
}

/// The error of an answer, which has to have the API's shape.
fn error(answer: &Answer, status: u16) -> (String, String) {
    assert_eq!((answer.status, &answer.json()["type"]), (status, &"error".into()), "{answer:?}");
    let error = answer.error(status);
    let word = |name: &str| error[name].as_str().unwrap().to_owned();
    (word("type"), word("message"))
}

/// The events of a stream, which have to have the names of their types.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("text/event-stream"), "{answer:?}");
    let events = answer.body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    let event = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        data
    };
    events.map(event).collect()
}

fn weather() -> Value {
    json!([{
        "name": "tell_the_weather", "description": "What the weather is like.",
        "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}},
    }])
}

#[test]
fn an_answer_has_the_shape_that_clients_expect() {
    let server = Server::ember();
    let answer = ask(&server, user("What is Ingle?"), json!({})).good();
    assert!(answer["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&answer["type"], &answer["role"], &answer["model"]),
        (&"message".into(), &"assistant".into(), &"ember".into())
    );
    assert!(text(&answer).starts_with("Ingle is a local engine"));
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&"end_turn".into(), &Value::Null));
    assert!(answer.get("warnings").is_none());
    let counted = count(&server, user("What is Ingle?"), json!({}));
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"], &usage["cache_creation_input_tokens"]),
        (&counted.into(), &0.into(), &0.into())
    );
    // what is taken from the cache is no input any more
    let again = ask(&server, user("What is Ingle?"), json!({"max_tokens": 3})).good();
    let usage = &again["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"], &usage["output_tokens"]),
        (&1.into(), &(counted - 1).into(), &3.into())
    );
    assert_eq!(again["stop_reason"], "max_tokens");
    let none = ask(&server, user("What is Ingle?"), json!({"max_tokens": 0})).good();
    assert_eq!((&none["content"], &none["usage"]["output_tokens"]), (&json!([]), &0.into()));
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::ember();
    for more in [
        json!({}),
        json!({"temperature": 0.8, "seed": 7, "max_tokens": 20}),
        json!({"stop_sequences": [" engine"], "metadata": {"user_id": "me"}}),
        json!({"max_tokens": 0}),
    ] {
        let whole = ask(&server, user("What is Ingle?"), more.clone()).good();
        let mut body = greedy(user("What is Ingle?"), more);
        body["stream"] = true.into();
        let events = events(&server.post("/v1/messages", &body));
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let silent = whole["content"] == json!([]);
        let deltas = kinds.iter().filter(|&&kind| kind == "content_block_delta").count();
        let mut expected = vec!["message_start", "ping"];
        if !silent {
            expected.push("content_block_start");
            expected.extend(vec!["content_block_delta"; deltas]);
            expected.push("content_block_stop");
        }
        expected.extend(["message_delta", "message_stop"]);
        assert_eq!(kinds, expected);
        assert_eq!(deltas == 0, silent);
        let start = &events[0]["message"];
        assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
        assert_eq!(
            start["usage"]["input_tokens"],
            count(&server, user("What is Ingle?"), json!({})),
            "the cache is not known of yet"
        );
        let of_block = events.iter().filter(|event| event.get("index").is_some());
        assert!(of_block.clone().all(|event| event["index"] == 0));
        let said: String =
            of_block.filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned)).collect();
        assert_eq!(said, if silent { "" } else { text(&whole) });
        let last = &events[events.len() - 2];
        assert_eq!(last["delta"]["stop_reason"], whole["stop_reason"]);
        assert_eq!(last["delta"]["stop_sequence"], whole["stop_sequence"]);
        assert_eq!(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
        assert_eq!(start.get("warnings"), whole.get("warnings"));
    }
}

#[test]
fn a_stop_sequence_ends_the_answer_and_is_named() {
    let server = Server::ember();
    let whole = ask(&server, user("What is Ingle?"), json!({})).good();
    let stopped =
        ask(&server, user("What is Ingle?"), json!({"stop_sequences": ["nowhere", " engine"]})).good();
    assert_eq!(text(&stopped), text(&whole).split(" engine").next().unwrap());
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&"stop_sequence".into(), &" engine".into())
    );
}

#[test]
fn system_and_tools_reach_the_template() {
    let server = Server::ember();
    let tokens = |more: Value| count(&server, user("hi"), more);
    let plain = tokens(json!({}));
    let system = tokens(json!({"system": "Be kind."}));
    assert!(system > plain);
    assert_eq!(system, tokens(json!({"system": [{"type": "text", "text": "Be kind."}]})));
    let tools = tokens(json!({"tools": weather()}));
    assert!(tools > plain);
    let like_openai = json!([{"type": "function", "function": {
        "name": "tell_the_weather", "description": "What the weather is like.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    }}]);
    let chat = server.chat(&json!({"messages": user("hi"), "tools": like_openai, "max_tokens": 1})).good();
    assert_eq!(chat["usage"]["prompt_tokens"], tools);
    assert_eq!(tokens(json!({"tools": weather(), "tool_choice": {"type": "auto"}})), tools);
    assert_eq!(tokens(json!({"tools": weather(), "tool_choice": {"type": "none"}})), plain);
    let more = json!({"tools": weather(), "max_tokens": 1, "system": "Be kind."});
    let used = ask(&server, user("hi"), more.clone()).good()["usage"].clone();
    let sum = used["input_tokens"].as_u64().unwrap() + used["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(sum, tokens(json!({"tools": weather(), "system": "Be kind."})));
}

#[test]
fn results_of_tools_and_thoughts_are_part_of_the_conversation() {
    let server = Server::ember();
    let asked = json!({"role": "user", "content": "Is it warm?"});
    let called = json!({"role": "assistant", "content": [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "tell_the_weather", "input": {"at": "the sea"}},
    ]});
    let result = |content: Value, failed: bool| {
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, "is_error": failed},
            {"type": "text", "text": "And?"},
        ]})
    };
    let tokens = |last: Value| count(&server, json!([asked, called, last]), json!({"tools": weather()}));
    let one = tokens(result(json!("warm"), false));
    assert_eq!(one, tokens(result(json!([{"type": "text", "text": "warm"}]), false)));
    assert!(tokens(result(json!("warm"), true)) > one);
    let messages = json!([asked, called, result(json!("warm"), false)]);
    let answer = ask(&server, messages, json!({"tools": weather(), "max_tokens": 2})).good();
    assert_eq!(answer["usage"]["output_tokens"], 2);
    // a thought of a turn that goes on counts
    let mut thoughtful = called.clone();
    let thought = json!({"type": "thinking", "thinking": "Hm, let me see.", "signature": "x"});
    thoughtful["content"].as_array_mut().unwrap().insert(0, thought);
    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]});
    let tokens = |called: &Value| count(&server, json!([asked, called, result]), json!({}));
    assert!(tokens(&thoughtful) > tokens(&called));
}

#[test]
fn calls_are_forced_and_forms_hold() {
    let server = Server::ember();
    let tools = json!([{"name": "tell_the_weather", "input_schema": {
        "type": "object", "properties": {"at": {"enum": ["Rome", "Oslo"]}}, "required": ["at"],
        "additionalProperties": false,
    }}]);
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "tell_the_weather"})] {
        let choice = with(choice, json!({"disable_parallel_tool_use": true}));
        let more = json!({"tools": tools, "tool_choice": choice, "max_tokens": 200});
        let answer = held(&server, more.clone());
        assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
        let call = answer["content"].as_array().unwrap().last().unwrap();
        assert_eq!(call["name"], "tell_the_weather");
        assert!(["Rome", "Oslo"].contains(&call["input"]["at"].as_str().unwrap()), "{answer}");
        let stream = events(&ask(&server, user("Hello"), with(more, json!({"stream": true}))));
        assert!(stream.iter().any(|event| event["delta"]["stop_reason"] == "tool_use"), "{stream:?}");
    }
    let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for more in [json!({"output_format": format}), json!({"output_config": {"format": format}})] {
        let answer = held(&server, with(more, json!({"max_tokens": 100})));
        let said: Value = serde_json::from_str(text(&answer)).unwrap();
        assert!(said["age"].is_number() && said.as_object().unwrap().len() == 1, "{said}");
    }
    let format = json!({"type": "json_schema", "schema": {"type": "nonsense"}});
    error(&ask(&server, user("Hello"), json!({"output_format": format})), 400);
}

#[test]
fn a_last_message_of_the_assistant_goes_on() {
    let server = Server::ember();
    let whole = ask(&server, user("What is Ingle?"), json!({})).good();
    let (begun, rest) = text(&whole).split_at(text(&whole).find(" engine").unwrap());
    for content in [json!(begun), json!([{"type": "text", "text": begun}])] {
        let messages = json!([user("What is Ingle?")[0], {"role": "assistant", "content": content}]);
        let answer = ask(&server, messages.clone(), json!({})).good();
        assert_eq!(text(&answer), rest);
        let usage = &answer["usage"];
        let sum =
            usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
        assert_eq!(sum, count(&server, messages, json!({})));
    }
    let thought = json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Hel"},
    ]});
    let (_, message) = error(&ask(&server, json!([user("hi")[0], thought]), json!({})), 400);
    assert!(message.contains("cannot be continued"), "{message}");
}

#[test]
fn every_mistake_is_named_and_none_is_ignored() {
    let server = Server::ember();
    let picture = json!([{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]);
    let schema = json!({"type": "json_schema", "schema": {"type": "object"}});
    for (more, blamed) in [
        (json!({"tempereture": 1}), "`tempereture`"),
        (json!({"temperature": "hot"}), "`temperature`"),
        (json!({"temperature": -1}), "`temperature`"),
        (json!({"top_p": 2}), "`top_p`"),
        (json!({"top_k": -1}), "`top_k`"),
        (json!({"max_tokens": null}), "`max_tokens` is missing"),
        (json!({"max_tokens": -1}), "`max_tokens`"),
        (json!({"stream": "yes"}), "`stream`"),
        (json!({"stop_sequences": [1]}), "`stop_sequences`"),
        (json!({"stop_sequences": [""]}), "`stop_sequences`"),
        (json!({"system": 7}), "system: "),
        (json!({"messages": []}), "`messages`"),
        (json!({"messages": null}), "`messages` is missing"),
        (json!({"messages": picture}), "messages.0.content.0: a block of type `image`"),
        (json!({"tools": [{"name": "f"}]}), "tools.0: `input_schema`"),
        (json!({"tools": [{"input_schema": {}}]}), "tools.0: `name`"),
        (json!({"tools": [{"name": "", "input_schema": {}}]}), "tools.0: `name`"),
        (json!({"tools": [{"name": "f", "input_schema": {}, "schema": 1}]}), "tools.0: `schema`"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "`web_search_20250305`"),
        (json!({"tool_choice": {"type": "any"}}), "`tool_choice`"),
        (json!({"tool_choice": "auto"}), "tool_choice: "),
        (json!({"tools": weather(), "tool_choice": {"type": "tool", "name": "g"}}), "`g`"),
        (json!({"tools": weather(), "tool_choice": {"type": "tool"}}), "tool_choice: `name`"),
        (json!({"tools": weather(), "tool_choice": {"type": "required"}}), "tool_choice: "),
        (json!({"tools": weather(), "tool_choice": {"type": "auto", "name": "f"}}), "tool_choice: `name`"),
        (json!({"thinking": {"type": "enabled"}}), "thinking: `budget_tokens`"),
        (json!({"thinking": {"type": "much"}}), "thinking: "),
        (json!({"thinking": {"type": "disabled", "budget_tokens": 1}}), "thinking: `budget_tokens`"),
        (json!({"output_config": {"effort": "huge"}}), "output_config: `effort`"),
        (json!({"output_config": {"format": {"type": "poem"}}}), "`output_config`"),
        (json!({"output_format": {"type": "json_schema"}}), "`output_format`: `schema`"),
        (
            json!({"output_format": {"type": "json_schema", "schema": {}}, "output_config": {"format": schema}}),
            "`output_format`",
        ),
    ] {
        let (kind, message) = error(&ask(&server, user("hi"), more.clone()), 400);
        assert_eq!(kind, "invalid_request_error");
        assert!(message.contains(blamed), "{more}: {message}");
    }
    for body in ["", "{", "[]", "null"] {
        error(&server.send("POST", "/v1/messages", &[JSON], body), 400);
        error(&server.send("POST", "/v1/messages/count_tokens", &[JSON], body), 400);
    }
    let (_, message) =
        error(&server.post("/v1/messages/count_tokens", &json!({"messages": user("hi"), "n": 1})), 400);
    assert!(message.contains("`n`"), "{message}");
}

#[test]
fn errors_have_the_status_and_the_type_that_clients_expect() {
    let server = Server::start(&["ember", "--context", "64", "--max-body", "10kB"]);
    let is = |answer: &Answer, status: u16, kind: &str| assert_eq!(error(answer, status).0, kind);
    is(&ask(&server, user("hi"), json!({"model": "other"})), 404, "not_found_error");
    let other = json!({"model": "other", "messages": user("hi")});
    is(&server.post("/v1/messages/count_tokens", &other), 404, "not_found_error");
    for stream in [false, true] {
        let long = ask(&server, user(&"long ".repeat(100)), json!({"stream": stream}));
        is(&long, 400, "invalid_request_error");
        assert_eq!(long.json()["error"]["n_ctx"], 64);
    }
    is(&ask(&server, user(&"x".repeat(20_000)), json!({})), 413, "request_too_large");
    is(&server.get("/v1/messages"), 405, "invalid_request_error");
    is(&server.get("/v1/messages/batches"), 404, "not_found_error");
    is(
        &server.send("POST", "/v1/messages", &["Content-Type: text/plain"], "{}"),
        415,
        "invalid_request_error",
    );
    is(&server.send("POST", "/v1/messages", &[JSON, "Host: evil.example"], "{}"), 403, "permission_error");
}

#[test]
fn a_key_is_taken_from_either_header() {
    let folder = std::env::temp_dir().join(format!("ingle-keys-messages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("keys.txt");
    let file = file.to_str().unwrap();
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_ingle"))
        .args(["key", "new", "ann", "--keys", file])
        .output()
        .unwrap();
    let key = String::from_utf8(made.stdout).unwrap();
    let key = key.trim();
    let server = Server::start(&["ember", "--keys", file]);
    let body = greedy(user("hi"), json!({"max_tokens": 1})).to_string();
    let ask = |header: &str| server.send("POST", "/v1/messages", &[JSON, header], &body);
    ask(&format!("x-api-key: {key}")).good();
    ask(&format!("Authorization: Bearer {key}")).good();
    for header in ["x-api-key: wrong", "Authorization: Bearer wrong", "anthropic-version: 2023-06-01"] {
        assert_eq!(error(&ask(header), 401).0, "authentication_error");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn versions_and_betas_make_no_difference() {
    let server = Server::ember();
    let body = greedy(user("hi"), json!({"max_tokens": 1})).to_string();
    let headers = [JSON, "anthropic-version: 2023-06-01", "anthropic-beta: tools-2024-04-04,more"];
    server.send("POST", "/v1/messages?beta=true", &headers, &body).good();
}

#[test]
fn what_has_no_effect_is_told() {
    let server = Server::ember();
    let warnings = |more: Value| {
        let mut more = more;
        more["max_tokens"] = 1.into();
        let answer = ask(&server, user("hi"), more).good();
        answer.get("warnings").map(Value::to_string).unwrap_or_default()
    };
    for (more, said) in [
        (json!({"metadata": {"user_id": "me"}}), "`metadata`"),
        (json!({"service_tier": "auto"}), "`service_tier`"),
        (json!({"container": "x"}), "`container`"),
        (json!({"cache_control": {"type": "ephemeral"}}), "`cache_control`"),
        (
            json!({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}),
            "`cache_control`",
        ),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), "`budget_tokens`"),
        (json!({"output_config": {"effort": "max"}}), "`effort`"),
    ] {
        let warnings = warnings(more.clone());
        assert!(warnings.contains(said), "{more}: {warnings}");
        assert_eq!(warnings.matches("has no effect").count(), 1, "{warnings}");
    }
    // its template looks at whether to think
    for kind in ["disabled", "adaptive"] {
        assert_eq!(warnings(json!({"thinking": {"type": kind}})), "");
    }
    let tokens = |kind: &str| count(&server, user("hi"), json!({"thinking": {"type": kind}}));
    assert!(tokens("disabled") > tokens("adaptive"));
    let counted = json!({"messages": user("hi"), "max_tokens": 5, "stream": true});
    let counted = server.post("/v1/messages/count_tokens", &counted).good();
    assert_eq!(counted["warnings"].as_array().unwrap().len(), 2);
}
