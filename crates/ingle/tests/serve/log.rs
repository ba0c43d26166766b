//! The lines that are written of requests.

use super::ends::endless;
use super::limits::key;
use super::{Folder, Server, user};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStderr, Command, Stdio};

/// A server whose lines are read.
struct Logged {
    server: Server,
    errors: BufReader<ChildStderr>,
    /// All that it wrote.
    text: String,
}

impl Logged {
    fn start(args: &[&str]) -> Logged {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingle"));
        command.args(["serve", "--port", "0"]).args(args).env("HOME", "/nonexistent");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Logged { server: Server::new(child, &line), errors, text: String::new() }
    }

    /// The next line of a request.
    fn line(&mut self) -> Value {
        loop {
            let from = self.text.len();
            assert!(self.errors.read_line(&mut self.text).unwrap() > 0, "no line: {}", self.text);
            if self.text[from..].starts_with('{') {
                return serde_json::from_str(&self.text[from..]).unwrap();
            }
        }
    }
}

#[test]
fn a_line_is_written_of_every_request_and_nothing_of_what_was_asked() {
    let mut logged = Logged::start(&[]);
    let body = json!({"messages": user("a secret word"), "max_tokens": 1}).to_string();
    let headers = ["Content-Type: application/json", "Authorization: Bearer hidden"];
    let path = "/v1/chat/completions?key=concealed";
    let usage = logged.server.send("POST", path, &headers, &body).good()["usage"].clone();
    let line = logged.line();
    assert_eq!((&line["path"], &line["status"]), (&"/v1/chat/completions".into(), &200.into()));
    assert_eq!((&line["model"], &line["finish"]), (&"ember".into(), &"length".into()));
    assert_eq!(line["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(line["answer_tokens"], usage["completion_tokens"]);
    assert_eq!((&line["hung_up"], &line["key"]), (&false.into(), &Value::Null));
    assert!(line["milliseconds"].is_u64() && line["at"].as_u64() > Some(1_700_000_000), "{line}");
    logged.server.get("/nothing").error(404);
    let line = logged.line();
    assert_eq!((&line["method"], &line["status"]), (&"GET".into(), &404.into()));
    assert!(line["model"].is_null() && line["finish"].is_null(), "{line}");
    assert_eq!(logged.server.send("HEAD", "/api/blobs/sha256:00", &[], "").status, 501);
    assert_eq!(logged.line()["hung_up"], false);
    logged.server.child.kill().unwrap();
    logged.errors.read_to_string(&mut logged.text).unwrap();
    for hidden in ["secret", "hidden", "concealed"] {
        assert!(!logged.text.contains(hidden), "{}", logged.text);
    }
}

#[test]
fn a_stream_has_its_line_when_it_is_over_with_the_name_of_its_key() {
    let folder = Folder::new("log");
    let file = folder.path("keys.txt");
    let ann = key(&file, "ann", &[]);
    let mut logged = Logged::start(&["--keys", &file]);
    let body = json!({"messages": user("What is Ingle?"), "stream": true});
    let headers = ["Content-Type: application/json", &ann];
    let greedy = json!({"temperature": 0});
    for (path, more, format) in [
        ("/v1/chat/completions", greedy.clone(), "data: [DONE]"),
        ("/api/chat", json!({"model": "ember", "options": greedy}), "\"done\":true"),
    ] {
        let body = super::with(body.clone(), more).to_string();
        let answer = logged.server.send("POST", path, &headers, &body);
        assert!(answer.body.contains(format), "{answer:?}");
        let line = logged.line();
        assert_eq!((&line["path"], &line["finish"]), (&path.into(), &"stop".into()));
        assert_eq!((&line["key"], &line["hung_up"]), (&"ann".into(), &false.into()));
        assert!(line["answer_tokens"].as_u64() > Some(3), "{line}");
    }
    let mut stream = logged.server.connect();
    stream.write_all(&endless(&logged.server, true, &[&ann])).unwrap();
    assert!(["/tokenize"; 2].iter().all(|path| logged.line()["path"] == *path));
    // more than what comes before the first token
    stream.read_exact(&mut [0; 4000]).unwrap();
    drop(stream);
    let line = logged.line();
    assert_eq!((&line["finish"], &line["hung_up"]), (&"cancelled".into(), &true.into()), "{line}");
    assert!(line["answer_tokens"].as_u64() > Some(0), "{line}");
    let key = ann.rsplit(' ').next().unwrap();
    assert!(!logged.text.contains(key));
}

#[test]
fn prompts_are_written_where_that_is_asked_for_and_said_aloud() {
    let mut logged = Logged::start(&["--log-prompts"]);
    let body = json!({"messages": user("What is Ingle?"), "max_tokens": 1});
    logged.server.chat(&body).good();
    let line = logged.line();
    assert!(line["prompts"][0].as_str().unwrap().contains("What is Ingle?"), "{line}");
    assert!(logged.text.contains("--log-prompts"), "{}", logged.text);
}
