//! `GET /openapi.json`: the document says what the server does.

use super::{PATIENCE, Server, user, with};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn the_document_in_the_repository_is_what_the_server_says() {
    let written = std::fs::read_to_string(Path::new(ROOT).join("docs/openapi.json")).unwrap();
    let told = Server::ember().get("/openapi.json").good();
    assert!(
        serde_json::from_str::<Value>(&written).unwrap() == told,
        "docs/openapi.json is out of date; write it with `cargo run -p xtask -- openapi`"
    );
}

#[test]
fn every_described_route_is_there_and_answers_to_its_methods_alone() {
    let server = Server::ember();
    let document = server.get("/openapi.json").good();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let filled: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let filled = filled.join("/");
        for method in ["GET", "POST", "DELETE", "HEAD", "PUT"] {
            let answer = server.send(method, &filled, &["Content-Type: application/json"], "{}");
            let described = operations.get(method.to_ascii_lowercase()).is_some()
                // what can be got can be asked for
                || method == "HEAD" && operations.get("get").is_some();
            assert_eq!(answer.status != 405, described, "{method} {path}: {answer:?}");
            assert!(!answer.body.contains("there is nothing at"), "{method} {path}: {answer:?}");
        }
    }
}

/// A connection that stays.
struct Line {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Line {
    fn of(server: &Server) -> Line {
        let stream = server.connect();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Line { stream: BufReader::new(stream), host: server.address.clone() }
    }

    fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let (host, body) = (&self.host, body.to_string());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}")))
    }
}

/// A request that a route answers, and soon.
fn plain(path: &str) -> Value {
    let chat = json!({"messages": user("hi"), "max_tokens": 1});
    let ollama = json!({"model": "ember", "stream": false, "options": {"num_predict": 1}});
    match path {
        "/tokenize" => json!({"content": "hi"}),
        "/detokenize" => json!({"tokens": [5]}),
        "/apply-template" | "/v1/messages/count_tokens" => json!({"messages": user("hi")}),
        "/v1/chat/completions" | "/v1/messages" => chat,
        "/v1/completions" => json!({"prompt": "hi", "max_tokens": 1}),
        "/v1/responses" => json!({"input": "hi", "max_output_tokens": 1}),
        "/v1/embeddings" => json!({"input": "hi"}),
        "/v1/rerank" | "/rerank" => json!({"query": "hi", "documents": ["a"]}),
        "/api/generate" => with(ollama, json!({"prompt": "hi"})),
        "/api/chat" => with(ollama, json!({"messages": user("hi")})),
        "/api/embed" => json!({"model": "ember", "input": "hi"}),
        "/api/embeddings" => json!({"model": "ember", "prompt": "hi"}),
        "/api/show" => json!({"model": "ember"}),
        _ => panic!("{path} reads a body, and no good one is known here"),
    }
}

/// All names that the server's text has in quotation marks.
fn names() -> BTreeSet<String> {
    fn add(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let plain = |part: &&str| {
                part.starts_with(|first: char| first.is_ascii_lowercase())
                    && part
                        .chars()
                        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
            };
            names.extend(text.split('"').filter(plain).map(str::to_owned));
        }
    }
    let mut names = BTreeSet::new();
    add(&Path::new(ROOT).join("crates/ingle-server/src"), &mut names);
    assert!(names.len() > 300 && names.contains("temperature"), "{}", names.len());
    names
}

/// Objects whose fields the document lists: the body, and those within it, by their names.
fn objects(schema: &Value) -> Vec<(Option<&str>, &Map<String, Value>)> {
    let all = schema["properties"].as_object().unwrap();
    let inner =
        all.iter().filter_map(|(name, field)| Some((Some(name.as_str()), field["properties"].as_object()?)));
    std::iter::once((None, all)).chain(inner).collect()
}

/// Values that a field with such a schema cannot have.
fn wrong(schema: &Value) -> Vec<Value> {
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if types.is_empty() {
        return Vec::new();
    }
    let examples = [
        ("number", json!(7)),
        ("string", json!("no such value")),
        ("boolean", json!(true)),
        ("array", json!([])),
        ("object", json!({})),
    ];
    let fits = |name: &str| types.contains(&name) || name == "number" && types.contains(&"integer");
    let mut wrong: Vec<Value> =
        examples.into_iter().filter(|(name, _)| !fits(name)).map(|(_, value)| value).collect();
    if types == ["integer"] {
        wrong.push(json!(1.5));
    }
    if schema.get("enum").is_some() {
        wrong.push("no such value".into());
    }
    for (bound, sign) in [("minimum", -1), ("maximum", 1)] {
        match &schema[bound] {
            Value::Number(limit) if types == ["integer"] => wrong.push(json!(limit.as_i64().unwrap() + sign)),
            Value::Number(limit) => wrong.push(json!(limit.as_f64().unwrap() + 0.01 * sign as f64)),
            _ => {}
        }
    }
    wrong
}

/// Whether a text has a word, by itself or as the end of a longer name.
fn says(text: &str, word: &str) -> bool {
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.any(|other| other.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')))
}

/// Sends each name, as a field of each object of each body; asks the document what has to come of it.
fn check(route: &str, schema: &Value, line: &mut Line, names: &BTreeSet<String>) {
    for (within, fields) in objects(schema) {
        let mut send = |name: &str, value: &Value| {
            let mut body = plain(route);
            if name == "return_text" && route.contains("rerank") {
                body = json!({"query": "hi", "texts": ["a"]});
            }
            let mut field = json!({ name: value });
            if let Some(within) = within {
                if within == "stream_options" {
                    body["stream"] = true.into();
                }
                field = json!({ within: field });
            }
            let (status, answer) = line.post(route, &with(body, field));
            (status, answer.to_string())
        };
        let place = format!("{route} {}", within.unwrap_or_default());
        for name in names.iter().filter(|name| !fields.contains_key(*name)) {
            let (status, answer) = send(name, &"no such value".into());
            let refused = answer.contains(&format!("`{name}` is not known here"))
                || answer.contains("is not taken here");
            assert!(
                status == 400 && refused,
                "{place}: `{name}` is taken, and the document has no word of it: {answer}"
            );
        }
        for (name, schema) in fields {
            for value in wrong(schema) {
                let (status, answer) = send(name, &value);
                let blamed = says(&answer, name) && !answer.contains("is not known here");
                assert!(
                    status == 400 && blamed,
                    "{place}: `{name}` cannot be {value}, says the document: {status} {answer}"
                );
            }
            if schema["description"].as_str().unwrap().starts_with("Has no effect") {
                let example = if schema["type"].is_array() { json!("5m") } else { json!(["any"]) };
                let (status, answer) = send(name, &example);
                let told = answer.contains("warnings") && answer.contains(name.as_str());
                assert!(
                    status == 200 && told,
                    "{place}: `{name}` has no effect, says the document: {status} {answer}"
                );
            }
        }
    }
}

#[test]
fn what_the_document_says_of_fields_is_what_the_server_does_with_them() {
    let folder = format!("{ROOT}/crates/ingle-cpu/tests/fixtures/qwen3_embedding");
    let (text, vectors) = (Server::ember(), Server::start(&[&folder, "--name", "ember"]));
    let document = text.get("/openapi.json").good();
    let names = names();
    let bodies = document["paths"].as_object().unwrap().iter().filter_map(|(path, operations)| {
        let schema = operations.pointer("/post/requestBody/content/application~1json/schema")?;
        Some((path.as_str(), schema))
    });
    let bodies: Vec<(&str, &Value)> = bodies.collect();
    assert!(bodies.len() > 12);
    std::thread::scope(|scope| {
        for half in bodies.chunks(bodies.len().div_ceil(2)) {
            let (text, vectors, names) = (&text, &vectors, &names);
            scope.spawn(move || {
                let (mut text, mut vectors) = (Line::of(text), Line::of(vectors));
                for (path, schema) in half {
                    let of_vectors = path.contains("embed") || path.contains("rerank");
                    check(path, schema, if of_vectors { &mut vectors } else { &mut text }, names);
                }
            });
        }
    });
}
