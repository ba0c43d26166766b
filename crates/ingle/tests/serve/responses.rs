//! `POST /v1/responses`

use super::Server;
use serde_json::{Value, json};

fn ask(server: &Server, more: Value) -> super::Answer {
    let mut body = json!({"model": "ember", "temperature": 0, "max_output_tokens": 60});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/responses", &body)
}

/// The events of a stream, each under its own name.
fn events(answer: &super::Answer) -> Vec<Value> {
    let mut all = Vec::new();
    for event in answer.body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':')) {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        all.push(data);
    }
    all
}

fn text(response: &Value) -> &str {
    let message = response["output"].as_array().unwrap().iter().find(|item| item["type"] == "message");
    message.and_then(|message| message["content"][0]["text"].as_str()).unwrap()
}

fn weather() -> Value {
    json!([{"type": "function", "name": "tell_the_weather", "strict": true, "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
        "additionalProperties": false}}])
}

#[test]
fn an_answer_and_its_stream_say_the_same() {
    let server = Server::ember();
    let whole = ask(&server, json!({"input": "What is Ingle?"})).good();
    assert!(text(&whole).starts_with("Ingle is a local engine"), "{whole}");
    assert_eq!((&whole["object"], &whole["status"]), (&"response".into(), &"completed".into()));
    let usage = &whole["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    let chat = json!({"model": "ember", "temperature": 0, "messages": super::user("What is Ingle?")});
    assert_eq!(server.chat(&chat).good()["choices"][0]["message"]["content"], text(&whole));

    let events = events(&ask(&server, json!({"input": "What is Ingle?", "stream": true})));
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(deltas, text(&whole));
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(text(&last["response"]), text(&whole));
    assert_eq!(last["response"]["id"], events[0]["response"]["id"]);
}

#[test]
fn an_answer_that_is_cut_says_so() {
    let server = Server::ember();
    let cut = ask(&server, json!({"input": "What is Ingle?", "max_output_tokens": 3})).good();
    assert_eq!(cut["status"], "incomplete");
    assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(cut["output"][0]["status"], "incomplete");
    let stream = ask(&server, json!({"input": "What is Ingle?", "max_output_tokens": 3, "stream": true}));
    assert_eq!(events(&stream).last().unwrap()["type"], "response.incomplete");
}

#[test]
fn a_conversation_goes_on_from_a_stored_answer() {
    let server = Server::ember();
    let first = ask(&server, json!({"input": "My name is Tom.", "instructions": "Be brief."})).good();
    let id = first["id"].as_str().unwrap();
    let next = ask(&server, json!({"input": "What is my name?", "previous_response_id": id})).good();
    // the same as the whole conversation, in which the instructions of the first turn do not stay
    let whole = ask(
        &server,
        json!({"input": [
        {"role": "user", "content": "My name is Tom."},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text(&first)}]},
        {"role": "user", "content": "What is my name?"}]}),
    );
    assert_eq!(text(&next), text(&whole.good()));
    assert_eq!(next["previous_response_id"], id);

    assert_eq!(server.get(&format!("/v1/responses/{id}")).good(), first);
    let forget = || server.send("DELETE", &format!("/v1/responses/{id}"), &[], "");
    assert_eq!(forget().good()["deleted"], true);
    forget().error(404);
    server.get(&format!("/v1/responses/{id}")).error(404);
    let error = ask(&server, json!({"input": "And now?", "previous_response_id": id})).error(404);
    assert_eq!(error["param"], "previous_response_id");
    let forgotten = ask(&server, json!({"input": "Hello", "store": false})).good();
    server.get(&format!("/v1/responses/{}", forgotten["id"].as_str().unwrap())).error(404);
}

#[test]
fn calls_are_items_and_their_results_come_back() {
    let server = Server::ember();
    let more = json!({"input": "Hello", "tools": weather(), "tool_choice": "required", "parallel_tool_calls": false});
    let answer = ask(&server, more.clone()).good();
    let call = answer["output"].as_array().unwrap().last().unwrap();
    assert_eq!((&call["type"], &call["name"]), (&"function_call".into(), &"tell_the_weather".into()));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()), "{arguments}");
    let result = json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "{\"sky\": \"clear\"}"}]);
    let after =
        ask(&server, json!({"input": result, "tools": weather(), "previous_response_id": answer["id"]}));
    assert!(after.good()["usage"]["input_tokens"].as_u64() > answer["usage"]["input_tokens"].as_u64());

    let mut more = more;
    more["stream"] = true.into();
    let events = events(&ask(&server, more));
    let done = events.iter().find(|event| event["type"] == "response.function_call_arguments.done").unwrap();
    assert_eq!(done["arguments"], call["arguments"]);
}

#[test]
fn the_form_of_a_text_is_kept() {
    let server = Server::ember();
    let format = json!({"format": {"type": "json_schema", "name": "answer", "strict": true, "schema": {
        "type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": false}}});
    let answer = ask(&server, json!({"input": "Is it so?", "text": format})).good();
    let said: Value = serde_json::from_str(text(&answer)).unwrap();
    assert!(said["yes"].is_boolean(), "{said}");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let server = Server::ember();
    for (more, blamed) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": "x", "background": true}), "background"),
        (json!({"input": "x", "truncation": "some"}), "truncation"),
        (json!({"input": "x", "tools": [{"type": "web_search"}]}), "tools"),
        (json!({"input": "x", "conversation": "c"}), "conversation"),
        (json!({"input": "x", "text": {"format": {"type": "poem"}}}), "text"),
        (json!({"input": "x", "colour": "red"}), "colour"),
        (json!({"input": "x", "max_output_tokens": 0}), "max_output_tokens"),
        (json!({"input": "x", "tool_choice": "required"}), "tool_choice"),
    ] {
        assert_eq!(ask(&server, more.clone()).error(400)["param"], blamed, "{more}");
    }
    let warned = ask(&server, json!({"input": "x", "metadata": {"a": "b"}, "service_tier": "flex"})).good();
    assert!(warned["warnings"].to_string().contains("service_tier"), "{warned}");
}
