//! A changed prompt goes back in the cache of every kind of mixer and answers as a fresh session does.

use ingle_engine::{Flow, GenerateOptions, LoadOptions, Model};
use ingle_model::Source;
use std::path::Path;
use std::sync::Arc;

fn load(name: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingle-cpu/tests/fixtures/gguf").join(name);
    let options = LoadOptions { threads: 2, context: Some(512), ..LoadOptions::default() };
    Model::load(Arc::new(Source::open(&path).unwrap()), &options, &mut |_| {}).unwrap()
}

fn some_tokens(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|at| (at * 7919 + seed * 31) % 256).collect()
}

#[test]
fn windows_latents_and_recurrent_states_answer_a_changed_prompt_as_if_it_were_the_first() {
    for name in ["qwen3_next.gguf", "gemma3_text.gguf", "deepseek_v3.gguf", "gpt_oss.gguf"] {
        let mut model = load(name);
        let mut options = GenerateOptions { max_tokens: Some(6), ..GenerateOptions::default() };
        options.sampling.temperature = 0.0;
        // the second prompt shares 150 tokens with the first and then differs; the third goes back further
        let first = some_tokens(1, 200);
        let second = [&first[..150], &some_tokens(2, 40)].concat();
        let third = [&first[..20], &some_tokens(3, 90)].concat();
        let mut talked = model.open().unwrap();
        for prompt in [&first, &second, &third, &first] {
            let answer = |model: &mut Model, session: &mut _| {
                model.generate(session, prompt, &options, &mut |_| Flow::Continue).unwrap().tokens
            };
            let later = answer(&mut model, &mut talked);
            let mut fresh = model.open().unwrap();
            assert_eq!(later, answer(&mut model, &mut fresh), "{name}");
            model.close(fresh);
        }
    }
}
