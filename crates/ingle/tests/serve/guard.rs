//! Who may ask, and from where.

use super::{Folder, Server, ingle, user};
use serde_json::json;
use std::process::Command;

#[test]
fn an_address_for_all_needs_keys_or_a_word() {
    let (code, out, err) = ingle(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("no keys") && err.contains("ingle key new"), "{err}");
    let server = Server::start(&["ember", "--host", "0.0.0.0", "--insecure-no-keys"]);
    server.get("/v1/models").good();
}

#[test]
fn with_keys_only_their_owners_may_ask() {
    let folder = Folder::new("keys");
    let file = folder.path("keys.txt");
    let file = file.as_str();
    let (code, key, err) = ingle(&["key", "new", "ann", "--keys", file]);
    assert_eq!(code, Some(0), "{err}");
    let key = key.trim();
    let held = std::fs::read_to_string(file).unwrap();
    assert!(held.starts_with("ann infer ") && !held.contains(&key[6..]), "{held}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let server = Server::start(&["ember", "--keys", file]);
    let ask = |headers: &[&str]| server.send("GET", "/v1/models", headers, "");
    assert_eq!(ask(&[]).error(401)["type"], "authentication_error");
    ask(&[&format!("Authorization: Bearer {key}x")]).error(401);
    ask(&[&format!("Authorization: Bearer {key}")]).good();
    ask(&[&format!("x-api-key: {key}")]).good();
    server.get("/health").good();
    server.get("/metrics").error(401);
    let (code, _, err) = ingle(&["serve", "--keys", "/nonexistent"]);
    assert!(code == Some(1) && err.contains("/nonexistent"), "{err}");
}

#[test]
fn pages_and_names_from_elsewhere_are_refused() {
    let server = Server::start(&["ember", "--cors", "http://localhost:3000", "--allow-host", "box.home"]);
    let get = |headers: &[&str]| server.send("GET", "/v1/models", headers, "");
    get(&["Host: evil.example"]).error(403);
    get(&["Host: box.home:80"]).good();
    get(&["Host: localhost"]).good();
    get(&["Origin: http://evil.example"]).error(403);
    let allowed = get(&["Origin: http://localhost:3000"]);
    allowed.good();
    assert!(
        allowed.head.to_ascii_lowercase().contains("access-control-allow-origin: http://localhost:3000"),
        "{allowed:?}"
    );
    for method in ["POST", "DELETE", "PUT", "OPTIONS"] {
        assert_eq!(server.send(method, "/v1/models", &["Host: evil.example"], "").status, 403, "{method}");
    }
    let asks = server.send("OPTIONS", "/v1/chat/completions", &["Origin: http://localhost:3000"], "");
    assert_eq!(asks.status, 204);
    let plain =
        Server::ember().send("OPTIONS", "/v1/chat/completions", &["Origin: http://localhost:3000"], "");
    assert_eq!(plain.status, 403, "nothing is open unless it is named");
}

#[test]
fn an_open_server_without_keys_is_not_found_by_strangers_names() {
    let server =
        Server::start(&["ember", "--host", "0.0.0.0", "--insecure-no-keys", "--allow-host", "box.home"]);
    let get = |host: &str| server.send("GET", "/v1/models", &[&format!("Host: {host}")], "");
    get("evil.example").error(403);
    get("10.1.2.3:11435").good();
    get("box.home").good();
    // what anybody can write is believed by nobody
    let bare = "GET /v1/models HTTP/1.0\r\nX-Forwarded-Host: localhost\r\n\r\n";
    server.raw(bare.as_bytes()).error(403);
}

#[test]
fn headers_without_end_are_cut_off() {
    let server = Server::ember();
    let long = format!("X-Long: {}", "y".repeat(40_000));
    assert_eq!(server.send("GET", "/health", &[&long], "").status, 431);
    server.get("/health").good();
}

#[test]
fn forms_of_web_pages_are_refused() {
    let server = Server::ember();
    let body = json!({"messages": user("hi")}).to_string();
    for kind in [&["Content-Type: text/plain"][..], &[]] {
        server.send("POST", "/v1/chat/completions", kind, &body).error(415);
    }
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_end_lets_answers_end() {
    let mut server = Server::ember();
    let body = json!({"messages": user("Tell me a story."), "stream": true, "seed": 3}).to_string();
    let request = server.request("POST", "/v1/chat/completions", &["Content-Type: application/json"], &body);
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, &request).unwrap();
    server.until("it has begun", |server| server.metric("ingle_prompt_tokens_total") > 0.0);
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let chunks = super::answer(&mut stream).chunks();
    assert!(chunks.last().unwrap()["choices"][0]["finish_reason"].is_string());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}
