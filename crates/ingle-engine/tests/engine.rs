//! Many requests at once give what each of them gives alone.

use ingle_engine::engine::{EngineOptions, OnEvent, Request, Status};
use ingle_engine::sampling::SamplingOptions;
use ingle_engine::{
    ChatRequest, EmbedOptions, EndReason, Engine, EngineError, Event, Flow, GenerateOptions, Guess,
    LoadOptions, Model, Outcome, Reading,
};
use ingle_model::Source;
use ingle_model::spec::KvFormat;
use ingle_text::Message;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(120);

fn load(context: usize) -> Model {
    load_with(&LoadOptions { context: Some(context), ..LoadOptions::default() })
}

fn load_with(options: &LoadOptions) -> Model {
    load_file("models/ember/ember-q8_0.gguf", options)
}

fn load_file(name: &str, options: &LoadOptions) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    Model::load(Arc::new(Source::open(&path).unwrap()), options, &mut |_| {}).unwrap()
}

fn engine(options: &EngineOptions) -> Engine {
    Engine::start(load(1024), options)
}

fn options(seed: u64, most: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingOptions {
            temperature: 0.9,
            top_k: 50,
            seed: Some(seed),
            ..SamplingOptions::default()
        },
        max_tokens: Some(most),
        reading: Reading::Message { tools: Vec::new() },
        ..GenerateOptions::default()
    }
}

fn prompt(engine: &Engine, text: &str) -> Vec<u32> {
    let messages = vec![Message::new("user", text)];
    engine.language().render(&ChatRequest { messages, ..ChatRequest::default() }).unwrap()
}

/// A request under way: its end, and how many events it had so far.
struct Asked {
    end: Receiver<Result<Outcome, EngineError>>,
    text: Receiver<String>,
    ticket: Option<ingle_engine::Ticket>,
}

impl Asked {
    fn outcome(&self) -> Result<Outcome, EngineError> {
        self.end.recv_timeout(PATIENCE).expect("an end is told")
    }
}

fn ask(engine: &Engine, request: Request) -> Asked {
    let (told, end) = mpsc::channel();
    let (said, text) = mpsc::channel();
    let on_event = Box::new(move |event: Event| {
        if let Event::Content(piece) = event {
            _ = said.send(piece.to_owned());
        }
        Flow::Continue
    });
    let on_end = Box::new(move |outcome| _ = told.send(outcome));
    let ticket = engine.submit(request, on_event, on_end).unwrap();
    Asked { end, text, ticket: Some(ticket) }
}

fn request(engine: &Engine, text: &str, seed: u64, most: usize) -> Request {
    Request { prompt: prompt(engine, text), options: options(seed, most), ..Request::default() }
}

/// An answer that the model does not end by itself.
fn endless(engine: &Engine, seed: u64, most: Option<usize>) -> Request {
    let mut request = request(engine, TEXTS[1], seed, 0);
    request.options.max_tokens = most;
    let ends = engine.language().tokenizer().end_of_generation();
    request.options.sampling.logit_bias = ends.iter().map(|&id| (id, -1e9)).collect();
    request
}

fn until(engine: &Engine, what: &str, reached: impl Fn(&Status) -> bool) {
    let started = Instant::now();
    while !reached(&engine.status()) {
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", engine.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

const TEXTS: [&str; 6] = [
    "What is Ingle?",
    "Tell me a story about a lighthouse and a very old cat.",
    "Hello!",
    "Name three colours, and say for each of them where in nature it is found and why that is so, please.",
    "What is Ingle? Say it in one sentence.",
    "Count to ten.",
];

#[test]
fn answers_are_the_same_alone_and_together() {
    let alone = engine(&EngineOptions { at_once: 1, ..EngineOptions::default() });
    let solo: Vec<Outcome> = (0..24)
        .map(|at| ask(&alone, request(&alone, TEXTS[at % 6], at as u64 / 6, 20 + at)).outcome().unwrap())
        .collect();
    let together = engine(&EngineOptions::default());
    let asked: Vec<Asked> =
        (0..24).map(|at| ask(&together, request(&together, TEXTS[at % 6], at as u64 / 6, 20 + at))).collect();
    for (at, (asked, solo)) in asked.iter().zip(&solo).enumerate() {
        let outcome = asked.outcome().unwrap();
        assert_eq!((&outcome.tokens, &outcome.reason), (&solo.tokens, &solo.reason), "request {at}");
        assert_eq!(asked.text.try_iter().collect::<String>(), solo.text, "request {at}");
        assert_eq!(outcome.usage.prompt_tokens, solo.usage.prompt_tokens);
    }
    let status = together.status();
    assert!(
        status.steps < alone.status().steps / 2,
        "{} steps for what takes {}",
        status.steps,
        alone.status().steps
    );
    // and as the model answers without an engine
    let mut model = load(1024);
    let mut session = model.open().unwrap();
    let prompt = prompt(&together, TEXTS[1]);
    let outcome = model.generate(&mut session, &prompt, &options(0, 21), &mut |_| Flow::Continue).unwrap();
    assert_eq!(outcome.tokens, solo[1].tokens);
}

#[test]
fn what_a_conversation_has_cached_is_not_computed_again() {
    let engine = engine(&EngineOptions::default());
    let first = request(&engine, "Tell me about the sea.", 1, 30);
    let outcome = ask(&engine, first.clone()).outcome().unwrap();
    assert_eq!(outcome.usage.cached_tokens, 0);
    let again = ask(&engine, first.clone()).outcome().unwrap();
    assert_eq!(
        again.usage.cached_tokens,
        first.prompt.len() - 1,
        "all but the token whose logits are wanted"
    );
    assert_eq!(again.tokens, outcome.tokens);
    // the next turn goes on from the answer
    let mut next = first.clone();
    next.prompt.extend(&outcome.tokens);
    let before = next.prompt.len();
    next.prompt
        .extend(engine.language().tokenizer().encode(" And then?", ingle_text::Specials::AsText).unwrap());
    let second = ask(&engine, next.clone()).outcome().unwrap();
    assert!(second.usage.cached_tokens >= before - 1, "{:?} of {before}", second.usage);
    // and a fresh engine gives the same without a cache
    let fresh = self::engine(&EngineOptions::default());
    assert_eq!(ask(&fresh, next).outcome().unwrap().tokens, second.tokens);
}

#[test]
fn requests_that_begin_alike_at_the_same_time_are_computed_once() {
    let engine = engine(&EngineOptions::default());
    let text = "a long beginning ".repeat(60);
    let asked: Vec<Asked> = (0..5).map(|seed| ask(&engine, request(&engine, &text, seed, 5))).collect();
    let outcomes: Vec<Outcome> = asked.iter().map(|asked| asked.outcome().unwrap()).collect();
    let computed: usize =
        outcomes.iter().map(|outcome| outcome.usage.prompt_tokens - outcome.usage.cached_tokens).sum();
    let prompt = outcomes[0].usage.prompt_tokens;
    assert!(prompt > 200 && computed < prompt + 5 * 8, "{computed} of {prompt} tokens five times");
}

#[test]
fn whoever_leaves_frees_their_place_and_harms_nobody() {
    let engine = engine(&EngineOptions { at_once: 2, ..EngineOptions::default() });
    let solo = ask(&engine, request(&engine, TEXTS[3], 7, 60)).outcome().unwrap();
    let mut leaving: Vec<Asked> = (0..6).map(|seed| ask(&engine, endless(&engine, seed, None))).collect();
    let staying = ask(&engine, request(&engine, TEXTS[3], 7, 60));
    until(&engine, "two are running", |status| status.running == 2);
    for asked in &mut leaving {
        drop(asked.ticket.take());
    }
    assert_eq!(staying.outcome().unwrap().tokens, solo.tokens);
    for asked in &leaving {
        assert_eq!(asked.outcome().unwrap().reason, EndReason::Stopped);
    }
    until(&engine, "nobody is left", |status| status.running == 0 && status.waiting == 0);
    assert_eq!(engine.status().cancelled, 6);
}

#[test]
fn answers_that_outgrow_the_memory_are_put_back_and_not_lost() {
    let whole = engine(&EngineOptions::default());
    let about = whole.about();
    // room for one full context and a little more
    let tight = EngineOptions {
        kv_bytes: Some(about.kv_bytes(1024) + about.kv_bytes(512)),
        ..EngineOptions::default()
    };
    let tight = engine(&tight);
    // no known end: room is given as it is needed
    let long = |engine: &Engine, seed| endless(engine, seed, None);
    let ask_all = |engine: &Engine| -> Vec<Vec<u32>> {
        let asked: Vec<Asked> = (0..3).map(|seed| ask(engine, long(engine, seed))).collect();
        asked.iter().map(|asked| asked.outcome().unwrap().tokens).collect()
    };
    let (expected, ours) = (ask_all(&whole), ask_all(&tight));
    assert!(
        expected.iter().all(|tokens| tokens.len() > 900),
        "{:?}",
        expected.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert!(ours == expected);
    assert!(tight.status().put_back > 0, "{:?}", tight.status());
    assert_eq!(whole.status().put_back, 0);
}

#[test]
fn clients_share_and_importance_counts() {
    let engine = engine(&EngineOptions { at_once: 1, ..EngineOptions::default() });
    let (told, ended) = mpsc::channel();
    let submit = |client: &'static str, priority: i32, on_event: OnEvent| {
        let told = told.clone();
        let request = Request { client: client.into(), priority, ..endless(&engine, 1, Some(10)) };
        let on_end = Box::new(move |_| _ = told.send((client, priority)));
        engine.submit(request, on_event, on_end).unwrap().leave();
    };
    // the first keeps the only place while the others come
    let (all_came, wait) = mpsc::channel::<()>();
    let waits = move |_: Event| {
        _ = wait.recv();
        Flow::Continue
    };
    submit("greedy", 0, Box::new(waits));
    (0..5).for_each(|_| submit("greedy", 0, Box::new(|_| Flow::Continue)));
    submit("modest", 0, Box::new(|_| Flow::Continue));
    submit("greedy", 9, Box::new(|_| Flow::Continue));
    drop(all_came);
    let order: Vec<(&str, i32)> = (0..8).map(|_| ended.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(order[0], ("greedy", 0));
    assert_eq!(order[1], ("greedy", 9), "{order:?}");
    assert_eq!(order[2], ("modest", 0), "{order:?}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_computed() {
    let engine = engine(&EngineOptions { at_once: 1, waiting: 2, ..EngineOptions::default() });
    let refused = |request: Request| {
        engine.submit(request, Box::new(|_| Flow::Continue), Box::new(|_| ())).map(Ticket::leave).unwrap_err()
    };
    use ingle_engine::Ticket;
    assert!(matches!(refused(Request::default()), EngineError::EmptyPrompt));
    let long = Request { prompt: vec![5; 1024], ..Request::default() };
    assert!(matches!(refused(long), EngineError::PromptTooLong { prompt: 1024, context: 1024 }));
    let mut odd = request(&engine, "Hello", 1, 1);
    odd.options.sampling.top_p = 7.0;
    assert!(matches!(refused(odd), EngineError::Sampling(_)));
    let _first = ask(&engine, endless(&engine, 1, None));
    until(&engine, "it has begun", |status| status.running == 1);
    let _more =
        [ask(&engine, request(&engine, TEXTS[1], 1, 9)), ask(&engine, request(&engine, TEXTS[1], 1, 9))];
    assert!(matches!(refused(request(&engine, TEXTS[1], 1, 9)), EngineError::QueueFull { waiting: 2 }));
}

#[test]
fn nothing_is_held_for_those_who_are_gone() {
    let engine = engine(&EngineOptions { kv_bytes: Some(1), ..EngineOptions::default() });
    for round in 0..30 {
        let asked: Vec<Asked> = (0..4)
            .map(|at| ask(&engine, request(&engine, &format!("{round} {at} {}", TEXTS[at]), 1, 30)))
            .collect();
        asked.iter().for_each(|asked| _ = asked.outcome().unwrap());
    }
    engine.drain();
    let status = engine.status();
    // at least a full context is allowed, and kept; no more than that
    assert!(status.kv_bytes <= status.kv_budget && status.kept > 0, "{status:?}");
    assert_eq!((status.finished, status.running, status.waiting), (120, 0, 0));
}

#[test]
fn texts_are_embedded_while_answers_are_made() {
    let engine = engine(&EngineOptions::default());
    let asked = ask(&engine, request(&engine, TEXTS[1], 1, 100));
    let texts: Vec<String> = (0..20).map(|at| format!("text {at}")).collect();
    let options = EmbedOptions { row: Some(ingle_model::spec::PooledRow::Mean), ..EmbedOptions::default() };
    let embeddings = engine.embed(texts.clone(), options.clone()).unwrap();
    assert_eq!(embeddings.len(), 20);
    assert_eq!(
        engine.embed(texts[13..14].to_vec(), options.clone()).unwrap()[0].values,
        embeddings[13].values
    );
    let long = engine.embed(vec!["a".into(), "long ".repeat(5000)], options);
    assert!(matches!(long, Err(EngineError::TextTooLong { number: 2, .. })), "{long:?}");
    asked.outcome().unwrap();
}

#[test]
fn logprobs_are_told_for_every_token() {
    let engine = engine(&EngineOptions::default());
    let (told, chosen) = mpsc::channel();
    let mut request = request(&engine, TEXTS[0], 3, 12);
    request.options.logprobs = Some(4);
    let on_event = Box::new(move |event: Event| {
        if let Event::Chosen(token, logprobs) = event {
            _ = told.send((token, logprobs.clone()));
        }
        Flow::Continue
    });
    let (end, ended) = mpsc::channel();
    let on_end = Box::new(move |outcome: Result<Outcome, EngineError>| _ = end.send(outcome));
    engine.submit(request, on_event, on_end).unwrap().leave();
    let outcome = ended.recv_timeout(PATIENCE).unwrap().unwrap();
    let chosen: Vec<_> = chosen.iter().collect();
    assert_eq!(chosen.iter().map(|(token, _)| *token).collect::<Vec<_>>(), outcome.tokens);
    assert!(chosen.iter().all(|(_, logprobs)| logprobs.chosen <= 0.0 && logprobs.top.len() == 4));
}

#[test]
fn guessing_ahead_changes_nothing_but_the_number_of_steps() {
    let text = "The old cat sat by the lamp and looked at the sea. ".repeat(12);
    let all = |guess: Guess, at_once: usize| -> (Vec<Vec<u32>>, Status, Vec<Outcome>) {
        let engine = engine(&EngineOptions { guess, at_once, ..EngineOptions::default() });
        let mut requests: Vec<Request> = (0..4).map(|seed| endless(&engine, seed, Some(80))).collect();
        // text that goes on as it was before
        for request in &mut requests[2..] {
            request.prompt =
                engine.language().tokenizer().encode(&text, ingle_text::Specials::AsText).unwrap();
            request.options.sampling.temperature = 0.0;
        }
        let asked: Vec<Asked> = requests.into_iter().map(|request| ask(&engine, request)).collect();
        let outcomes: Vec<Outcome> = asked.iter().map(|asked| asked.outcome().unwrap()).collect();
        engine.drain();
        (outcomes.iter().map(|outcome| outcome.tokens.clone()).collect(), engine.status(), outcomes)
    };
    let (with, without, together) = (all(Guess::Always, 1), all(Guess::Never, 1), all(Guess::Worthwhile, 2));
    assert!(with.0 == without.0 && with.0 == together.0);
    assert_eq!(without.1.guessed_tokens, 0);
    // one after the other, every right guess saves a step
    let saved = with.1.right_guesses;
    assert!(saved > 0 && with.1.steps + saved == without.1.steps, "{:?}\n{:?}", with.1, without.1);
    let usage = with.2[3].usage;
    assert!(usage.right_guesses <= usage.guessed_tokens && usage.decoded_tokens == 80, "{usage:?}");
}

#[test]
fn a_cache_of_few_bits_takes_little_memory_and_says_much_the_same() {
    let run = |kv: KvFormat| {
        let model = load_with(&LoadOptions { context: Some(1024), kv, ..LoadOptions::default() });
        let engine = Engine::start(model, &EngineOptions::default());
        let mut request = request(&engine, TEXTS[0], 0, 24);
        request.options.sampling.temperature = 0.0;
        let outcome = ask(&engine, request).outcome().unwrap();
        engine.drain();
        (outcome.text, engine.status().kv_bytes, engine.about().kv_bytes(1024))
    };
    let (said, held, most) = run(KvFormat::Bits16);
    for (format, share) in [(KvFormat::Bits8, 0.6), (KvFormat::Bits4, 0.35)] {
        let (narrow_said, narrow_held, narrow_most) = run(format);
        // in 4 bits other words may come after a while
        let same = if format == KvFormat::Bits8 { said.len() } else { 20 };
        assert_eq!(narrow_said.get(..same), said.get(..same), "{format:?}");
        for (held, narrow) in [(held, narrow_held), (most, narrow_most)] {
            assert!((narrow as f64) < share * held as f64, "{narrow} and {held}");
        }
    }
}

/// Ember with the small model that was trained beside it.
fn with_draft(options: &EngineOptions) -> Engine {
    let load_options = LoadOptions { context: Some(1024), ..LoadOptions::default() };
    let draft = load_file("models/ember/ember-draft-q8_0.gguf", &load_options);
    Engine::start_with_draft(load(1024), draft, options).unwrap()
}

#[test]
fn a_draft_model_changes_nothing_but_the_number_of_steps() {
    let all = |engine: Engine| -> (Vec<Vec<u32>>, Status) {
        // greedy and by chance, short and long
        let mut requests: Vec<Request> = (0..4).map(|seed| endless(&engine, seed, Some(80))).collect();
        requests[0].options.sampling.temperature = 0.0;
        requests.push(request(&engine, "What is Ingle?", 1, 40));
        requests.push(request(&engine, &"Tell me more. ".repeat(60), 2, 40));
        let asked: Vec<Asked> = requests.into_iter().map(|request| ask(&engine, request)).collect();
        let tokens = asked.iter().map(|asked| asked.outcome().unwrap().tokens).collect();
        engine.drain();
        (tokens, engine.status())
    };
    let without = all(engine(&EngineOptions { guess: Guess::Never, at_once: 1, ..EngineOptions::default() }));
    for at_once in [1, 4] {
        let with =
            all(with_draft(&EngineOptions { at_once, guess: Guess::Always, ..EngineOptions::default() }));
        assert!(with.0 == without.0);
        let Status { drafted_tokens, right_drafts, steps, .. } = with.1;
        assert!(right_drafts > 100 && right_drafts * 3 > drafted_tokens, "{:?}", with.1);
        assert!(at_once > 1 || steps < without.1.steps, "{:?}\n{:?}", with.1, without.1);
    }
}

#[test]
fn a_draft_with_other_tokens_is_refused() {
    let load_options = LoadOptions { context: Some(64), ..LoadOptions::default() };
    let draft = load_file("crates/ingle-cpu/tests/fixtures/qwen3", &load_options);
    let refused = Engine::start_with_draft(load(1024), draft, &EngineOptions::default());
    assert!(matches!(refused, Err(EngineError::OtherTokens { .. })));
}
