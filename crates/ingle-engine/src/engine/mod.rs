//! Many requests, one model: a thread that takes all of them through the network together, step by step.
//!
//! ```text
//! submit ──► waiting ──admit──► running ──► kept
//!               ▲  (fair, memory known) │       (what they cached, for prompts that begin alike)
//!               └──── put back ◄────────┘
//! ```
//!
//! A step takes one token of every answer in the making and a piece of a prompt (see [`schedule`]). What an answer says
//! does not depend on what is beside it: rows are computed to the same bits in any company (latent attention excepted,
//! whose form depends on how many rows a step has), and random numbers depend on seed and position alone.

mod disk;
mod draft;
mod drafter;
mod job;
mod kept;
mod reads;
mod runner;
mod schedule;

use crate::answer::Answer;
use crate::bench::step_bytes;
use crate::embed::{EmbedOptions, Embedding};
use crate::error::EngineError;
use crate::generate::{Event, Flow, GenerateOptions, Outcome};
use crate::language::Language;
use crate::memory;
use crate::model::Model;
pub use disk::{DiskStatus, PrefixFolder, Tell};
use drafter::Drafter;
use ingle_cpu::kernels::Kernels;
use ingle_cpu::{Cpu, Limits};
use ingle_model::Source;
use ingle_model::spec::{KvBytes, KvFormat, ModelSpec};
use job::Job;
use runner::Runner;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

/// How an engine runs.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Most answers in the making at a time.
    pub at_once: usize,
    /// Most requests that wait for their turn; further ones are refused.
    pub waiting: usize,
    /// Bytes for keys and values of all sequences, those kept for later included; `None` takes half of what is free, and
    /// always what one full context needs.
    pub kv_bytes: Option<u64>,
    /// Bytes of the free memory that were promised to others, and are not used yet.
    pub promised: u64,
    /// When tokens are guessed ahead; what is said stays the same.
    pub guess: Guess,
    /// Where what is kept for later goes when the memory gives it up or the engine ends, and is found again.
    pub prefixes: Option<PrefixFolder>,
}

/// When tokens are guessed ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guess {
    /// Never.
    Never,
    /// As long as it makes answers faster, as measured.
    #[default]
    Worthwhile,
    /// As if a row more cost nothing, to see how good the guesses are.
    Always,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            at_once: 16,
            waiting: 512,
            kv_bytes: None,
            promised: 0,
            guess: Guess::default(),
            prefixes: None,
        }
    }
}

/// Something to answer.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt's tokens, as by [`Language::render`] or the tokenizer.
    pub prompt: Vec<u32>,
    /// What is asked beside the prompt.
    pub options: GenerateOptions,
    /// Tell how likely each token of the prompt was, and how likely so many others were in its place; all of the prompt is
    /// computed then.
    pub prompt_logprobs: Option<usize>,
    /// Who asks: clients get equal shares of the model's time.
    pub client: String,
    /// Requests with a higher number go first.
    pub priority: i32,
}

/// Hears of an answer while it is made, on the engine's thread: it must not wait. [`Flow::Stop`] ends the answer.
pub type OnEvent = Box<dyn FnMut(Event) -> Flow + Send>;
/// Hears once how a request ended.
pub type OnEnd = Box<dyn FnOnce(Result<Outcome, EngineError>) + Send>;

/// Hears once what became of texts to embed.
pub type OnVectors = Box<dyn FnOnce(Result<Vec<Embedding>, EngineError>) + Send>;

/// A request that was taken. Dropping it cancels the request, and the memory is free at the next step.
#[derive(Debug)]
#[must_use]
pub struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// Lets the request go on to its end, whoever forgets it.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What an engine is doing, and has done since it was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Answers in the making.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Bytes of cache held now.
    pub kv_bytes: u64,
    /// Bytes of cache there may be.
    pub kv_budget: u64,
    /// Sequences kept for prompts that begin alike.
    pub kept: usize,
    /// Requests that came to an end by themselves.
    pub finished: u64,
    /// Requests that were cancelled.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Answers put back to make room, and begun again.
    pub put_back: u64,
    /// Prompt tokens taken, cached ones included.
    pub prompt_tokens: u64,
    /// Of these, found in the cache.
    pub cached_tokens: u64,
    /// Tokens made.
    pub decoded_tokens: u64,
    /// Tokens guessed ahead.
    pub guessed_tokens: u64,
    /// Of these, right.
    pub right_guesses: u64,
    /// Guesses that a small model or the model's own block made.
    pub drafted_tokens: u64,
    /// Of these, right.
    pub right_drafts: u64,
    /// Seconds that took.
    pub draft_seconds: f64,
    /// Rows of logits from which constraints ruled tokens out.
    pub masks: u64,
    /// Seconds that took.
    pub mask_seconds: f64,
    /// Of these, seconds in which the network did not compute meanwhile.
    pub mask_wait_seconds: f64,
    /// Steps taken.
    pub steps: u64,
    /// Rows of all steps.
    pub rows: u64,
    /// Seconds in steps.
    pub step_seconds: f64,
    /// Bytes of weights and cache that they had to read.
    pub step_bytes: f64,
    /// Prefixes on disk.
    pub disk: DiskStatus,
}

/// A model that answers many at once. Clones are the same engine; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Engine {
    orders: Sender<Order>,
    language: Arc<Language>,
    source: Arc<Source>,
    about: Arc<About>,
    shown: Arc<Shown>,
    ended: Arc<Mutex<mpsc::Receiver<()>>>,
}

/// What the engine's thread shows to others.
#[derive(Default)]
struct Shown {
    status: Mutex<Status>,
    /// Requests that wait, those that the thread has not looked at yet included.
    waiting: AtomicUsize,
}

/// What stays the same as long as a model is loaded.
#[derive(Clone, Debug)]
pub struct About {
    /// The network.
    pub spec: ModelSpec,
    /// Tokens a conversation may have.
    pub context: usize,
    /// Bytes of resident weights, those of what guesses included.
    pub weight_bytes: u64,
    /// How the cache is kept.
    pub kv: KvFormat,
    /// Bytes of cache there may be.
    pub kv_budget: u64,
    /// Bytes per second that these threads read from memory, measured when the model was loaded; 0 where it was not.
    pub memory_rate: f64,
    /// Threads at work.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Option<&'static str>,
    /// Things to tell a person once.
    pub notices: Vec<String>,
    /// Prefixes of texts to embed.
    pub prompts: crate::embed::Prompts,
    /// The cache of what guesses.
    draft: Option<(ModelSpec, KvFormat)>,
    most_waiting: usize,
}

impl About {
    /// Bytes of cache that a sequence of so many tokens takes at most.
    pub fn kv_bytes(&self, tokens: usize) -> u64 {
        let draft = self.draft.as_ref().map_or(0, |(spec, format)| kv_bytes(spec, *format, tokens));
        kv_bytes(&self.spec, self.kv, tokens) + draft
    }
}

/// What the memory gives to as many threads as the model has, in bytes per second.
fn memory_rate(model: &Model) -> f64 {
    /// Beyond most caches, and read in some hundredths of a second.
    const MOST: u64 = 128 << 20;
    let Some(kernels) = model.isa().and_then(Kernels::for_isa) else { return 0.0 };
    let bytes = step_bytes(model.spec(), KvBytes::of(model.kv_format())).min(MOST);
    let limits = Limits::new(Cpu::with(model.threads(), kernels), bytes);
    limits.map_or(0.0, |limits| limits.sample().bytes)
}

/// Positions that caches grow by.
const PAGE: usize = 64;

fn kv_bytes(spec: &ModelSpec, format: KvFormat, tokens: usize) -> u64 {
    let kept = KvBytes::of(format);
    // a recurrent state is kept twice: as it is, and as it was
    let kept = KvBytes { state: 2.0 * kept.state, ..kept };
    spec.kv_bytes(tokens.next_multiple_of(PAGE) as u64, kept) as u64
}

/// Texts to embed.
struct Texts {
    texts: Vec<String>,
    options: EmbedOptions,
    cancelled: Arc<AtomicBool>,
    on_end: OnVectors,
    done: Vec<Embedding>,
}

/// What the engine's thread is told.
enum Order {
    Answer(Box<Job>),
    Embed(Texts),
    /// Finish what was taken, and say so.
    Drain(Sender<()>),
    /// Write what is cached to disk, and say so.
    Write(Sender<()>),
}

impl Engine {
    /// Gives a model to a thread of its own. If it was loaded with its [further-token block](crate::LoadOptions::next_token),
    /// that guesses.
    pub fn start(mut model: Model, options: &EngineOptions) -> Engine {
        let drafter = Drafter::block(&mut model);
        Engine::run(model, drafter, options)
    }

    /// The same with a small model that guesses what the large one will say.
    ///
    /// # Errors
    /// A small model with other tokens.
    pub fn start_with_draft(
        model: Model,
        draft: Model,
        options: &EngineOptions,
    ) -> Result<Engine, EngineError> {
        let drafter = Drafter::small(draft, &model)?;
        Ok(Engine::run(model, Some(drafter), options))
    }

    fn run(model: Model, drafter: Option<Drafter>, options: &EngineOptions) -> Engine {
        let (orders, receiver) = mpsc::channel();
        let (alive, ended) = mpsc::channel::<()>();
        let draft = drafter.as_ref().map(Drafter::cache);
        let of_draft = draft.as_ref().map_or(0, |(spec, format)| kv_bytes(spec, *format, model.context()));
        let whole = kv_bytes(model.spec(), model.kv_format(), model.context()) + of_draft;
        let half = memory::available().map_or(whole, |free| free.saturating_sub(options.promised) / 2);
        let kv_budget = options.kv_bytes.unwrap_or(half).max(whole);
        let about = Arc::new(About {
            spec: model.spec().clone(),
            context: model.context(),
            weight_bytes: model.weight_bytes() + drafter.as_ref().map_or(0, Drafter::weight_bytes),
            kv: model.kv_format(),
            kv_budget,
            memory_rate: memory_rate(&model),
            threads: model.threads(),
            isa: model.isa().map(|isa| isa.name()),
            notices: model.notices().to_vec(),
            prompts: model.prompts().clone(),
            draft,
            most_waiting: options.waiting,
        });
        let shown = Arc::new(Shown::default());
        let (language, source) = (model.language().clone(), model.source.clone());
        let mut runner = Runner::new(model, drafter, about.clone(), shown.clone(), options);
        std::thread::Builder::new()
            .name("ingle-engine".into())
            .spawn(move || {
                runner.run(&receiver);
                // the memory is given back before the end is known
                drop(runner);
                drop(alive);
            })
            .expect("the system starts a thread");
        Engine { orders, language, source, about, shown, ended: Arc::new(Mutex::new(ended)) }
    }

    /// What the model reads and writes.
    pub fn language(&self) -> &Language {
        &self.language
    }

    /// Whether the model's files are still what they were when it was loaded: with others it cannot go on.
    pub fn is_intact(&self) -> bool {
        self.source.check().is_ok()
    }

    /// What stays the same.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        let status = self.shown.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        Status { waiting: self.shown.waiting.load(Ordering::Relaxed), ..status }
    }

    /// Takes a request. `on_event` and `on_end` are called on the engine's thread.
    ///
    /// # Errors
    /// What is known before anything is computed: an empty prompt or one that does not fit, impossible options, a full
    /// queue, an engine that is gone.
    pub fn submit(&self, request: Request, on_event: OnEvent, on_end: OnEnd) -> Result<Ticket, EngineError> {
        let About { spec, context, .. } = &*self.about;
        let (prompt, context) = (request.prompt.len(), *context);
        if spec.head.is_none() {
            return Err(EngineError::OnlyEmbeds);
        }
        if prompt == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(EngineError::PromptTooLong { prompt, context });
        }
        let waiting = self.shown.waiting.load(Ordering::Relaxed);
        if waiting >= self.about.most_waiting {
            return Err(EngineError::QueueFull { waiting });
        }
        let answer =
            Answer::new(&self.language, &request.prompt, &request.options, context, spec.vocabulary)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Job::new(answer, &request, context, cancelled.clone(), on_event, on_end);
        self.shown.waiting.fetch_add(1, Ordering::Relaxed);
        self.orders.send(Order::Answer(Box::new(job))).map_err(|_| EngineError::Gone)?;
        Ok(Ticket(cancelled))
    }

    /// Vectors of texts, in their order; answers in the making go on meanwhile. `on_end` is called on the engine's thread,
    /// with an error as of [`Model::embed`] if there is one; it is dropped when the ticket is.
    ///
    /// # Errors
    /// An engine that is gone.
    pub fn submit_texts(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
        on_end: OnVectors,
    ) -> Result<Ticket, EngineError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let texts = Texts { texts, options, cancelled: cancelled.clone(), on_end, done: Vec::new() };
        self.orders.send(Order::Embed(texts)).map_err(|_| EngineError::Gone)?;
        Ok(Ticket(cancelled))
    }

    /// The same for whoever can wait.
    ///
    /// # Errors
    /// As [`Model::embed`], and an engine that is gone.
    pub fn embed(&self, texts: Vec<String>, options: EmbedOptions) -> Result<Vec<Embedding>, EngineError> {
        let (reply, answer) = mpsc::channel();
        let on_end = Box::new(move |vectors| _ = reply.send(vectors));
        let _ticket = self.submit_texts(texts, options, on_end)?;
        answer.recv().map_err(|_| EngineError::Gone)?
    }

    /// Ends what was taken, and waits until the model's memory is given back. Only the last one of an engine's clones can
    /// do that; others are dropped.
    pub fn close(self) {
        let Engine { orders, ended, .. } = self;
        drop(orders);
        if let Some(ended) = Arc::into_inner(ended) {
            _ = ended.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        }
    }

    /// Has what is cached written to the prefix cache on disk, if there is one, for the last time; the receiver hears when
    /// that is done, or that there is nobody to do it. Answers in the making go on meanwhile.
    pub fn write_cached(&self) -> mpsc::Receiver<()> {
        let (reply, written) = mpsc::channel();
        // an engine that is gone drops the sender
        _ = self.orders.send(Order::Write(reply));
        written
    }

    /// Waits until everything taken so far has ended.
    pub fn drain(&self) {
        let (reply, answer) = mpsc::channel();
        if self.orders.send(Order::Drain(reply)).is_ok() {
            _ = answer.recv();
        }
    }
}
