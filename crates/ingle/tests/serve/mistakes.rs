//! Requests that make no sense, and connections that misbehave.

use super::{PATIENCE, Server, user};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;

#[test]
fn every_mistake_is_named_and_none_is_ignored() {
    let server = Server::ember();
    let chat = |more: Value| {
        let mut body = json!({"messages": user("hi"), "max_tokens": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.chat(&body)
    };
    for (more, blamed) in [
        (json!({"tempereture": 1}), "tempereture"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"top_p": 2}), "top_p"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"n": 1_000_000}), "n"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias"),
        (json!({"logit_bias": {"1": 1000}}), "logit_bias"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 99}), "top_logprobs"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"response_format": {"type": "poem"}}), "response_format"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": [{"type": "function"}]}), "tools"),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort"),
        (json!({"max_completion_tokens": 2}), "max_tokens"),
        (json!({"repetition_penalty": 1.1, "repeat_penalty": 1.2}), "repeat_penalty"),
        (json!({"xtc_probability": 2}), "xtc_probability"),
        (json!({"repeat_last_n": -2}), "repeat_last_n"),
        (json!({"priority": 1}), "priority"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": [1]}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"content": "hi"}]}), "messages"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages"),
        (json!({"messages": [{"role": "user", "content": null}]}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            "messages",
        ),
    ] {
        let error = chat(more.clone()).error(400);
        assert_eq!(error["param"], blamed, "{more}: {error}");
    }
    let unknown = chat(json!({"logit_bias": {"99999999": 1}})).error(400);
    assert!(unknown["message"].as_str().unwrap().contains("99999999"));
    server.post("/v1/completions", &json!({"prompt": [99_999_999]})).error(400);
    server.post("/detokenize", &json!({"tokens": [99_999_999]})).error(400);
    for body in ["", "{", "[]", "null", "\"text\"", "{\"messages\":", &"[".repeat(100_000)] {
        server.send("POST", "/v1/chat/completions", &["Content-Type: application/json"], body).error(400);
    }
    server.get("/v1/chat/completions").error(405);
    server.get("/nothing/here").error(404);
    server.get("/health").good();
}

#[test]
fn bodies_that_are_not_text_too_large_or_cut_off_are_refused() {
    let server = Server::start(&["ember", "--max-body", "10kB"]);
    let large = json!({"messages": user(&"x".repeat(20_000))}).to_string();
    let json = ["Content-Type: application/json"];
    server.send("POST", "/v1/chat/completions", &json, &large).error(413);
    let mut request = server.request("POST", "/v1/chat/completions", &json, "xxxx");
    let end = request.len();
    request[end - 4..].copy_from_slice(b"{\"\xff}");
    server.raw(&request).error(400);
    // cut off: nobody is there to hear of it, and nobody else suffers
    let whole = server.request("POST", "/v1/chat/completions", &json, &"x".repeat(100));
    let mut connection = server.connect();
    connection.write_all(&whole[..whole.len() - 50]).unwrap();
    drop(connection);
    server.get("/health").good();
}

#[test]
fn a_body_that_is_far_too_large_is_heard_out_so_that_its_client_reads_why() {
    let server = Server::start(&["ember", "--max-body", "4MB"]);
    let json = ["Content-Type: application/json"];
    let large = "x".repeat(14_000_000);
    let error = server.send("POST", "/v1/chat/completions", &json, &large).error(413);
    assert!(error["message"].as_str().unwrap().contains("--max-body"), "{error}");
}

#[test]
fn half_closed_and_garbage_connections_harm_nobody() {
    let server = Server::ember();
    let mut half = server.connect();
    half.write_all(b"GET /health HTTP/1.1\r\nHo").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    let mut garbage = server.connect();
    garbage.write_all(&[0, 255, 13, 10, 13, 10, 7]).unwrap();
    garbage.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = garbage.read_to_end(&mut rest);
    let long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    let mut header = server.connect();
    let _ = header.write_all(long.as_bytes());
    let _ = header.read_to_end(&mut rest);
    server.get("/health").good();
}
