//! A fact told early in a long prompt is found at its end: what a kernel that is wrong only for some sizes, some
//! positions or some splits of the prompt would break.
//!
//! Ember was trained to find a pass key among filler, and by its card always does within some 900 tokens.

use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_engine::sampling::SamplingOptions;
use ingle_engine::*;
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::{Source, families};
use ingle_text::Message;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILLER: [&str; 5] =
    ["The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again."];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf")
}

fn load(options: &LoadOptions) -> Model {
    Model::load(Arc::new(Source::open(&path()).unwrap()), options, &mut |_| {}).unwrap()
}

/// A question whose answer stands at the beginning, with so many lines of filler between.
fn question(code: u32, lines: usize) -> ChatRequest {
    let filler = vec![FILLER.join(" "); lines].join(" ");
    let text = format!(
        "There is important information hidden in this text. Find it.\nThe pass key is {code}. Remember it. {code} is \
         the pass key. {filler}\nWhat is the pass key?"
    );
    ChatRequest { messages: vec![Message::new("user", text)], ..ChatRequest::default() }
}

/// Codes without a pattern.
fn code(lines: usize) -> u32 {
    10_000 + (lines as u32).wrapping_mul(48_271) % 90_000
}

/// Lines of filler at which Ember itself copies a digit wrongly, in exact arithmetic too.
const STUMBLES: [usize; 2] = [23, 33];

/// Greedy answers at every number of lines, and the longest prompt.
fn answers(options: &LoadOptions, lines: &[usize]) -> (Vec<String>, usize) {
    let mut model = load(options);
    let sampling = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
    let generate = GenerateOptions { sampling, max_tokens: Some(24), ..GenerateOptions::default() };
    let mut longest = 0;
    let answers = lines.iter().map(|&lines| {
        let prompt = model.language().render(&question(code(lines), lines)).unwrap();
        longest = longest.max(prompt.len());
        let mut session = model.open().unwrap();
        let outcome = model.generate(&mut session, &prompt, &generate, &mut |_| Flow::Continue).unwrap();
        model.close(session);
        outcome.text
    });
    (answers.collect(), longest)
}

#[test]
fn a_fact_told_early_is_found_at_the_end_of_prompts_of_every_length() {
    let lines: Vec<usize> = (1..=36).filter(|lines| !STUMBLES.contains(lines)).collect();
    let (answers, longest) = answers(&LoadOptions::default(), &lines);
    assert!(longest > 900, "{longest}");
    for (lines, answer) in lines.into_iter().zip(answers) {
        assert!(answer.contains(&code(lines).to_string()), "{lines} lines: {answer:?}");
    }
}

#[test]
fn every_instruction_set_answers_as_the_reference() {
    let lines = [2, 9, 17, STUMBLES[0]];
    let reference = LoadOptions { kind: ExecutorKind::Reference, ..LoadOptions::default() };
    let (expected, _) = answers(&reference, &lines);
    for (lines, answer) in lines.into_iter().zip(&expected) {
        let stumbles = STUMBLES.contains(&lines);
        assert_ne!(answer.contains(&code(lines).to_string()), stumbles, "{lines} lines: {answer:?}");
    }
    for isa in Isa::ALL.into_iter().filter(|&isa| Kernels::for_isa(isa).is_some()) {
        let options = LoadOptions { isa: Some(isa), ..LoadOptions::default() };
        assert_eq!(answers(&options, &lines).0, expected, "{}", isa.name());
    }
}

fn production(threads: usize) -> Production {
    let source = Arc::new(Source::open(&path()).unwrap());
    let spec = families::describe(&source).unwrap();
    Production::load(spec, source, Cpu::new(threads), &mut |_| {}).unwrap()
}

/// Feeds tokens to a sequence in chunks of at most `rows`, and gives the logits of the last one.
fn feed(executor: &mut dyn Executor, sequence: SequenceId, tokens: &[u32], rows: usize) -> Vec<f32> {
    let mut output = StepOutput::default();
    for tokens in tokens.chunks(rows) {
        let slices = [Slice { sequence, tokens, logits: LogitRows::Last }];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    }
    output.logits
}

fn most_likely(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}

/// `sum (a - b)^2 / sum b^2`
fn error(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let differences: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    differences / b.iter().map(|&b| square(b)).sum::<f64>()
}

#[test]
fn however_a_prompt_is_split_the_fact_is_found_and_the_logits_are_those_of_single_tokens() {
    let mut executor = production(2);
    let model = load(&LoadOptions::default());
    let (code, prompt) = (code(20), model.language().render(&question(code(20), 20)).unwrap());
    let mut sequence = executor.open(prompt.len() + 16).unwrap();
    let single = feed(&mut executor, sequence, &prompt, 1);
    for rows in [2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 200, 256, 511, 4096] {
        executor.close(sequence);
        sequence = executor.open(prompt.len() + 16).unwrap();
        let mut logits = feed(&mut executor, sequence, &prompt, rows);
        let error = error(&logits, &single);
        assert!(error < 1e-3, "{rows} rows at once: {error:e}");
        let mut answer = Vec::new();
        for _ in 0..16 {
            answer.push(most_likely(&logits));
            logits = feed(&mut executor, sequence, &answer[answer.len() - 1..], 1);
        }
        let text = model.language().tokenizer().decode(&answer).unwrap();
        assert!(text.contains(&code.to_string()), "{rows} rows at once: {text:?}");
    }
}

/// The whole prompt at once against a token at a time, at every length around the sizes of tiles and pages and at many
/// beyond, and each against the exact reference at some.
#[test]
fn prompts_of_every_length_at_once_are_as_a_token_at_a_time() {
    let tokens: Vec<u32> = (0..600u32).map(|at| (at * 7919 + 13) % 2000).collect();
    let mut executor = production(2);
    let sequence = executor.open(tokens.len()).unwrap();
    let single: Vec<Vec<f32>> =
        tokens.iter().map(|&token| feed(&mut executor, sequence, &[token], 1)).collect();
    executor.close(sequence);
    let source = Arc::new(Source::open(&path()).unwrap());
    let mut reference = Reference::load(families::describe(&source).unwrap(), source).unwrap();
    let exact = reference.open(tokens.len()).unwrap();
    let exact: Vec<Vec<f32>> =
        tokens[..200].iter().map(|&token| feed(&mut reference, exact, &[token], 1)).collect();
    let lengths = (1..=130).chain((131..=600).step_by(13)).chain([255, 256, 257, 511, 512, 513]);
    let (mut worst, mut worst_exact) = (0f64, 0f64);
    for length in lengths {
        let sequence = executor.open(length).unwrap();
        let at_once = feed(&mut executor, sequence, &tokens[..length], length);
        executor.close(sequence);
        worst = worst.max(error(&at_once, &single[length - 1]));
        assert!(worst < 1e-3, "{length} tokens: {worst:e}");
        if let Some(exact) = exact.get(length - 1) {
            worst_exact = worst_exact.max(error(&at_once, exact));
            assert!(worst_exact < 1e-2, "{length} tokens beside the reference: {worst_exact:e}");
        }
    }
    println!("at most {worst:e} from single tokens, {worst_exact:e} from the reference");
}
