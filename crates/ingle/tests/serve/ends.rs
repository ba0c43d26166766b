//! How connections and the server end, and what is written of requests.

use super::{PATIENCE, Server, answer, user};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

/// A request whose answer does not end by itself before the context does.
pub(super) fn endless(server: &Server, stream: bool, headers: &[&str]) -> Vec<u8> {
    endless_with(server, stream, headers, json!({}))
}

fn endless_with(server: &Server, stream: bool, headers: &[&str], more: Value) -> Vec<u8> {
    let ends = ["<|im_end|>", "<|endoftext|>"];
    let headers = [&["Content-Type: application/json"], headers].concat();
    let ids = ends.map(|text| {
        let body = json!({"content": text}).to_string();
        server.send("POST", "/tokenize", &headers, &body).good()["tokens"].clone()
    });
    let bias: serde_json::Map<String, Value> =
        ids.iter().flat_map(|ids| ids.as_array().unwrap()).map(|id| (id.to_string(), json!(-100))).collect();
    let body = json!({"messages": user("Tell me a story."), "stream": stream, "logit_bias": bias, "seed": 1, "n": 4});
    let body = super::with(body, more);
    server.request("POST", "/v1/chat/completions", &headers, &body.to_string())
}

#[cfg(unix)]
fn terminate(server: &Server) {
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_end_does_not_wait_longer_than_it_was_told() {
    let mut server = Server::start(&["ember", "--drain", "0", "--at-once", "1"]);
    let mut stream = server.connect();
    stream.write_all(&endless(&server, true, &[])).unwrap();
    server.until("it has begun", |server| server.metric("ingle_running") > 0.0);
    let told = Instant::now();
    terminate(&server);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
}

#[cfg(unix)]
#[test]
fn connections_that_say_nothing_keep_no_server_from_ending() {
    let mut server = Server::ember();
    let idle = server.connect();
    let mut used = server.connect();
    used.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut some = [0; 12];
    used.read_exact(&mut some).unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
    let told = Instant::now();
    terminate(&server);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    drop((idle, used));
}

#[test]
fn whoever_does_not_read_harms_nobody() {
    let server = Server::ember();
    let mut slow = server.connect();
    slow.write_all(&endless(&server, true, &[])).unwrap();
    server.until("it has begun", |server| server.metric("ingle_decoded_tokens_total") > 0.0);
    let quick = json!({"messages": user("What is Ingle?"), "temperature": 0, "max_tokens": 5});
    server.chat(&quick).good();
    drop(slow);
    server.until("the places are free", |server| {
        server.metric("ingle_running") == 0.0 && server.metric("ingle_waiting") == 0.0
    });
    server.chat(&quick).good();
}

#[test]
fn whoever_takes_nothing_of_their_answer_is_cut_off_and_it_is_given_up() {
    let server = Server::start(&["ember", "--write-timeout", "1"]);
    let mut slow = server.connect();
    // far more than the system keeps for a connection
    let long = json!({"n": 128, "logprobs": true, "top_logprobs": 20});
    slow.write_all(&endless_with(&server, true, &[], long)).unwrap();
    server.until("it is given up", |server| {
        server.metric("ingle_cancelled_total") > 0.0 && server.metric("ingle_running") == 0.0
    });
    // it was not over
    assert!(server.metric("ingle_finished_total") < 128.0);
    let mut some = Vec::new();
    _ = slow.read_to_end(&mut some);
    assert!(!some.is_empty() && !String::from_utf8_lossy(&some).contains("[DONE]"));
    server.chat(&json!({"messages": user("hi"), "max_tokens": 1})).good();
}

#[test]
fn whoever_closes_their_half_after_asking_is_still_answered_or_let_go() {
    let server = Server::ember();
    let mut half = server.connect();
    let body = json!({"messages": user("What is Ingle?"), "temperature": 0}).to_string();
    let kind = ["Content-Type: application/json"];
    half.write_all(&server.request("POST", "/v1/chat/completions", &kind, &body)).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    server.until("the place is free", |server| server.metric("ingle_running") == 0.0);
    server.chat(&json!({"messages": user("hi"), "max_tokens": 1})).good();
}

#[test]
fn one_connection_takes_one_request_after_another() {
    let server = Server::ember();
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = Vec::new();
        let started = Instant::now();
        while !head.ends_with(b"{\"status\":\"ok\"}") {
            assert!(started.elapsed() < PATIENCE);
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
    }
    connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    answer(&mut connection).good();
}

#[test]
fn what_is_measured_adds_up() {
    let server = Server::ember();
    let body = json!({"messages": user("What is Ingle?"), "temperature": 0, "max_tokens": 8});
    let usage = server.chat(&body).good()["usage"].clone();
    let again = server.chat(&body).good()["usage"].clone();
    let both = |of: &dyn Fn(&Value) -> f64| of(&usage) + of(&again);
    assert_eq!(server.metric("ingle_prompt_tokens_total"), both(&|u| u["prompt_tokens"].as_f64().unwrap()));
    assert_eq!(
        server.metric("ingle_decoded_tokens_total"),
        both(&|u| u["completion_tokens"].as_f64().unwrap())
    );
    let cached = |u: &Value| u["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap();
    assert_eq!(server.metric("ingle_cached_tokens_total"), both(&cached));
    for name in ["ingle_queue_seconds", "ingle_first_token_seconds", "ingle_request_seconds"] {
        assert_eq!(server.metric(&format!("{name}_count")), 2.0, "{name}");
    }
    assert!(server.metric("ingle_between_tokens_seconds_count") > 0.0);
    assert_eq!(server.metric("ingle_running"), 0.0);
    // every step reads the weights once, and a little of the cache
    let weights = 4e6;
    let read = server.metric("ingle_step_bytes_total") / server.metric("ingle_steps_total");
    assert!((0.5 * weights..2.0 * weights).contains(&read), "{read} bytes per step");
    assert!(server.metric("ingle_memory_bytes_per_second") > 1e9);
    let text = server.get("/metrics").body;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value.is_finite(), "{line}");
    }
}
