//! Ollama's API.

use super::{Answer, Server, user, with};
use serde_json::{Value, json};

impl Server {
    fn ollama(&self, path: &str, body: Value) -> Answer {
        self.post(&format!("/api/{path}"), &body)
    }

    /// The answer to a greedy request.
    fn ember_says(&self, path: &str, more: Value) -> Value {
        self.ollama(path, greedy(more)).good()
    }
}

/// A request that is answered whole, and the same every time.
fn greedy(more: Value) -> Value {
    let options = json!({"temperature": 0, "num_predict": 40});
    with(json!({"model": "ember", "stream": false, "options": options}), more)
}

/// The lines of a stream; only the last one is done.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.to_ascii_lowercase().contains("content-type: application/x-ndjson"), "{answer:?}");
    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(last["done"] == true && before.iter().all(|line| line["done"] == false), "{lines:?}");
    lines
}

/// The text of an error that has to be one, with this status.
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.json()["error"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// What an answer mentions.
fn told(answer: &Value) -> String {
    let warnings = answer["warnings"].as_array().unwrap_or_else(|| panic!("no warnings: {answer}"));
    warnings.iter().map(|warning| warning.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

fn embedder() -> Server {
    Server::start(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../ingle-cpu/tests/fixtures/qwen3_embedding")])
}

#[test]
fn a_chat_has_the_shape_that_clients_expect() {
    let server = Server::ember();
    let answer = server.ember_says("chat", json!({"messages": user("What is Ingle?")}));
    assert_eq!((&answer["model"], &answer["done"]), (&"ember".into(), &true.into()));
    assert_eq!((&answer["message"]["role"], &answer["done_reason"]), (&"assistant".into(), &"stop".into()));
    assert!(answer["message"]["content"].as_str().unwrap().starts_with("Ingle is a local engine"));
    let created = answer["created_at"].as_str().unwrap();
    assert!(created.len() == 30 && created.starts_with("20") && created.ends_with('Z'), "{created}");
    for name in [
        "total_duration",
        "load_duration",
        "prompt_eval_duration",
        "prompt_eval_count",
        "eval_duration",
        "eval_count",
    ] {
        assert!(answer[name].is_u64(), "{name}: {answer}");
    }
    assert!(answer["total_duration"].as_u64() >= answer["eval_duration"].as_u64());
    assert!(answer.get("warnings").is_none() && answer.get("logprobs").is_none());
    // what is in the cache is part of the prompt all the same
    let again = server.ember_says("chat", json!({"messages": user("What is Ingle?")}));
    assert_eq!(again["prompt_eval_count"], answer["prompt_eval_count"]);
    let options = json!({"temperature": 0, "num_predict": 3});
    let short = server.ember_says("chat", json!({"messages": user("What is Ingle?"), "options": options}));
    assert_eq!((&short["done_reason"], &short["eval_count"]), (&"length".into(), &3.into()));
}

#[test]
fn a_stream_is_the_usual_and_says_what_the_whole_answer_says() {
    let server = Server::ember();
    for (path, asked) in [
        ("chat", json!({"messages": user("What is Ingle?")})),
        ("generate", json!({"prompt": "What is Ingle?"})),
    ] {
        let said = |line: &Value| match path {
            "chat" => line["message"]["content"].as_str().unwrap().to_owned(),
            _ => line["response"].as_str().unwrap().to_owned(),
        };
        let options = json!({"seed": 7, "num_predict": 20, "num_gpu": 1});
        let mut body = with(asked, json!({"options": options, "logprobs": true, "top_logprobs": 2}));
        let whole = server.ember_says(path, body.clone());
        body["model"] = "ember".into();
        let lines = lines(&server.ollama(path, body));
        assert!(lines.len() > 3);
        assert_eq!(lines.iter().map(said).collect::<String>(), said(&whole));
        let logprobs: Vec<&Value> =
            lines.iter().filter_map(|line| line["logprobs"].as_array()).flatten().collect();
        let of_whole: Vec<&Value> = whole["logprobs"].as_array().unwrap().iter().collect();
        assert_eq!(logprobs, of_whole);
        let spelled: String = logprobs.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert_eq!((spelled, logprobs[0]["top_logprobs"].as_array().unwrap().len()), (said(&whole), 2));
        let last = lines.last().unwrap();
        for name in ["done_reason", "eval_count", "prompt_eval_count", "warnings"] {
            assert_eq!(last[name], whole[name], "{name}");
        }
        assert!(told(last).contains("`num_gpu`"));
        assert!(lines[..lines.len() - 1].iter().all(|line| line.get("warnings").is_none()));
    }
}

#[test]
fn a_prompt_is_answered_as_a_message_or_continued_as_it_is() {
    let server = Server::ember();
    let chat = server.ember_says("chat", json!({"messages": user("What is Ingle?")}));
    // as clients send it
    let empty =
        json!({"suffix": "", "template": "", "system": "", "context": [], "images": [], "raw": false});
    let answer = server.ember_says("generate", with(json!({"prompt": "What is Ingle?"}), empty));
    assert_eq!(answer["response"], chat["message"]["content"]);
    assert_eq!(answer["prompt_eval_count"], chat["prompt_eval_count"]);
    assert!(answer.get("message").is_none() && answer.get("warnings").is_none(), "{answer}");
    let system = json!({"prompt": "What is Ingle?", "system": "Be brief, and then briefer."});
    let longer = server.ember_says("generate", system);
    assert!(longer["prompt_eval_count"].as_u64() > answer["prompt_eval_count"].as_u64());
    let raw = server.ember_says("generate", json!({"prompt": "What is Ingle?", "raw": true, "think": false}));
    assert!(raw["prompt_eval_count"].as_u64() < answer["prompt_eval_count"].as_u64());
    assert!(told(&raw).contains("`think`"));
    let body = json!({"prompt": "What is Ingle?", "temperature": 0, "max_tokens": 40});
    let completed = server.post("/v1/completions", &body).good();
    assert_eq!(raw["response"], completed["choices"][0]["text"]);
}

#[test]
fn who_asks_nothing_wants_the_model_to_be_there() {
    let server = Server::ember();
    for (path, body) in
        [("generate", json!({"prompt": ""})), ("chat", json!({"messages": []})), ("chat", json!({}))]
    {
        let answer = server.ollama(path, with(json!({"model": "ember"}), body)).good();
        assert_eq!((&answer["done"], &answer["done_reason"]), (&true.into(), &"load".into()));
        let unload = server.ollama(path, json!({"model": "ember", "keep_alive": 0})).good();
        assert_eq!(unload["done_reason"], "unload");
    }
    let answer = server.ollama("embed", json!({"model": "ember", "input": ""})).good();
    assert_eq!(answer["embeddings"], json!([]));
}

#[test]
fn options_are_used_as_those_of_other_apis() {
    let server = Server::ember();
    let ask = |options: Value| {
        let body = json!({"messages": user("Tell me a story."), "options": options});
        server.ember_says("chat", body)["message"]["content"].clone()
    };
    let sampled = json!({"seed": 5, "temperature": 0.9, "top_k": 50, "top_p": 0.95, "num_predict": 20});
    assert_eq!(ask(sampled.clone()), ask(sampled.clone()));
    let body = json!({
        "messages": user("Tell me a story."), "seed": 5, "temperature": 0.9, "top_k": 50, "top_p": 0.95,
        "max_tokens": 20,
    });
    assert_eq!(ask(sampled), server.chat(&body).good()["choices"][0]["message"]["content"]);
    let plain = ask(json!({"temperature": 0, "num_predict": 30}));
    let (plain, word) = (plain.as_str().unwrap(), plain.as_str().unwrap().split(' ').nth(3).unwrap());
    for stop in [json!(word), json!(["nowhere to be found", word])] {
        let stopped = ask(json!({"temperature": 0, "num_predict": 30, "stop": stop}));
        assert_eq!(stopped, plain.split(word).next().unwrap());
    }
}

#[test]
fn a_format_is_what_other_apis_call_a_response_format() {
    let server = Server::ember();
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]});
    for (format, other) in [
        (json!("json"), json!({"type": "json_object"})),
        (schema.clone(), json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})),
    ] {
        let ours =
            server.ollama("chat", greedy(json!({"messages": user("What is Ingle?"), "format": format})));
        let body = json!({
            "messages": user("What is Ingle?"), "temperature": 0, "max_tokens": 40, "response_format": other,
        });
        let theirs = server.chat(&body);
        assert_eq!(ours.status, theirs.status, "{ours:?} {theirs:?}");
        if ours.status == 200 {
            assert_eq!(ours.json()["message"]["content"], theirs.json()["choices"][0]["message"]["content"]);
        }
    }
}

#[test]
fn a_chat_too_long_is_cut_only_when_asked_and_told() {
    let server = Server::start(&["ember", "--context", "256"]);
    let old = json!({"role": "user", "content": "long ".repeat(300)});
    let read = json!({"role": "assistant", "content": "I read it."});
    let asked = json!({"messages": [old, read, {"role": "user", "content": "What is Ingle?"}]});
    assert!(refused(&server.ollama("chat", greedy(asked.clone())), 400).contains("256"));
    let cut = server.ember_says("chat", with(asked, json!({"truncate": true})));
    assert!(cut["message"]["content"].as_str().unwrap().starts_with("Ingle is a local engine"), "{cut}");
    assert!(told(&cut).contains("left out"), "{cut}");
}

#[test]
fn a_last_message_of_the_assistant_goes_on() {
    let server = Server::ember();
    let whole = server.ember_says("chat", json!({"messages": user("What is Ingle?")}));
    let whole = whole["message"]["content"].as_str().unwrap().to_owned();
    let (begun, rest) = whole.split_at(whole.find(" engine").unwrap());
    let messages = json!([user("What is Ingle?")[0], {"role": "assistant", "content": begun}]);
    assert_eq!(server.ember_says("chat", json!({"messages": messages}))["message"]["content"], rest);
}

#[test]
fn tools_and_what_they_answered_reach_the_prompt() {
    let server = Server::ember();
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function =
        json!({"name": "tell_the_weather", "description": "The weather.", "parameters": parameters});
    let tools = json!([{"type": "function", "function": function}]);
    let count = |messages: Value, tools: Value| {
        let options = json!({"num_predict": 1});
        let body = json!({"messages": messages, "tools": tools, "options": options});
        server.ember_says("chat", body)["prompt_eval_count"].as_u64().unwrap()
    };
    let asked = user("What is the weather in Ulm?");
    let (plain, offered) = (count(asked.clone(), json!([])), count(asked.clone(), tools.clone()));
    assert!(offered > plain);
    let call = json!({"function": {"index": 0, "name": "tell_the_weather", "arguments": {"city": "Ulm"}}});
    let messages = json!([
        asked[0],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "tell_the_weather", "content": "It is foggy."},
    ]);
    assert!(count(messages, tools) > offered);
    for tools in [json!([{"type": "function"}]), json!([1]), json!("x")] {
        refused(&server.ollama("chat", greedy(json!({"messages": asked, "tools": tools}))), 400);
    }
}

#[test]
fn every_mistake_is_named_and_none_is_ignored() {
    let server = Server::start(&["ember", "--context", "256"]);
    let says = |path: &str, more: Value, named: &str| {
        let error = refused(&server.ollama(path, greedy(more.clone())), 400);
        assert!(error.contains(named), "{path} {more}: {error}");
    };
    for (more, named) in [
        (json!({"tempereture": 1}), "`tempereture`"),
        (json!({"temperature": 1}), "`temperature`"),
        (json!({"options": {"tempereture": 1}}), "`tempereture`"),
        (json!({"options": {"temperature": "hot"}}), "`temperature`"),
        (
            json!({"options": {"num_ctx": 300}}),
            "`num_ctx` is 300, and the model is served with a context of 256",
        ),
        (json!({"options": 1}), "`options`"),
        (json!({"format": "xml"}), "`format`"),
        (json!({"format": {"type": "object", "properties": 1}, "think": "much"}), "`think`"),
        (json!({"keep_alive": true}), "`keep_alive`"),
        (json!({"stream": "yes"}), "`stream`"),
        (json!({"top_logprobs": 2}), "`top_logprobs`"),
        (json!({"logprobs": true, "top_logprobs": 99}), "`top_logprobs`"),
        (json!({"truncate": 1}), "`truncate`"),
    ] {
        says("chat", with(json!({"messages": user("hi")}), more.clone()), named);
        says("generate", with(json!({"prompt": "hi"}), more), named);
    }
    for (more, named) in [
        (json!({"prompt": 1}), "`prompt`"),
        (json!({"suffix": "x"}), "`suffix`"),
        (json!({"template": "{{ .Prompt }}"}), "`template`"),
        (json!({"context": [1, 2]}), "/api/chat"),
        (json!({"images": ["aGk="]}), "text alone"),
        (json!({"raw": true, "system": "x"}), "exclude each other"),
        (json!({"messages": user("hi")}), "`messages`"),
    ] {
        says("generate", with(json!({"prompt": "hi"}), more), named);
    }
    for (messages, named) in [
        (json!([{"role": "user", "content": "hi", "images": ["aGk="]}]), "message 0: it has `images`"),
        (json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]), "`content`"),
        (json!([{"role": "user"}]), "`content`"),
        (json!([{"content": "hi"}]), "`role`"),
        (json!("hi"), "`messages`"),
        (user(&"long ".repeat(400)), "256"),
    ] {
        says("chat", json!({"messages": messages, "stream": true}), named);
    }
    refused(&server.ollama("chat", json!({"messages": user("hi")})), 400);
    for body in ["", "{", "[]", "null"] {
        refused(&server.send("POST", "/api/chat", &["Content-Type: application/json"], body), 400);
    }
    refused(&server.send("POST", "/api/chat", &["Content-Type: text/plain"], "{}"), 415);
    refused(&server.get("/api/chat"), 405);
    refused(&server.get("/api/nothing"), 404);
    server.get("/health").good();
}

#[test]
fn what_has_no_effect_is_told() {
    let server = Server::ember();
    let options = json!({"num_ctx": 64, "num_thread": 2, "low_vram": true, "num_predict": 1});
    let more = json!({"shift": true, "options": options, "think": "high"});
    for (path, asked) in [("chat", json!({"messages": user("hi")})), ("generate", json!({"prompt": "hi"}))] {
        let told = told(&server.ember_says(path, with(asked.clone(), more.clone())));
        for name in ["`shift`", "`num_ctx`", "`num_thread`", "`low_vram`", "think`"] {
            assert!(told.contains(name), "{name}: {told}");
        }
        let none =
            json!({"keep_alive": null, "truncate": false, "shift": false, "think": null, "format": ""});
        let answer = server.ember_says(path, with(asked, none));
        assert!(answer.get("warnings").is_none(), "{answer}");
    }
}

#[test]
fn texts_become_vectors() {
    let server = embedder();
    let name = server.get("/api/tags").good()["models"][0]["name"].clone();
    let embed = |more: Value| server.ollama("embed", with(json!({"model": name}), more));
    let answer = embed(json!({"input": ["the same", "another", "the same"]})).good();
    let vectors = answer["embeddings"].as_array().unwrap();
    assert_eq!((vectors.len(), &vectors[0], &answer["model"]), (3, &vectors[2], &name));
    assert!(vectors[0] != vectors[1] && answer["prompt_eval_count"].as_u64().unwrap() > 2);
    assert!(answer["total_duration"].is_u64() && answer.get("warnings").is_none());
    let one = embed(json!({"input": "the same", "truncate": false})).good();
    assert_eq!(one["embeddings"][0], vectors[0]);
    let body = json!({"input": "the same"});
    assert_eq!(server.post("/v1/embeddings", &body).good()["data"][0]["embedding"], vectors[0]);
    let old = server.ollama("embeddings", json!({"model": name, "prompt": "the same"})).good();
    assert_eq!(old["embedding"], vectors[0]);
    let short = embed(json!({"input": "the same", "dimensions": 8})).good();
    assert_eq!(short["embeddings"][0].as_array().unwrap().len(), 8);
    let told = told(&embed(json!({"input": "a", "options": {"temperature": 0}, "keep_alive": -1})).good());
    assert!(told.contains("`temperature`") && !told.contains("`keep_alive`"), "{told}");
    for more in [
        json!({"input": 1}),
        json!({"input": [1]}),
        json!({"input": "a", "dimensions": 1_000_000}),
        json!({"input": "a", "dimensions": 0}),
        json!({"input": "a", "other": 0}),
        json!({"input": "a", "options": {"other": 0}}),
    ] {
        refused(&embed(more), 400);
    }
    // it writes no text, and says so
    let chat = server.ollama("generate", json!({"model": name, "prompt": "hi"}));
    assert!(refused(&chat, 400).contains("embeddings"));
    let capabilities = &server.ollama("show", json!({"model": name})).good()["capabilities"];
    assert_eq!(capabilities, &json!(["embedding"]));
}

#[test]
fn a_text_too_long_to_embed_is_cut_and_told_or_refused() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../ingle-cpu/tests/fixtures/qwen3_embedding");
    let server = Server::start(&[fixture, "--context", "16", "--name", "vectors"]);
    let input = json!(["short", "long ".repeat(50)]);
    let embed = |more: Value| server.ollama("embed", with(json!({"model": "vectors", "input": input}), more));
    assert!(told(&embed(json!({})).good()).contains("text 2 is too long"));
    assert!(refused(&embed(json!({"truncate": false})), 400).contains("text 2"));
    let old = server.ollama("embeddings", json!({"model": "vectors", "prompt": "long ".repeat(50)})).good();
    assert!(told(&old).contains("left out"));
}

#[test]
fn a_model_for_conversations_makes_no_vectors() {
    let server = Server::ember();
    for (path, body) in [
        ("embed", json!({"model": "ember", "input": "a"})),
        ("embeddings", json!({"model": "ember", "prompt": "a"})),
    ] {
        assert!(refused(&server.ollama(path, body), 400).contains("embeddings"));
    }
}

#[test]
fn models_are_listed_and_described() {
    let server = Server::start(&["ember", "--alias", "small:tiny", "--context", "512"]);
    let models = server.get("/api/tags").good()["models"].clone();
    let names: Vec<&Value> = models.as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, ["ember:latest", "small:tiny"]);
    let model = &models[0];
    assert_eq!((&model["model"], &model["digest"]), (&model["name"], &"".into()));
    assert!(
        model["size"].as_u64().unwrap() > 100_000 && model["modified_at"].as_str().unwrap().ends_with('Z')
    );
    for name in ["format", "family", "parameter_size", "quantization_level"] {
        assert!(!model["details"][name].as_str().unwrap().is_empty(), "{name}: {model}");
    }
    let running = server.get("/api/ps").good()["models"][0].clone();
    assert_eq!((&running["size_vram"], &running["context_length"]), (&0.into(), &512.into()));
    assert!(running["expires_at"].as_str().unwrap() > "2100", "{running}");
    assert_eq!((&running["size"], &running["details"]), (&model["size"], &model["details"]));
    let shown = server.ollama("show", json!({"model": "ember"})).good();
    let information = &shown["model_info"];
    let architecture = information["general.architecture"].as_str().unwrap();
    assert!(information["general.parameter_count"].as_u64().unwrap() > 100_000);
    assert!(information[format!("{architecture}.context_length")].is_u64(), "{shown}");
    assert_eq!(shown["details"], model["details"]);
    let capabilities = shown["capabilities"].as_array().unwrap();
    assert!(capabilities.contains(&"completion".into()) && !capabilities.contains(&"embedding".into()));
    assert!(shown["parameters"].as_str().unwrap().contains("num_ctx"));
    let older = server.ollama("show", json!({"name": "small:tiny", "verbose": true})).good();
    assert!(told(&older).contains("`verbose`"));
    refused(&server.ollama("show", json!({})), 400);
    refused(&server.ollama("show", json!({"model": "ember", "other": 1})), 400);
}

#[test]
fn names_have_latest_or_not_and_others_are_not_found() {
    let server = Server::start(&["ember", "--alias", "other:latest"]);
    for model in ["ember", "ember:latest", "other", "other:latest"] {
        server.ollama("show", json!({"model": model})).good();
        let options = json!({"num_predict": 1});
        let answer = server
            .ollama("chat", greedy(json!({"model": model, "messages": user("hi"), "options": options})));
        assert_eq!(answer.good()["model"], model);
    }
    for path in ["chat", "generate", "embed", "embeddings", "show"] {
        for model in ["ember:4b", "embers", ""] {
            let error = refused(&server.ollama(path, json!({"model": model})), 404);
            assert!(
                error.contains(&format!("model '{model}' not found")) && error.contains("ember"),
                "{error}"
            );
        }
    }
}

#[test]
fn the_server_says_that_it_runs_and_which_it_is() {
    let server = Server::ember();
    let root = server.get("/");
    assert_eq!((root.status, root.body.as_str()), (200, "Ingle is running (it speaks Ollama's API)"));
    for path in ["/", "/api/tags", "/api/version"] {
        let head = server.send("HEAD", path, &[], "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    let version = server.get("/api/version").good()["version"].clone();
    assert_eq!(version.as_str().unwrap().split('.').count(), 3);
}

#[test]
fn what_changes_the_models_is_not_here_yet() {
    let server = Server::ember();
    for path in ["pull", "push", "create", "copy", "blobs/sha256:00"] {
        let error = refused(&server.ollama(path, json!({"model": "ember"})), 501);
        assert!(error.contains("ingle serve MODEL"), "{error}");
    }
    refused(&server.send("DELETE", "/api/delete", &[], "{}"), 501);
    assert_eq!(server.send("HEAD", "/api/blobs/sha256:00", &[], "").status, 501);
    refused(&server.get("/api/pull"), 405);
}

#[test]
fn large_requests_for_what_is_not_here_are_answered_and_not_cut_off() {
    let server = Server::ember();
    let error = refused(&server.ollama("create", json!({"model": "m", "system": "x".repeat(12 << 20)})), 501);
    assert!(error.contains("ingle serve MODEL"), "{error}");
}
