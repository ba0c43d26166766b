//! A loaded model: network, executor, tokenizer, template and the model's own defaults.

use crate::embed::{Projections, Prompts};
use crate::error::EngineError;
use crate::fit::Fit;
use crate::language::Language;
use crate::memory;
use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Executor, SequenceId};
use ingle_model::spec::{KvFormat, ModelSpec};
use ingle_model::{Source, families};
use ingle_text::Dialect;
use std::sync::Arc;

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads; zero takes the physical cores this process may use.
    pub threads: usize,
    /// Instruction set; `None` takes the best this processor has.
    pub isa: Option<Isa>,
    /// Which executor.
    pub kind: ExecutorKind,
    /// Tokens a session must hold; `None` takes the model's own context, or what fits the memory.
    pub context: Option<usize>,
    /// Most bytes for routed experts in memory, the others being read from the file when they are chosen; `None` holds
    /// all of them, or as many as fit.
    pub expert_memory: Option<u64>,
    /// How the cache is kept.
    pub kv: KvFormat,
    /// Bytes of the free memory that were promised to others, and are not used yet.
    pub promised: u64,
    /// Load the block that predicts further tokens, if the files have one: an engine guesses with it.
    pub next_token: bool,
    /// Refuse where the memory allows no context of 32,768 tokens (or the model's own, if that is shorter), or not all
    /// experts: somebody could make room.
    pub no_less: bool,
}

/// Executors to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutorKind {
    /// Packed weights, integer products, 16-bit cache.
    #[default]
    Production,
    /// Exact weights and 32-bit arithmetic, slowly.
    Reference,
}

/// How far loading has come, in bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Done so far.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// A model, ready to answer.
pub struct Model {
    pub(crate) executor: Box<dyn Executor>,
    /// Its block that predicts further tokens.
    pub(crate) next_token: Option<Box<dyn Executor>>,
    pub(crate) language: Arc<Language>,
    /// The files, from which a little is read all the time.
    pub(crate) source: Arc<Source>,
    context: usize,
    kv: KvFormat,
    threads: usize,
    isa: Option<Isa>,
    notices: Vec<String>,
    /// What texts to embed begin with.
    pub(crate) prompts: Prompts,
    /// What a pooled row is multiplied by.
    pub(crate) projections: Projections,
}

/// One conversation's cache. What it holds is reused by the next prompt that begins the same way.
#[derive(Debug)]
pub struct Session {
    pub(crate) sequence: SequenceId,
    /// Tokens the cache holds.
    pub(crate) tokens: Vec<u32>,
}

impl Model {
    /// Loads an opened model. Fails before reading weights when memory does not suffice, with the figures.
    pub fn load(
        source: Arc<Source>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Model, EngineError> {
        let files = source.clone();
        let spec = families::describe(&source)?;
        let mut notices = Vec::new();
        let language = Language::read(&source, &mut notices)?;
        notices.extend(spec.notices.iter().cloned());
        notices.extend(left_out(&spec));
        notices.extend(other_senses(&spec));
        let tokens = language.tokenizer().vocab_size();
        if tokens > spec.vocabulary {
            let rows = spec.vocabulary;
            notices.push(format!(
                "the tokenizer has {tokens} tokens and the embedding {rows} rows; do they belong together?"
            ));
        }
        if options.context.is_some_and(|wanted| wanted > spec.context) {
            let made_for = spec.context;
            notices
                .push(format!("the model was made for {made_for} tokens; beyond that its answers get worse"));
        }
        let further = if options.next_token { spec.next_token_bytes() } else { 0 };
        if options.next_token && further == 0 {
            notices
                .push("the files have no block that predicts further tokens (MTP), so none guesses".into());
        }
        let taken = options.promised + further;
        let available = memory::available().map(|free| free.saturating_sub(taken));
        let Fit { context, expert_memory } = Fit::find(&spec, options, available, &mut notices)?;
        let (prompts, projections) = (Prompts::read(&source)?, Projections::load(&spec, &source)?);
        let kernels = match options.isa {
            None => Kernels::best(),
            Some(isa) => Kernels::for_isa(isa).ok_or(EngineError::NoIsa(isa.name()))?,
        };
        let (executor, threads, isa): (Box<dyn Executor>, usize, Option<Isa>) = match options.kind {
            ExecutorKind::Reference => (Box::new(Reference::load(spec, source)?), 1, None),
            ExecutorKind::Production => {
                let cpu = Cpu::with(options.threads, kernels);
                let threads = cpu.pool.threads();
                let report = &mut |at: ingle_cpu::production::Progress| {
                    progress(LoadProgress { done: at.done, total: at.total });
                };
                let mut production = match expert_memory {
                    None => Production::load(spec, source, cpu, report)?,
                    Some(memory) => Production::load_paged(spec, source, cpu, memory, report)?,
                };
                production.keep_kv_as(options.kv);
                let (held, all) = production.experts_held();
                if held < all {
                    notices.push(format!(
                        "{held} of the model's {all} experts fit the memory for them; the others are read from the \
                         file when they are chosen, and the disk bounds the speed"
                    ));
                }
                let slow: Vec<&str> =
                    production.generic_formats().iter().map(|format| format.name()).collect();
                if !slow.is_empty() {
                    let formats = slow.join(", ");
                    notices.push(format!(
                        "{formats} weights have no fast kernel yet and run several times slower"
                    ));
                }
                (Box::new(production), threads, Some(kernels.isa()))
            }
        };
        let next_token = if options.next_token { executor.next_token()? } else { None };
        Ok(Model {
            executor,
            next_token,
            source: files,
            language: Arc::new(language),
            context,
            kv: options.kv,
            threads,
            isa,
            notices,
            prompts,
            projections,
        })
    }

    /// The same with another executor, which may be around the one it has: to measure, or to try things. A block that
    /// predicts further tokens is had from it anew.
    ///
    /// # Errors
    /// As loading that block.
    pub fn with_executor(
        mut self,
        change: impl FnOnce(Box<dyn Executor>) -> Box<dyn Executor>,
    ) -> Result<Model, EngineError> {
        let had = self.next_token.take().is_some();
        let executor = change(self.executor);
        let next_token = if had { executor.next_token()? } else { None };
        Ok(Model { executor, next_token, ..self })
    }

    /// The network.
    pub fn spec(&self) -> &ModelSpec {
        self.executor.spec()
    }

    /// What it reads and writes: tokens, templates, settings. It can be shared with other threads.
    pub fn language(&self) -> &Arc<Language> {
        &self.language
    }

    /// Reads the model's answers in another dialect than its template and vocabulary show.
    ///
    /// # Panics
    /// When the language is shared already.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        Arc::get_mut(&mut self.language).expect("the language is not shared yet").dialect = dialect;
    }

    /// Tokens a session holds.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Things to tell the person once.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Bytes of resident weights.
    pub fn weight_bytes(&self) -> u64 {
        self.executor.weight_bytes()
    }

    /// Bytes of cache now held by all sessions.
    pub fn kv_bytes(&self) -> u64 {
        self.executor.kv_bytes()
    }

    /// How the cache is kept.
    pub fn kv_format(&self) -> KvFormat {
        self.kv
    }

    /// Threads at work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Instruction set of the kernels; the reference executor has none.
    pub fn isa(&self) -> Option<Isa> {
        self.isa
    }

    /// A new, empty session.
    pub fn open(&mut self) -> Result<Session, EngineError> {
        let sequence = self.executor.open(self.context)?;
        Ok(Session { sequence, tokens: Vec::new() })
    }

    /// Gives a session's memory back.
    pub fn close(&mut self, session: Session) {
        self.executor.close(session.sequence);
    }
}

/// Tensors in the file that the network, as its header describes it, has no use for: perhaps the header is wrong.
fn left_out(spec: &ModelSpec) -> Option<String> {
    let unused = spec.unused_unexplained();
    let (first, count) = (unused.first()?, unused.len());
    let named =
        if count == 1 { format!("`{first}`") } else { format!("{count} tensors, `{first}` among them,") };
    Some(format!("the file holds {named} that its network does not use; `ingle show --tensors` lists them"))
}

/// Parts for images or sound, which nothing here computes.
fn other_senses(spec: &ModelSpec) -> Option<String> {
    let words = "the model's part for images or sound is not used: this version reads and writes text";
    (spec.unused_senses() > 0).then(|| words.to_owned())
}
