//! `POST /v1/completions`, models, tokens and templates.

use super::{Server, user};
use serde_json::{Value, json};

fn body(prompt: Value) -> Value {
    json!({"prompt": prompt, "max_tokens": 6, "temperature": 0})
}

#[test]
fn prompts_are_texts_or_tokens_one_or_several() {
    let server = Server::ember();
    let ids =
        server.post("/tokenize", &json!({"content": "Once upon", "add_special": true})).good()["tokens"]
            .clone();
    let complete = |prompt: Value| server.post("/v1/completions", &body(prompt)).good();
    let one = complete(json!("Once upon"));
    assert_eq!((&one["object"], &one["usage"]["completion_tokens"]), (&"text_completion".into(), &6.into()));
    let text = one["choices"][0]["text"].clone();
    assert_eq!(complete(ids.clone())["choices"][0]["text"], text);
    let several = complete(json!(["Once upon", ids, "Once upon"]));
    let choices = several["choices"].as_array().unwrap();
    assert!(choices.len() == 3 && choices.iter().all(|choice| choice["text"] == text), "{several}");
    assert_eq!(choices[2]["index"], 2);
}

#[test]
fn an_echo_begins_with_the_prompt_and_a_stream_says_the_same() {
    let server = Server::ember();
    let mut echoed = body(json!("Once upon"));
    echoed["echo"] = true.into();
    let whole =
        server.post("/v1/completions", &echoed).good()["choices"][0]["text"].as_str().unwrap().to_owned();
    assert!(whole.starts_with("Once upon") && whole.len() > 12, "{whole}");
    echoed["stream"] = true.into();
    let chunks = server.post("/v1/completions", &echoed).chunks();
    let said: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(said, whole);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn logprobs_come_in_columns() {
    let server = Server::ember();
    let mut wanted = body(json!("Once upon"));
    wanted["logprobs"] = 2.into();
    let choice = server.post("/v1/completions", &wanted).good()["choices"][0].clone();
    let columns = &choice["logprobs"];
    let tokens: String =
        columns["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens, choice["text"]);
    assert!(
        ["token_logprobs", "top_logprobs", "text_offset"].iter().all(|&column| columns[column]
            .as_array()
            .unwrap()
            .len()
            == 6)
    );
}

#[test]
fn an_echo_says_how_likely_the_prompt_was() {
    let server = Server::ember();
    let ids = |text: &str| server.post("/tokenize", &json!({"content": text})).good()["tokens"].clone();
    let complete = |wanted: &Value| server.post("/v1/completions", wanted).good()["choices"][0].clone();
    // what the model says first, then the same as part of a prompt, which is longer than a step tells of
    let start = "The engine runs a model, and a model is a file. ".repeat(5);
    let plain = complete(&json!({"prompt": ids(&start), "max_tokens": 8, "temperature": 0, "logprobs": 2}));
    let said = &plain["logprobs"];
    let mut prompt = ids(&start);
    let tokens = server.post("/tokenize", &json!({"content": plain["text"]})).good()["tokens"].clone();
    prompt.as_array_mut().unwrap().extend(tokens.as_array().unwrap().iter().cloned());
    let before = ids(&start).as_array().unwrap().len();
    let mut wanted =
        json!({"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 2, "echo": true});
    let count = prompt.as_array().unwrap().len() + 1;
    for again in 0..2 {
        let choice = complete(&wanted);
        let columns = &choice["logprobs"];
        for column in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(columns[column].as_array().unwrap().len(), count, "{column}");
        }
        assert_eq!(
            (&columns["token_logprobs"][0], &columns["top_logprobs"][0]),
            (&Value::Null, &Value::Null)
        );
        let all: String = columns["tokens"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(choice["text"], all);
        for at in 0..tokens.as_array().unwrap().len().min(8) {
            assert_eq!(columns["tokens"][before + at], said["tokens"][at]);
            let [here, there] = [&columns["token_logprobs"][before + at], &said["token_logprobs"][at]]
                .map(|logprob| logprob.as_f64().unwrap());
            assert!((here - there).abs() < 1e-3, "token {at} the time {again}: {here}, answered {there}");
            let likeliest = columns["top_logprobs"][before + at].as_object().unwrap();
            assert!(likeliest.len() == 2 && likeliest.values().any(|of| of.as_f64() == Some(here)), "greedy");
        }
    }
    // nothing but the prompt
    wanted["max_tokens"] = 0.into();
    let choice = complete(&wanted);
    assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), count - 1);
    // several at once, in a stream as whole
    let mut wanted = body(json!(["Once upon", "The sea", "a"]));
    (wanted["n"], wanted["logprobs"], wanted["echo"]) = (2.into(), 1.into(), true.into());
    let whole = server.post("/v1/completions", &wanted).good();
    wanted["stream"] = true.into();
    let chunks = server.post("/v1/completions", &wanted).chunks();
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let (text, tokens) = streamed(&chunks, index);
        assert_eq!(choice["text"], text);
        assert_eq!(choice["logprobs"]["tokens"], Value::from(tokens));
    }
}

/// The text and the tokens of every answer of a stream.
fn streamed(chunks: &[Value], index: usize) -> (String, Vec<Value>) {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).filter(|of| of["index"] == index);
    let (mut text, mut tokens) = (String::new(), Vec::new());
    for choice in choices {
        text.push_str(choice["text"].as_str().unwrap());
        tokens.extend(choice["logprobs"]["tokens"].as_array().into_iter().flatten().cloned());
    }
    (text, tokens)
}

#[test]
fn several_prompts_are_streamed_as_they_are_answered_whole() {
    let server = Server::ember();
    let mut wanted = body(json!(["Once upon", "The sea", "Once upon"]));
    wanted["n"] = 2.into();
    wanted["logprobs"] = 0.into();
    let whole = server.post("/v1/completions", &wanted).good();
    wanted["stream"] = true.into();
    wanted["stream_options"] = json!({"include_usage": true});
    let chunks = server.post("/v1/completions", &wanted).chunks();
    assert_eq!(whole["choices"].as_array().unwrap().len(), 6);
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let (text, tokens) = streamed(&chunks, index);
        assert_eq!((&choice["text"], &choice["index"]), (&text.into(), &index.into()));
        assert_eq!(choice["logprobs"]["tokens"], Value::from(tokens));
    }
    let counted = &chunks.last().unwrap()["usage"];
    assert_eq!(counted["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    assert_eq!(counted["completion_tokens"], 36);
}

#[test]
fn tokens_of_a_stop_text_are_no_part_of_an_answer() {
    let server = Server::ember();
    let mut wanted = body(json!("Once upon"));
    wanted["max_tokens"] = 20.into();
    let plain =
        server.post("/v1/completions", &wanted).good()["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop = plain.split(' ').nth(4).unwrap();
    wanted["stop"] = json!(format!(" {stop}"));
    wanted["logprobs"] = 1.into();
    let choice = server.post("/v1/completions", &wanted).good()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "stop");
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    let said: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert!(!said.is_empty() && choice["text"] == said, "{choice}");
    wanted["stream"] = true.into();
    let chunks = server.post("/v1/completions", &wanted).chunks();
    assert_eq!(streamed(&chunks, 0), (said, tokens.clone()));
}

#[test]
fn a_model_answers_to_its_other_names() {
    let server = Server::start(&["ember", "--alias", "gpt-4o", "--alias", "small"]);
    assert_eq!(server.get("/v1/models").good()["data"][0]["aliases"], json!(["gpt-4o", "small"]));
    for name in ["ember", "gpt-4o", "small"] {
        let named = json!({"model": name, "messages": user("hi"), "max_tokens": 1});
        assert_eq!(server.chat(&named).good()["model"], "ember");
        assert_eq!(server.get(&format!("/v1/models/{name}")).good()["id"], "ember");
    }
}

#[test]
fn models_are_listed_and_found_by_name() {
    let server = Server::start(&["ember", "--name", "my/model"]);
    let list = server.get("/v1/models").good();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&"list".into(), &"my/model".into()));
    assert_eq!(server.get("/v1/models/my/model").good()["object"], "model");
    assert_eq!(server.get("/v1/models/other").error(404)["type"], "model_not_found");
    let named = json!({"model": "other", "messages": user("Hello")});
    assert!(server.chat(&named).error(404)["message"].as_str().unwrap().contains("my/model"));
}

#[test]
fn text_goes_to_tokens_and_back() {
    let server = Server::ember();
    let text = "Hello Wält 🦀";
    let tokens = server.post("/tokenize", &json!({"content": text})).good()["tokens"].clone();
    assert_eq!(server.post("/detokenize", &json!({"tokens": tokens})).good()["content"], text);
    let prompt = server.post("/apply-template", &json!({"messages": user("hi")})).good()["prompt"].clone();
    assert!(
        prompt.as_str().unwrap().contains("hi") && prompt.as_str().unwrap().ends_with("assistant\n"),
        "{prompt}"
    );
}

#[test]
fn a_model_that_is_not_made_for_it_makes_no_vectors() {
    let server = Server::ember();
    let error = server.post("/v1/embeddings", &json!({"input": "text"})).error(400);
    assert!(error["message"].as_str().unwrap().contains("embeddings"), "{error}");
}

#[test]
fn texts_become_vectors_in_their_order_in_either_encoding() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../ingle-cpu/tests/fixtures/qwen3_embedding");
    let server = Server::start(&[model]);
    let embed = |body: Value| server.post("/v1/embeddings", &body).good();
    let answer = embed(json!({"input": ["a", "b", "a"]}));
    let vector = |at: usize| answer["data"][at]["embedding"].clone();
    assert!(vector(0) == vector(2) && vector(0) != vector(1));
    let length: f64 = vector(0).as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-4, "{length}");
    assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
    let coded = embed(json!({"input": "a", "encoding_format": "base64"}));
    let coded = coded["data"][0]["embedding"].as_str().unwrap().len();
    assert_eq!(coded, (vector(0).as_array().unwrap().len() * 4).div_ceil(3) * 4);
    let ids = server.post("/tokenize", &json!({"content": "a b"})).good()["tokens"].clone();
    let (text, tokens) = (embed(json!({"input": "a b"})), embed(json!({"input": [ids]})));
    assert_eq!(text["data"], tokens["data"]);
    assert!(tokens.get("warnings").is_none());
    for input in [json!([]), json!(7), json!([["x"]]), json!([{"a": 1}])] {
        server.post("/v1/embeddings", &json!({"input": input})).error(400);
    }
}
