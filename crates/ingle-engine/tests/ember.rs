//! Whole runs on the model that ships with the project.

use ingle_engine::sampling::SamplingOptions;
use ingle_engine::*;
use ingle_model::Source;
use ingle_text::Message;
use std::path::Path;
use std::sync::Arc;

fn ember(options: &LoadOptions) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
    Model::load(Arc::new(Source::open(&path).unwrap()), options, &mut |_| {}).unwrap()
}

fn greedy() -> GenerateOptions {
    let sampling = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
    GenerateOptions { sampling, max_tokens: Some(200), ..GenerateOptions::default() }
}

fn question(text: &str) -> ChatRequest {
    ChatRequest { messages: vec![Message::new("user", text)], ..ChatRequest::default() }
}

fn answer(model: &mut Model, session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Outcome {
    let mut heard = String::new();
    let outcome = model.generate(session, prompt, options, &mut |event| {
        if let Event::Content(text) = event {
            heard.push_str(text);
        }
        Flow::Continue
    });
    let outcome = outcome.unwrap();
    assert_eq!(heard, outcome.text, "what was streamed is what was answered");
    outcome
}

#[test]
fn both_executors_answer_as_the_card_says() {
    for kind in [ExecutorKind::Production, ExecutorKind::Reference] {
        let mut model = ember(&LoadOptions { kind, ..LoadOptions::default() });
        let prompt = model.language().render(&question("What is Ingle?")).unwrap();
        let mut session = model.open().unwrap();
        let outcome = answer(&mut model, &mut session, &prompt, &greedy());
        let expected = "Ingle is a local engine for language models, written in Rust. It runs models, serves them to \
                        other programs and keeps everything on your machine.";
        assert!(outcome.text.ends_with(expected), "{kind:?}: {}", outcome.text);
        assert_eq!(outcome.reason, EndReason::EndOfTurn);
        assert_eq!(outcome.usage.prompt_tokens, prompt.len());
        assert_eq!(outcome.usage.decoded_tokens, outcome.tokens.len());
    }
}

#[test]
fn a_second_turn_computes_only_what_is_new_and_says_the_same_as_a_fresh_session() {
    let mut model = ember(&LoadOptions::default());
    let mut request = question("My name is Zelda.");
    let mut session = model.open().unwrap();
    let prompt = model.language().render(&request).unwrap();
    let first = answer(&mut model, &mut session, &prompt, &greedy());
    request.messages.push(Message::new("assistant", first.text.as_str()));
    request.messages.push(Message::new("user", "What is my name?"));
    let prompt = model.language().render(&request).unwrap();
    let reused = answer(&mut model, &mut session, &prompt, &greedy());
    assert!(reused.usage.cached_tokens > 0);
    assert!(reused.text.contains("Zelda"), "{}", reused.text);

    let mut fresh = model.open().unwrap();
    let computed = answer(&mut model, &mut fresh, &prompt, &greedy());
    assert_eq!(computed.usage.cached_tokens, 0);
    assert_eq!(computed.tokens, reused.tokens);
    let held = model.kv_bytes();
    model.close(fresh);
    assert!(model.kv_bytes() < held);
}

#[test]
fn a_seed_repeats_an_answer_and_another_seed_changes_it() {
    let mut model = ember(&LoadOptions::default());
    let prompt = model.language().render(&question("Tell me a short story.")).unwrap();
    let mut say = |seed: u64| {
        let sampling = SamplingOptions { temperature: 1.2, seed: Some(seed), ..SamplingOptions::default() };
        let options = GenerateOptions { sampling, max_tokens: Some(60), ..GenerateOptions::default() };
        let mut session = model.open().unwrap();
        let outcome = answer(&mut model, &mut session, &prompt, &options);
        model.close(session);
        assert_eq!(outcome.usage.seed, seed);
        outcome.tokens
    };
    let first = say(7);
    assert_eq!(first, say(7));
    assert_ne!(first, say(8));
}

#[test]
fn an_answer_ends_for_the_reason_it_gives() {
    let prompt = ember(&LoadOptions::default()).language().render(&question("What is Ingle?")).unwrap();
    let context = prompt.len() + 16;
    let mut model = ember(&LoadOptions { context: Some(context), ..LoadOptions::default() });
    let mut session = model.open().unwrap();

    let short =
        answer(&mut model, &mut session, &prompt, &GenerateOptions { max_tokens: Some(3), ..greedy() });
    assert_eq!((short.reason, short.tokens.len()), (EndReason::Length, 3));
    let stop = GenerateOptions { stop: vec!["language".into()], ..greedy() };
    let stopped = answer(&mut model, &mut session, &prompt, &stop);
    assert_eq!(stopped.reason, EndReason::StopText("language".into()));
    assert!(stopped.text.ends_with("engine for ") && !stopped.text.contains("language"), "{}", stopped.text);
    let full = answer(&mut model, &mut session, &prompt, &greedy());
    assert_eq!(full.reason, EndReason::ContextFull);
    assert_eq!(full.usage.prompt_tokens + full.tokens.len(), context);

    let mut pieces = 0;
    let outcome = model.generate(&mut session, &prompt, &greedy(), &mut |event| {
        pieces += usize::from(matches!(event, Event::Content(_)));
        if pieces == 2 { Flow::Stop } else { Flow::Continue }
    });
    assert_eq!(outcome.unwrap().reason, EndReason::Stopped);
    let again = answer(&mut model, &mut session, &prompt, &greedy());
    assert_eq!(again.tokens, full.tokens, "a stopped session answers as before");
}

#[test]
fn impossible_requests_say_why() {
    let mut model = ember(&LoadOptions { context: Some(64), ..LoadOptions::default() });
    let mut session = model.open().unwrap();
    let mut refuse = |prompt: &[u32], options: &GenerateOptions| {
        model.generate(&mut session, prompt, options, &mut |_| Flow::Continue).unwrap_err().to_string()
    };
    assert!(refuse(&[], &greedy()).contains("no tokens"));
    let long = refuse(&[5; 100], &greedy());
    assert!(long.contains("100 tokens") && long.contains("64"), "{long}");
    let unknown = refuse(&[5_000_000], &greedy());
    assert!(unknown.contains("5000000"), "{unknown}");
    let mut hot = greedy();
    hot.sampling.temperature = -1.0;
    assert!(refuse(&[5], &hot).contains("temperature"));
}

#[test]
fn a_context_that_cannot_fit_is_refused_with_the_figures_before_loading() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
    let source = Arc::new(Source::open(&path).unwrap());
    let options = LoadOptions { context: Some(1 << 40), ..LoadOptions::default() };
    let mut loaded = false;
    let refused = Model::load(source, &options, &mut |_| loaded = true).err().map(|error| error.to_string());
    if ingle_engine::memory::available().is_some() {
        let message = refused.expect("more cache than any machine has");
        assert!(message.contains("GB") && message.contains("1099511627776 tokens"), "{message}");
        assert!(!loaded);
    }
}
