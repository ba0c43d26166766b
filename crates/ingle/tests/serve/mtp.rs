//! A model's own block guesses under `--mtp`.

#[path = "../../../ingle-engine/tests/made/mod.rs"]
mod made;

use super::Server;
use serde_json::json;

#[test]
fn a_model_with_a_block_of_its_own_says_the_same_sooner() {
    let file = made::written(&made::counting("qwen3_next"), "counting.gguf");
    let file = file.to_str().unwrap();
    let body = json!({"prompt": [100], "max_tokens": 40, "temperature": 0});
    let counts = |args: &[&str]| {
        let server = Server::start(args);
        let answer = server.post("/v1/completions", &body).good();
        let text = answer["choices"][0]["text"].as_str().unwrap().to_owned();
        let steps = server.metric("ingle_steps_total");
        (text, steps, server.metric("ingle_right_drafts_total"))
    };
    let (expected, steps, drafts) = counts(&[file]);
    assert_eq!((steps, drafts), (40.0, 0.0));
    let (said, fewer, drafts) = counts(&[file, "--mtp"]);
    assert_eq!(said, expected);
    assert!(fewer < steps && drafts > 0.0, "{fewer} steps, {drafts} right guesses");
}
