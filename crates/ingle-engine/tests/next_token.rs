//! A model's own block guesses, and what is said stays the same.

mod made;

use ingle_engine::engine::{EngineOptions, Request, Status};
use ingle_engine::{Engine, EngineError, Flow, GenerateOptions, Guess, LoadOptions, Model, Outcome};
use ingle_model::Source;
use made::{counting, with_block, written};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Latent attention, which goes back as far as one likes, and delta nets, which cannot.
const MODELS: [&str; 2] = ["deepseek_v3", "qwen3_next"];
const PATIENCE: Duration = Duration::from_secs(60);

fn engine(file: &Path, next_token: bool) -> Engine {
    let options = LoadOptions { threads: 2, context: Some(512), next_token, ..LoadOptions::default() };
    let model = Model::load(Arc::new(Source::open(file).unwrap()), &options, &mut |_| {}).unwrap();
    Engine::start(model, &EngineOptions { guess: Guess::Always, ..EngineOptions::default() })
}

fn ask(
    engine: &Engine,
    prompt: &[u32],
    temperature: f32,
    most: usize,
) -> Receiver<Result<Outcome, EngineError>> {
    let mut options = GenerateOptions { max_tokens: Some(most), ..GenerateOptions::default() };
    options.sampling.temperature = temperature;
    options.sampling.seed = Some(u64::from(prompt[0]));
    let (told, end) = mpsc::channel();
    let request = Request { prompt: prompt.to_vec(), options, ..Request::default() };
    let on_end = Box::new(move |outcome| _ = told.send(outcome));
    engine.submit(request, Box::new(|_| Flow::Continue), on_end).unwrap().leave();
    end
}

fn tokens(end: &Receiver<Result<Outcome, EngineError>>) -> Vec<u32> {
    end.recv_timeout(PATIENCE).expect("an end is told").unwrap().tokens
}

fn alone(engine: &Engine, prompt: &[u32], temperature: f32, most: usize) -> (Vec<u32>, Status) {
    let before = engine.status();
    let said = tokens(&ask(engine, prompt, temperature, most));
    let after = engine.status();
    let spent = Status {
        steps: after.steps - before.steps,
        guessed_tokens: after.guessed_tokens - before.guessed_tokens,
        right_drafts: after.right_drafts - before.right_drafts,
        ..after
    };
    (said, spent)
}

#[test]
fn a_block_that_knows_halves_the_steps() {
    for model in MODELS {
        let file = written(&counting(model), &format!("counting-{model}.gguf"));
        let expected: Vec<u32> = (101..141).collect();
        let (said, without) = alone(&engine(&file, false), &[100], 0.0, 40);
        assert_eq!(said, expected, "{model}");
        assert_eq!((without.steps, without.guessed_tokens), (40, 0), "{model}");
        let engine = engine(&file, true);
        let (said, with) = alone(&engine, &[100], 0.0, 40);
        assert_eq!(said, expected, "{model}");
        // after the first step, which has nothing to guess from, two tokens a step
        assert!((20..=22).contains(&with.steps), "{model}: {} steps", with.steps);
        assert!(with.right_drafts >= 19, "{model}: {} right guesses", with.right_drafts);
        // a longer prompt, of which the block hears in pieces, and a second one that begins alike
        let prompt: Vec<u32> = (0..150).map(|at| at * 37 % 250).chain([60]).collect();
        let (said, with) = alone(&engine, &prompt, 0.0, 30);
        assert_eq!(said, (61..91).collect::<Vec<u32>>(), "{model}");
        assert!(with.steps <= 18, "{model}: {} steps", with.steps);
        let again: Vec<u32> = [&prompt[..], &[61, 62, 9]].concat();
        let (said, with) = alone(&engine, &again, 0.0, 30);
        assert_eq!(said, (10..40).collect::<Vec<u32>>(), "{model}");
        assert!(with.steps <= 18, "{model}: {} steps", with.steps);
    }
}

#[test]
fn wrong_guesses_of_a_block_change_nothing() {
    for model in MODELS {
        let file = written(&with_block(model), &format!("random-{model}.gguf"));
        let (with, without) = (engine(&file, true), engine(&file, false));
        let prompt = |seed: u32| (0..40 + seed).map(|at| (at * 7919 + seed * 31) % 256).collect::<Vec<u32>>();
        for temperature in [0.0, 0.8] {
            let mut wrong = 0;
            for seed in 1..4 {
                let (said, spent) = alone(&with, &prompt(seed), temperature, 24);
                wrong += spent.guessed_tokens - spent.right_drafts;
                // latent attention takes another form where rows are more, and rounds otherwise
                let same = said == alone(&without, &prompt(seed), temperature, 24).0;
                assert!(same, "{model}, temperature {temperature}, prompt {seed}");
            }
            assert!(wrong > 20, "{model}: {wrong} guesses were wrong");
        }
        // several at once, some of which begin alike
        let prompts: Vec<Vec<u32>> = (1..6).map(|seed| [&prompt(1)[..30], &prompt(seed)].concat()).collect();
        let ends: Vec<_> = prompts.iter().map(|prompt| ask(&with, prompt, 0.8, 24)).collect();
        for (prompt, end) in prompts.iter().zip(&ends) {
            assert_eq!(tokens(end), alone(&without, prompt, 0.8, 24).0, "{model}");
        }
        assert_eq!(with.status().running, 0);
    }
}

#[test]
fn a_model_without_a_block_says_so() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingle-cpu/tests/fixtures/gguf/qwen3.gguf");
    let options = LoadOptions { context: Some(64), next_token: true, ..LoadOptions::default() };
    let model = Model::load(Arc::new(Source::open(&file).unwrap()), &options, &mut |_| {}).unwrap();
    assert!(model.notices().iter().any(|notice| notice.contains("MTP")), "{:?}", model.notices());
}
