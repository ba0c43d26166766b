//! Several models: loaded when they are asked, gone when others need their memory.

use super::{Server, user};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A small model that makes vectors.
const EMBEDDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ingle-cpu/tests/fixtures/qwen3_embedding");

fn named(name: &str) -> String {
    format!("{name}={EMBEDDER}")
}

/// More memory promised than any machine has, so that there is room for one model.
const ALL_MEMORY: [&str; 2] = ["--kv-memory", "100000GB"];

fn embed(server: &Server, model: &str) -> super::Answer {
    server.post("/v1/embeddings", &json!({"model": model, "input": "a text"}))
}

fn says(server: &Server, model: &str) -> String {
    let body = json!({"model": model, "messages": user("What is Ingle?"), "temperature": 0, "max_tokens": 8});
    server.chat(&body).good()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// The names of the models that are loaded.
fn loaded(server: &Server) -> Vec<String> {
    let listed = server.get("/api/ps").good();
    listed["models"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_model_is_loaded_once_when_it_is_first_asked() {
    let server = Server::start(&["ember", &named("second"), "--alias", "first"]);
    let listed = server.get("/v1/models").good();
    let of = |name: &str| -> Vec<Value> {
        listed["data"].as_array().unwrap().iter().map(|model| model[name].clone()).collect()
    };
    assert_eq!(of("id"), ["ember", "second"]);
    assert_eq!(of("loaded"), [true, false]);
    assert_eq!(server.get("/api/tags").good()["models"].as_array().unwrap().len(), 3);
    assert_eq!(loaded(&server), ["ember:latest", "first:latest"]);
    let vectors: Vec<Value> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| embed(&server, "second").good())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(vectors.windows(2).all(|two| two[0]["data"] == two[1]["data"]));
    assert_eq!(server.metric("ingle_model_loads_total"), 2.0);
    assert_eq!(loaded(&server), ["ember:latest", "first:latest", "second:latest"]);
    assert_eq!(says(&server, "first"), says(&server, "ember"));
    let error = embed(&server, "third").error(404);
    assert!(error["message"].as_str().unwrap().contains("ember, second"), "{error}");
}

#[test]
fn a_model_that_needs_memory_gets_that_of_one_that_nobody_uses() {
    let server = Server::start(&[&["ember", &named("second")][..], &ALL_MEMORY].concat());
    let said = says(&server, "ember");
    embed(&server, "second").good();
    assert_eq!(loaded(&server), ["second:latest"]);
    assert_eq!(says(&server, "ember"), said);
    assert_eq!(loaded(&server), ["ember:latest"]);
    assert_eq!(server.metric("ingle_model_unloads_total"), 2.0);
}

#[test]
fn answers_under_way_end_before_their_model_makes_room() {
    let server = Server::start(&[&["ember", &named("second")][..], &ALL_MEMORY].concat());
    let body = json!({"model": "ember", "messages": user("Tell me a story."), "max_tokens": 300, "stream": true,
        "logit_bias": {"2041": -100, "2039": -100}});
    let (stream, vector) = std::thread::scope(|scope| {
        let stream = scope.spawn(|| server.chat(&body).chunks());
        server.until("the answer begins", |server| server.metric("ingle_running") > 0.0);
        (stream.join().unwrap(), embed(&server, "second").good())
    });
    let reason = |chunk: &Value| chunk["choices"][0]["finish_reason"] == "length";
    assert!(stream.iter().any(reason), "{stream:?}");
    assert_eq!(vector["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_pinned_model_stays_and_the_other_is_refused_with_figures() {
    let server = Server::start(&[&["ember", &named("second"), "--pin", "ember"][..], &ALL_MEMORY].concat());
    let error = embed(&server, "second").error(503);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("`second` finds no room") && message.contains("of memory are free"),
        "{message}"
    );
    let told =
        server.post("/api/generate", &json!({"model": "ember", "keep_alive": 0, "stream": false})).good();
    assert!(told["warnings"][0].as_str().unwrap().contains("always stays"), "{told}");
    assert_eq!(loaded(&server), ["ember:latest"]);
    says(&server, "ember");
}

#[test]
fn a_model_goes_when_it_was_kept_long_enough() {
    let server = Server::start(&["ember", &named("second")]);
    let keep = |time: Value| {
        server.post("/api/generate", &json!({"model": "ember", "keep_alive": time, "stream": false})).good()
    };
    assert_eq!(keep(json!(0))["done_reason"], "unload");
    server.until("it is gone", |server| loaded(server).is_empty());
    // who asks gets it again
    assert_eq!(keep(json!("1h"))["done_reason"], "load");
    assert_eq!(loaded(&server), ["ember:latest"]);
    // only for the request that says it
    keep(json!("100ms"));
    says(&server, "ember");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(loaded(&server), ["ember:latest"]);
    keep(json!("200ms"));
    server.until("it is gone", |server| loaded(server).is_empty());
    let server = Server::start(&["ember", "--keep-alive", "300ms"]);
    server.until("it is gone", |server| loaded(server).is_empty());
    says(&server, "ember");
}

/// A folder of its own that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn with_models(name: &str, models: &[&str]) -> Folder {
        let folder = std::env::temp_dir().join(format!("ingle-several-{name}-{}", std::process::id()));
        for model in models {
            copy(Path::new(EMBEDDER), &folder.join(model));
        }
        Folder(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &to) } else { _ = std::fs::copy(&path, &to).unwrap() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn models_of_a_folder_are_served_and_one_that_vanished_harms_no_other() {
    let folder = Folder::with_models("folder", &["a", "b"]);
    std::fs::write(folder.path().join("broken.gguf"), "GGUF no more").unwrap();
    let server = Server::start(&["ember", "--folder", &folder.path().display().to_string()]);
    let listed = server.get("/v1/models").good();
    let ids: Vec<&Value> = listed["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["ember", "a", "b"]);
    let vector = embed(&server, "a").good();
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(embed(&server, "a").good(), vector, "what is loaded stays as it is");
    let error = embed(&server, "b").error(500);
    assert!(error["message"].as_str().unwrap().contains("`b` cannot be loaded"), "{error}");
    says(&server, "ember");
}

#[test]
fn a_model_whose_file_is_overwritten_or_shortened_harms_no_other_and_is_loaded_again() {
    let folder = Folder::with_models("overwritten", &["a"]);
    let weights = folder.path().join("a/model.safetensors");
    let all = std::fs::read(&weights).unwrap();
    let server = Server::start(&["ember", "--folder", &folder.path().display().to_string()]);
    let vector = embed(&server, "a").good();
    // in place, as by `cp`
    std::fs::write(&weights, &all[..all.len() / 2]).unwrap();
    let error = embed(&server, "a").error(500);
    assert!(error["message"].as_str().unwrap().contains("`a` cannot be loaded"), "{error}");
    says(&server, "ember");
    std::fs::write(&weights, &all).unwrap();
    assert_eq!(embed(&server, "a").good()["data"], vector["data"]);
}

#[test]
fn one_file_under_two_names_is_one_model() {
    let server = Server::start(&[&named("a"), &named("b")]);
    assert_eq!(embed(&server, "b").good()["model"], "a");
    embed(&server, "a").good();
    assert_eq!(server.metric("ingle_model_loads_total"), 1.0);
}

#[test]
fn a_model_may_keep_keys_and_values_in_a_way_of_its_own() {
    let narrow = concat!("narrow=", env!("CARGO_MANIFEST_DIR"), "/../../models/ember/ember-q8_0.gguf");
    let server = Server::start(&["ember", narrow, "--kv-of", "narrow=4bit", "--context", "512"]);
    let held = |model: &str| {
        let long = "one two three four five ".repeat(40);
        let body = json!({"model": model, "prompt": long, "max_tokens": 4, "temperature": 0});
        server.post("/v1/completions", &body).good();
        let line = format!("ingle_kv_bytes{{model=\"{model}\"}} ");
        let metrics = server.get("/metrics").body;
        let held = metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse::<f64>().ok());
        held.unwrap_or_else(|| panic!("{metrics}"))
    };
    let (wide, narrow) = (held("ember"), held("narrow"));
    assert!(narrow > 0.0 && narrow < 0.35 * wide, "{narrow} and {wide}");
}

#[test]
fn names_that_are_not_clear_are_refused_at_the_start() {
    for (args, said) in [
        (vec!["ember".to_owned(), named("ember")], "two models are called `ember`"),
        (vec![named("two words")], "one word is needed"),
        (vec!["ember".into(), "--pin".into(), "another".into()], "no model `another` to pin"),
        (vec!["ember".into(), "--kv-of".into(), "another=8bit".into()], "no model `another` to keep keys"),
        (vec!["ember".into(), "--kv-of".into(), "ember".into()], "NAME=FORMAT is needed"),
        (vec!["ember".into(), "--kv-of".into(), "ember=3bit".into()], "16bit, 8bit, 4bit"),
        (vec!["a=./nothing.gguf".into()], "nothing.gguf"),
        (vec!["ember".into(), "--keep-alive".into(), "soon".into()], "a time such as"),
        (vec!["--folder".into(), "/nonexistent".into()], "/nonexistent"),
    ] {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_ingle"))
            .args(["serve", "--port", "0"])
            .args(&args)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && told.contains(said), "{args:?}: {told}");
    }
}
