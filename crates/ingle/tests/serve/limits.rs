//! How much the owner of a key may ask, and what they may change.

use super::ends::endless;
use super::{Answer, Folder, Server, ingle, user};
use serde_json::{Value, json};
use std::io::Write;

/// A new key in `file`, as the header that shows it.
pub(super) fn key(file: &str, name: &str, options: &[&str]) -> String {
    let (code, key, err) = ingle(&[&["key", "new", name, "--keys", file], options].concat());
    assert_eq!(code, Some(0), "{err}");
    format!("Authorization: Bearer {}", key.trim())
}

fn post(server: &Server, key: &str, path: &str, body: &Value) -> Answer {
    server.send("POST", path, &["Content-Type: application/json", key], &body.to_string())
}

fn short() -> Value {
    json!({"model": "ember", "messages": user("What is Ingle?"), "max_tokens": 3, "temperature": 0, "stream": false})
}

/// Seconds that a refusal says to wait.
fn wait(refused: &Answer) -> u64 {
    assert_eq!(refused.status, 429, "{refused:?}");
    let head = refused.head.to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().parse().unwrap()
}

#[test]
fn requests_a_minute_are_counted_for_each_key_and_refused_in_the_shape_of_each_api() {
    let folder = Folder::new("a-minute");
    let file = folder.path("keys.txt");
    let (ann, bob) = (key(&file, "ann", &["--requests-per-minute", "2"]), key(&file, "bob", &[]));
    let server = Server::start(&["ember", "--keys", &file]);
    for _ in 0..4 {
        server.send("GET", "/v1/models", &[&ann], "").good();
    }
    post(&server, &ann, "/v1/chat/completions", &short()).good();
    post(&server, &ann, "/tokenize", &json!({"content": "a"})).good();
    let refused = post(&server, &ann, "/v1/chat/completions", &short());
    assert!((1..=60).contains(&wait(&refused)), "{refused:?}");
    let error = refused.error(429);
    assert_eq!((&error["type"], &error["code"]), (&"rate_limit_error".into(), &"rate_limit_exceeded".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`ann`") && message.contains("2 requests a minute"), "{message}");
    assert!(message.contains(&format!("try again in {} s", wait(&refused))), "{message}");
    let refused = post(&server, &ann, "/v1/messages", &short());
    assert!(wait(&refused) > 0 && refused.json()["type"] == "error");
    assert_eq!(refused.error(429)["type"], "rate_limit_error");
    let refused = post(&server, &ann, "/api/chat", &short());
    assert!(wait(&refused) > 0 && refused.json()["error"].is_string(), "{refused:?}");
    post(&server, &bob, "/v1/chat/completions", &short()).good();
}

#[test]
fn tokens_a_day_are_those_that_were_computed() {
    let folder = Folder::new("a-day");
    let file = folder.path("keys.txt");
    let first = json!({"messages": user("What is Ingle?"), "max_tokens": 3, "temperature": 0});
    let usage = Server::ember().chat(&first).good()["usage"].clone();
    let total = usage["total_tokens"].as_u64().unwrap();
    // the second time almost all of the prompt is in the cache: both together stay below the limit
    let most = (total + 10).to_string();
    let ann = key(&file, "ann", &["--tokens-per-day", &most]);
    let server = Server::start(&["ember", "--keys", &file]);
    let ask = || post(&server, &ann, "/v1/chat/completions", &first);
    ask().good();
    let cached = ask().good()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    let mut used = total + total - cached;
    while used < total + 10 {
        ask().good();
        used += total - cached;
    }
    let refused = ask();
    let message = refused.error(429)["message"].as_str().unwrap().to_owned();
    assert!((1..=24 * 60 * 60).contains(&wait(&refused)), "{refused:?}");
    assert!(message.contains(&format!("{most} tokens a day, and used {used};")), "{message}");
    server.send("GET", "/v1/models", &[&ann], "").good();
}

#[test]
fn requests_under_way_are_counted_until_they_are_over() {
    let folder = Folder::new("parallel");
    let file = folder.path("keys.txt");
    let ann = key(&file, "ann", &["--parallel", "1"]);
    let server = Server::start(&["ember", "--keys", &file]);
    let mut stream = server.connect();
    stream.write_all(&endless(&server, true, &[&ann])).unwrap();
    let ask = || post(&server, &ann, "/v1/chat/completions", &short());
    let refused = (0..100).map(|_| ask()).find(|answer| answer.status != 200).unwrap();
    assert_eq!(wait(&refused), 1);
    drop(stream);
    let started = std::time::Instant::now();
    while ask().status == 429 {
        assert!(started.elapsed() < super::PATIENCE, "the place is not given back");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for _ in 0..20 {
        ask().good();
        post(&server, &ann, "/v1/chat/completions", &super::with(short(), json!({"stream": true}))).chunks();
    }
}

#[test]
fn only_keys_for_that_change_which_models_there_are() {
    let folder = Folder::new("roles");
    let file = folder.path("keys.txt");
    let (ann, bob) = (key(&file, "ann", &[]), key(&file, "bob", &["--role", "manage"]));
    let server = Server::start(&["ember", "--keys", &file]);
    let routes = [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
    ];
    for (method, path) in routes {
        let ask = |key: &str| {
            server.send(method, path, &["Content-Type: application/json", key], "{\"model\": \"a\"}")
        };
        let refused = ask(&ann);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.json()["error"].as_str().unwrap().contains("--role manage"), "{refused:?}");
        assert_eq!(ask(&bob).status, 501, "{path}");
    }
    assert_eq!(server.send("HEAD", "/api/blobs/sha256:00", &[&ann], "").status, 403);
    post(&server, &bob, "/v1/chat/completions", &short()).good();
    // without keys, who is at this machine may, and who is elsewhere may not
    assert_eq!(Server::ember().post("/api/pull", &json!({"model": "a"})).status, 501);
    let open = Server::start(&["ember", "--host", "0.0.0.0", "--insecure-no-keys"]);
    assert_eq!(open.post("/api/pull", &json!({"model": "a"})).status, 403);
}

#[test]
fn limits_that_are_none_are_refused_when_they_are_made_and_when_they_are_read() {
    let folder = Folder::new("no-limits");
    let file = folder.path("keys.txt");
    let (code, _, err) = ingle(&["key", "new", "ann", "--keys", &file, "--parallel", "0"]);
    assert!(code == Some(1) && err.contains("parallel=0") && err.contains("above 0"), "{err}");
    assert!(!std::path::Path::new(&file).exists());
    key(&file, "ann", &["--parallel", "2", "--tokens-per-day", "1000"]);
    let line = std::fs::read_to_string(&file).unwrap();
    assert!(line.trim().ends_with("tokens-per-day=1000 parallel=2"), "{line}");
    std::fs::write(&file, format!("# keys\n{} speed=2\n", line.trim())).unwrap();
    let (code, _, err) = ingle(&["serve", "--keys", &file]);
    assert!(code == Some(1) && err.contains("line 2") && err.contains("`speed=2`"), "{err}");
    assert!(err.contains("requests-per-minute=N") && err.contains(&file), "{err}");
}
