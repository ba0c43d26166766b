//! What guessing ahead brings: the same answers with and without it, in turns.
//!
//! Weights at hand may be random, and then say nothing that could be guessed. So the network is computed as it is, with
//! all it costs, and then one logit per row is set so that the answer becomes a given text: a source file with two names
//! changed (editing), and a summary of a page (summarising). How many guesses are right thus depends on texts as people
//! ask for them, and the time on the network.

use anyhow::{Context, Result, ensure};
use ingle_engine::sampling::SamplingOptions;
use ingle_engine::{
    Engine, EngineOptions, Flow, GenerateOptions, Guess, LoadOptions, Model, Outcome, Reading, Request,
};
use ingle_model::Source;
use ingle_model::executor::{Batch, CachedState, Executor, ExecutorError, SequenceId, StepOutput};
use ingle_model::spec::ModelSpec;
use ingle_text::Specials;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// What to measure.
pub struct Options<'a> {
    /// A GGUF file or a folder.
    pub model: &'a Path,
    /// A small model that guesses, too.
    pub draft: Option<&'a Path>,
    /// The model's own block guesses, too.
    pub mtp: bool,
    /// Share of the small model's or the block's guesses that are made right.
    pub right: f64,
    /// Threads; 0 takes the physical cores.
    pub threads: usize,
    /// Rounds of without and with.
    pub rounds: usize,
}

/// What is asked, and the answer that the network is made to give.
struct Task {
    name: &'static str,
    prompt: String,
    answer: String,
}

fn tasks() -> Vec<Task> {
    let code = include_str!("../../../crates/ingle-engine/src/engine/schedule.rs");
    let code: String = code.split_inclusive('\n').take(110).collect();
    let edited = code.replace("Portion", "Share").replace("seconds_per_row", "row_seconds");
    let page = include_str!("../../../ARCHITECTURE.md");
    let page: String = page.split_inclusive('\n').skip(4).take(42).collect();
    vec![
        Task {
            name: "editing",
            prompt: format!(
                "Rename `Portion` to `Share` and `seconds_per_row` to `row_seconds`; write the whole file.\n\n{code}\n\n"
            ),
            answer: edited,
        },
        Task {
            name: "summarising",
            prompt: format!("Summarise this page.\n\n{page}\n\n"),
            answer: include_str!("summary.txt").to_owned(),
        },
    ]
}

/// What every sequence is to become.
type Script = Arc<Mutex<Vec<u32>>>;

/// An executor whose logits are made to say what is in the script, sometimes.
struct Scripted {
    inner: Box<dyn Executor>,
    script: Script,
    /// Share of the rows that say it.
    right: f64,
    /// The same of its own block.
    right_ahead: f64,
    /// Length of the sequence that was changed last; there is one at a time.
    length: Arc<AtomicUsize>,
    /// A block's rows say the token after the next, wherever its own sequence began.
    ahead: bool,
}

impl Executor for Scripted {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }
    fn open(&mut self, context: usize) -> Result<SequenceId, ExecutorError> {
        self.inner.open(context)
    }
    fn fork(
        &mut self,
        sequence: SequenceId,
        length: usize,
        context: usize,
    ) -> Result<(SequenceId, usize), ExecutorError> {
        self.inner.fork(sequence, length, context)
    }
    fn close(&mut self, sequence: SequenceId) {
        self.inner.close(sequence);
    }
    fn next_token(&self) -> Result<Option<Box<dyn Executor>>, ExecutorError> {
        let block = self.inner.next_token()?;
        Ok(block.map(|inner| {
            let (script, length) = (self.script.clone(), self.length.clone());
            let right = self.right_ahead;
            Box::new(Scripted { inner, script, right, right_ahead: 0.0, length, ahead: true }) as _
        }))
    }
    fn length(&self, sequence: SequenceId) -> usize {
        self.inner.length(sequence)
    }
    fn truncate(&mut self, sequence: SequenceId, length: usize) -> Result<usize, ExecutorError> {
        let length = self.inner.truncate(sequence, length)?;
        self.length.store(length, Ordering::Relaxed);
        Ok(length)
    }
    fn step(&mut self, batch: &Batch, output: &mut StepOutput) -> Result<(), ExecutorError> {
        let positions: Vec<usize> = batch
            .slices
            .iter()
            .flat_map(|slice| {
                let first = self.inner.length(slice.sequence);
                first..first + slice.tokens.len()
            })
            .collect();
        self.inner.step(batch, output)?;
        if let (Some(last), false) = (positions.last(), self.ahead) {
            self.length.store(last + 1, Ordering::Relaxed);
        }
        let vocabulary = self.inner.spec().vocabulary;
        let script = self.script.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (row, logits) in batch.logit_rows().zip(output.logits.chunks_exact_mut(vocabulary)) {
            let at = if self.ahead { self.length.load(Ordering::Relaxed) } else { positions[row] };
            // spread evenly, and the same in every round
            let draw = (at as f64 * 0.618_033_988_749).fract();
            if let Some(&token) = script.get(at + 1) {
                let token =
                    if draw < self.right { token as usize } else { (token as usize + 1) % vocabulary };
                logits[token] = 1e9;
            }
        }
        Ok(())
    }
    fn state(&self, sequence: SequenceId, length: usize) -> Result<Box<dyn CachedState>, ExecutorError> {
        self.inner.state(sequence, length)
    }
    fn empty_state(&self) -> Result<Box<dyn CachedState>, ExecutorError> {
        self.inner.empty_state()
    }
    fn resume(&mut self, state: Box<dyn CachedState>, context: usize) -> Result<SequenceId, ExecutorError> {
        self.inner.resume(state, context)
    }
    fn weight_bytes(&self) -> u64 {
        self.inner.weight_bytes()
    }
    fn kv_bytes(&self) -> u64 {
        self.inner.kv_bytes()
    }
}

/// Measures, and prints a table.
///
/// # Errors
/// A model that cannot be loaded, and an answer that is not the script.
pub fn guess(options: &Options) -> Result<()> {
    let script = Script::default();
    let load = |path: &Path, right: f64, next_token: bool| -> Result<Model> {
        let load = LoadOptions {
            threads: options.threads,
            context: Some(8192),
            next_token,
            ..LoadOptions::default()
        };
        let source = Source::open(path).with_context(|| format!("cannot use {}", path.display()))?;
        let model = Model::load(Arc::new(source), &load, &mut |_| {})?;
        let (script, right_ahead, length) = (script.clone(), options.right, Arc::default());
        let model = model.with_executor(|inner| {
            Box::new(Scripted { inner, script, right, right_ahead, length, ahead: false })
        })?;
        Ok(model)
    };
    let engine = |guess: Guess| -> Result<Engine> {
        let engine = EngineOptions { guess, ..EngineOptions::default() };
        let model = load(options.model, 1.0, options.mtp && guess != Guess::Never)?;
        Ok(match options.draft.filter(|_| guess != Guess::Never) {
            None => Engine::start(model, &engine),
            Some(draft) => Engine::start_with_draft(model, load(draft, options.right, false)?, &engine)?,
        })
    };
    let (without, with) = (engine(Guess::Never)?, engine(Guess::Worthwhile)?);
    println!("| task | round | tokens | without t/s | with t/s | ratio | right of guessed |");
    println!("|---|---|---|---|---|---|---|");
    for Task { name, prompt, answer } in tasks() {
        let encode = |text: &str| without.language().tokenizer().encode(text, Specials::AsText);
        let (prompt, answer) = (encode(&prompt)?, encode(&answer)?);
        *script.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = [&prompt[..], &answer].concat();
        let mut ratios = Vec::new();
        for round in 1..=options.rounds {
            let slow = run(&without, &prompt, answer.len())?;
            let fast = run(&with, &prompt, answer.len())?;
            ensure!(
                slow.tokens == answer && fast.tokens == answer,
                "{name}: the answer is not what was wanted"
            );
            let rate = |outcome: &Outcome| {
                (outcome.usage.decoded_tokens - 1) as f64 / outcome.usage.decode_seconds.max(1e-9)
            };
            let (a, b) = (rate(&slow), rate(&fast));
            ratios.push(b / a);
            println!(
                "| {name} | {round} | {} | {a:.1} | {b:.1} | {:.2} | {} of {} |",
                answer.len(),
                b / a,
                fast.usage.right_guesses,
                fast.usage.guessed_tokens,
            );
        }
        ratios.sort_by(f64::total_cmp);
        println!("| {name} | median | | | | {:.2} | |", ratios[ratios.len() / 2]);
    }
    let status = with.status();
    if options.draft.is_some() || options.mtp {
        let (made, right) = (status.drafted_tokens, status.right_drafts);
        println!("the draft: {right} of {made} guesses right, {:.2} s", status.draft_seconds);
    }
    Ok(())
}

fn run(engine: &Engine, prompt: &[u32], tokens: usize) -> Result<Outcome> {
    let (end, ended) = mpsc::channel();
    let options = GenerateOptions {
        sampling: SamplingOptions { temperature: 0.0, ..SamplingOptions::default() },
        max_tokens: Some(tokens),
        reading: Reading::Text,
        ..GenerateOptions::default()
    };
    let request = Request { prompt: prompt.to_vec(), options, ..Request::default() };
    let on_end = Box::new(move |outcome| _ = end.send(outcome));
    engine.submit(request, Box::new(|_| Flow::Continue), on_end)?.leave();
    Ok(ended.recv()??)
}
