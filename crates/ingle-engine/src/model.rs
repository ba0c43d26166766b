//! A loaded model: network, executor, tokenizer, template and the model's own defaults.

use crate::embed::{Projections, Prompts};
use crate::error::EngineError;
use crate::fit::Fit;
use crate::memory;
use crate::sampling::GenerationDefaults;
use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Executor, SequenceId};
use ingle_model::spec::ModelSpec;
use ingle_model::{Source, families};
use ingle_text::{ChatTemplate, Dialect, Message, Moment, TemplateSources, Tokenizer};
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
    pub(crate) tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// For conversations with tools; some models have a variant for them.
    tool_template: Option<ChatTemplate>,
    /// Its format as this program writes it, for conversations that the template cannot write.
    native: Option<ChatTemplate>,
    /// How its answers are to be read.
    pub(crate) dialect: Dialect,
    defaults: GenerationDefaults,
    /// Tokens after which an answer is over.
    pub(crate) ends: Vec<u32>,
    context: usize,
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

/// A conversation to answer.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// The messages so far.
    pub messages: Vec<Message>,
    /// Tools the model may call, as JSON schemas.
    pub tools: Vec<serde_json::Value>,
    /// Variables of the template, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

impl Model {
    /// Loads an opened model. Fails before reading weights when memory does not suffice, with the figures.
    pub fn load(
        source: Arc<Source>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Model, EngineError> {
        let spec = families::describe(&source)?;
        let tokenizer = Tokenizer::from_source(&source)?;
        let sources = TemplateSources::from_source(&source)?;
        let (mut template, mut tool_template) = (template(&sources, false)?, template(&sources, true)?);
        let dialect = dialect(&template, &tool_template, &tokenizer);
        let defaults = match &source.generation_config {
            Some(config) => GenerationDefaults::from_generation_config(config)?,
            None => GenerationDefaults::from_metadata(&source.metadata)?,
        };
        let mut notices = Vec::new();
        if template.is_none() && tool_template.is_none() {
            template = ChatTemplate::built_in(&dialect);
            tool_template = ChatTemplate::built_in(&dialect);
            if template.is_some() {
                let name = dialect.name();
                notices.push(format!(
                    "the model has no chat template; its vocabulary is that of the {name} format, which is used"
                ));
            }
        }
        if !defaults.ignored.is_empty() {
            let settings = defaults.ignored.join(", ");
            notices.push(format!("the model's own generation settings that have no effect here: {settings}"));
        }
        notices.extend(spec.notices.iter().cloned());
        notices.extend(left_out(&spec));
        notices.extend(other_senses(&spec));
        if tokenizer.vocab_size() > spec.vocabulary {
            let (tokens, rows) = (tokenizer.vocab_size(), spec.vocabulary);
            notices.push(format!(
                "the tokenizer has {tokens} tokens and the embedding {rows} rows; do they belong together?"
            ));
        }
        if options.context.is_some_and(|wanted| wanted > spec.context) {
            let made_for = spec.context;
            notices
                .push(format!("the model was made for {made_for} tokens; beyond that its answers get worse"));
        }
        let Fit { context, expert_memory } = Fit::find(&spec, options, memory::available(), &mut notices)?;
        let (prompts, projections) = (Prompts::read(&source)?, Projections::load(&spec, &source)?);
        let mut ends = tokenizer.end_of_generation().to_vec();
        ends.extend(defaults.end_tokens.iter().copied());
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
                let production = match expert_memory {
                    None => Production::load(spec, source, cpu, report)?,
                    Some(memory) => Production::load_paged(spec, source, cpu, memory, report)?,
                };
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
        Ok(Model {
            executor,
            tokenizer,
            template,
            tool_template,
            native: ChatTemplate::built_in(&dialect),
            dialect,
            defaults,
            ends,
            context,
            threads,
            isa,
            notices,
            prompts,
            projections,
        })
    }

    /// The network.
    pub fn spec(&self) -> &ModelSpec {
        self.executor.spec()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the model is made for conversations.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Whether the model's template looks at a variable of this name, so that setting it may change something.
    pub fn template_reads(&self, variable: &str) -> bool {
        let templates = [&self.template, &self.tool_template];
        templates.into_iter().flatten().any(|template| template.reads(variable))
    }

    /// How the model marks the parts of its answers.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Reads the model's answers in another dialect than its template and vocabulary show.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// The model's own sampling settings.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
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

    /// The prompt of a conversation, as the model's template writes it. Control tokens spelled inside messages stay
    /// plain text.
    pub fn render(&self, request: &ChatRequest) -> Result<Vec<u32>, EngineError> {
        let template = if request.tools.is_empty() { &self.template } else { &self.tool_template };
        let native = self.native.as_ref().filter(|native| native.goes_beyond_templates(&request.messages));
        let template = template.as_ref().ok_or(EngineError::NoTemplate)?;
        let template = native.unwrap_or(template);
        let ChatRequest { messages, tools, variables } = request;
        let tools = (!tools.is_empty()).then_some(tools.as_slice());
        Ok(ingle_text::render_prompt(template, &self.tokenizer, messages, tools, variables, Moment::now())?)
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

/// The dialect that the templates show, the one for conversations with tools included; without any, the vocabulary.
fn dialect(template: &Option<ChatTemplate>, tools: &Option<ChatTemplate>, tokenizer: &Tokenizer) -> Dialect {
    let sources: Vec<&str> =
        [template, tools].into_iter().flatten().filter_map(ChatTemplate::source).collect();
    Dialect::detect((!sources.is_empty()).then(|| sources.join("\n")).as_deref(), Some(tokenizer))
}

/// The template for conversations with or without tools, if the model comes with one.
fn template(sources: &TemplateSources, tools: bool) -> Result<Option<ChatTemplate>, EngineError> {
    match sources.choose(None, tools) {
        Ok(text) => Ok(Some(ChatTemplate::new(text)?)),
        Err(_) => Ok(None), // a base model: the person hears of it when a conversation is asked for
    }
}
