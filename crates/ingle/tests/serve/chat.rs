//! `POST /v1/chat/completions`

use super::{Server, user};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// A request that is answered the same every time.
fn greedy(text: &str) -> Value {
    json!({"model": "ember", "messages": user(text), "temperature": 0, "max_tokens": 40})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The text of a choice's deltas.
fn said(chunks: &[Value], choice: u64) -> String {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    choices
        .filter(|of| of["index"] == choice)
        .filter_map(|choice| choice["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn an_answer_has_the_shape_that_clients_expect() {
    let server = Server::ember();
    let answer = server.chat(&greedy("What is Ingle?")).good();
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&"chat.completion".into(), &"ember".into()));
    assert!(answer["created"].is_u64() && answer["system_fingerprint"].is_string());
    let choice = &answer["choices"][0];
    assert_eq!((&choice["message"]["role"], &choice["finish_reason"]), (&"assistant".into(), &"stop".into()));
    assert!(choice["message"]["content"].as_str().unwrap().starts_with("Ingle is a local engine"));
    let usage = &answer["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert!(answer.get("warnings").is_none());
    let short = server.chat(&with(greedy("What is Ingle?"), json!({"max_tokens": 3}))).good();
    assert_eq!(
        (&short["choices"][0]["finish_reason"], &short["usage"]["completion_tokens"]),
        (&"length".into(), &3.into())
    );
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::ember();
    let body = with(greedy("What is Ingle?"), json!({"n": 2, "seed": 7, "temperature": 0.8}));
    let whole = server.chat(&body).good();
    let stream = with(body, json!({"stream": true, "stream_options": {"include_usage": true}}));
    let chunks = server.chat(&stream).chunks();
    for choice in 0..2 {
        assert_eq!(said(&chunks, choice), whole["choices"][choice as usize]["message"]["content"]);
        let of: Vec<&Value> = chunks
            .iter()
            .flat_map(|chunk| chunk["choices"].as_array().unwrap())
            .filter(|of| of["index"] == choice)
            .collect();
        assert_eq!(of[0]["delta"], json!({"role": "assistant", "content": null}));
        assert!(of[1..].iter().all(|of| of["delta"].get("role").is_none()));
        let (last, before) = of.split_last().unwrap();
        assert!(before.iter().all(|of| of["finish_reason"].is_null()));
        assert_eq!(
            (&last["delta"], &last["finish_reason"]),
            (&json!({}), &whole["choices"][choice as usize]["finish_reason"])
        );
    }
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    let (last, before) = chunks.split_last().unwrap();
    assert!(before.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert_eq!(last["choices"], json!([]));
}

#[test]
fn what_was_computed_before_is_counted_as_cached() {
    let server = Server::ember();
    let first = server.chat(&greedy("Tell me about the sea.")).good();
    let again = server.chat(&greedy("Tell me about the sea.")).good();
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let prompt = again["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(again["usage"]["prompt_tokens_details"]["cached_tokens"], prompt - 1);
    assert_eq!(first["choices"], again["choices"]);
}

#[test]
fn likely_tokens_are_told_and_make_up_the_text() {
    let server = Server::ember();
    let body = with(greedy("What is Ingle?"), json!({"logprobs": true, "top_logprobs": 3}));
    let answer = server.chat(&body).good();
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, answer["choices"][0]["message"]["content"]);
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array());
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
    }
    let chunks = server.chat(&with(body, json!({"stream": true}))).chunks();
    let streamed: Vec<&Value> = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap())
        .filter_map(|choice| choice["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed, tokens.iter().collect::<Vec<_>>());
}

#[test]
fn tokens_of_a_stop_text_are_not_told() {
    let server = Server::ember();
    let more = json!({"logprobs": true, "stop": " engine"});
    let body = with(greedy("What is Ingle?"), more);
    let choice = server.chat(&body).good()["choices"][0].clone();
    let spelled = |tokens: &[&Value]| -> String {
        tokens.iter().map(|token| token["token"].as_str().unwrap()).collect()
    };
    let tokens: Vec<&Value> = choice["logprobs"]["content"].as_array().unwrap().iter().collect();
    assert_eq!(choice["message"]["content"], spelled(&tokens));
    let chunks = server.chat(&with(body, json!({"stream": true}))).chunks();
    let streamed: Vec<&Value> = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap())
        .filter_map(|choice| choice["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed, tokens);
}

#[test]
fn banned_tokens_do_not_come_and_stop_texts_end() {
    let server = Server::ember();
    let plain = server.chat(&greedy("What is Ingle?")).good();
    let tokens = server.post("/tokenize", &json!({"content": "Ingle"})).good()["tokens"].clone();
    let bias: serde_json::Map<String, Value> =
        tokens.as_array().unwrap().iter().map(|id| (id.to_string(), json!(-100))).collect();
    let banned = server.chat(&with(greedy("What is Ingle?"), json!({"logit_bias": bias}))).good();
    let text = |answer: &Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(text(&plain).contains("Ingle") && !text(&banned).contains("Ingle"), "{}", text(&banned));
    for stop in [json!("written"), json!(["nowhere", "written"])] {
        let stopped = server.chat(&with(greedy("What is Ingle?"), json!({"stop": stop}))).good();
        assert_eq!(text(&stopped), text(&plain).split("written").next().unwrap());
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_figures_streamed_or_not() {
    let server = Server::start(&["ember", "--context", "64"]);
    for stream in [false, true] {
        let long = json!({"messages": user(&"long ".repeat(100)), "stream": stream});
        let error = server.chat(&long).error(400);
        assert_eq!((&error["type"], &error["n_ctx"]), (&"exceed_context_size_error".into(), &64.into()));
        assert!(error["n_prompt_tokens"].as_u64().unwrap() > 100);
    }
}

#[test]
fn whoever_hangs_up_frees_their_place() {
    let server = Server::start(&["ember", "--at-once", "1"]);
    // nothing that ends an answer may come
    let ends = ["<|im_end|>", "<|endoftext|>"];
    let ids = ends.map(|text| server.post("/tokenize", &json!({"content": text})).good()["tokens"].clone());
    let endless: serde_json::Map<String, Value> =
        ids.iter().flat_map(|ids| ids.as_array().unwrap()).map(|id| (id.to_string(), json!(-100))).collect();
    for stream in [true, false] {
        let body =
            json!({"messages": user("Tell me a story."), "stream": stream, "logit_bias": endless, "seed": 1});
        let before = server.metric("ingle_cancelled_total");
        let mut leaving: Vec<_> = (0..6)
            .map(|_| {
                let mut connection = server.connect();
                let request = server.request(
                    "POST",
                    "/v1/chat/completions",
                    &["Content-Type: application/json"],
                    &body.to_string(),
                );
                connection.write_all(&request).unwrap();
                connection
            })
            .collect();
        if stream {
            let mut some = [0; 200];
            leaving[0].read_exact(&mut some).unwrap();
        }
        server.until("one is running and others wait", |server| {
            server.metric("ingle_running") == 1.0 && server.metric("ingle_waiting") > 0.0
        });
        drop(leaving);
        server.until("the places are free", |server| {
            server.metric("ingle_running") == 0.0 && server.metric("ingle_waiting") == 0.0
        });
        assert!(server.metric("ingle_cancelled_total") > before, "stream: {stream}");
    }
    server.chat(&greedy("Hello")).good();
}

#[test]
fn many_clients_get_the_answers_they_get_alone() {
    let server = Server::ember();
    let texts = ["What is Ingle?", "Tell me a story.", "Hello!", "Name three colours."];
    let body = |at: usize| {
        with(greedy(texts[at % 4]), json!({"temperature": 0.9, "seed": at, "stream": at.is_multiple_of(2)}))
    };
    let ask = |at: usize| {
        let answer = server.chat(&body(at));
        if at.is_multiple_of(2) {
            said(&answer.chunks(), 0)
        } else {
            answer.good()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        }
    };
    let alone: Vec<String> = (0..24).map(ask).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24).map(|at| scope.spawn(move || ask(at))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
}

#[test]
fn fields_without_effect_are_told() {
    let server = Server::ember();
    let body = with(greedy("Hello"), json!({"user": "me", "metadata": {"a": "b"}, "store": null}));
    let warnings = server.chat(&body).good()["warnings"].clone();
    assert_eq!(warnings, json!(["`user` has no effect here", "`metadata` has no effect here"]));
    let chunks = server.chat(&with(body, json!({"stream": true}))).chunks();
    assert_eq!(chunks.last().unwrap()["warnings"], warnings);
}

#[test]
fn nobodys_many_requests_keep_others_waiting() {
    let server = Server::start(&["ember", "--at-once", "1"]);
    let story =
        json!({"messages": user("Tell me a story."), "seed": 1, "n": 40, "max_tokens": 40, "stream": true});
    let json = ["Content-Type: application/json"];
    let mut many = server.connect();
    many.write_all(&server.request("POST", "/v1/chat/completions", &json, &story.to_string())).unwrap();
    server.until("many wait", |server| server.metric("ingle_waiting") > 30.0);
    server.chat(&greedy("Hello")).good();
    assert!(
        server.metric("ingle_waiting") > 0.0,
        "whoever came later is answered before all of the many are"
    );
}
