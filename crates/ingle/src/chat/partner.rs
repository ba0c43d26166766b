//! Who answers: a loaded model, or in tests a script.

use crate::figures::{bytes, grouped};
use anyhow::Result;
use ingle_engine::sampling::GenerationDefaults;
use ingle_engine::{ChatRequest, Event, Flow, GenerateOptions, Model, Outcome, Session};
use ingle_text::Specials;

/// What to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prompt<'a> {
    /// A conversation, through the model's template.
    Chat(&'a ChatRequest),
    /// Text to continue. Control tokens in it mean themselves.
    Plain(&'a str),
}

/// Who answers.
pub(crate) trait Partner {
    /// What a person calls it.
    fn name(&self) -> &str;

    /// Whether it is made for conversations.
    fn converses(&self) -> bool;

    /// Its own settings.
    fn defaults(&self) -> &GenerationDefaults;

    /// Tokens a conversation may have.
    fn context(&self) -> usize;

    /// The prompt's tokens.
    fn tokens(&self, prompt: Prompt) -> Result<Vec<u32>>;

    /// Answers a prompt.
    fn answer(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event) -> Flow,
    ) -> Result<Outcome>;

    /// What it is and what it uses now, as label and value.
    fn facts(&self) -> Vec<(&'static str, String)>;
}

/// A model in memory with the cache of one conversation.
pub(crate) struct Loaded {
    name: String,
    model: Model,
    session: Session,
}

impl Loaded {
    /// Opens a session on `model`.
    pub(crate) fn new(name: String, mut model: Model) -> Result<Loaded> {
        let session = model.open()?;
        Ok(Loaded { name, model, session })
    }

    /// Parameters of the network.
    pub(crate) fn parameters(&self) -> u64 {
        self.model.spec().parameters()
    }
}

impl Partner for Loaded {
    fn name(&self) -> &str {
        &self.name
    }

    fn converses(&self) -> bool {
        self.model.language().has_template()
    }

    fn defaults(&self) -> &GenerationDefaults {
        self.model.language().defaults()
    }

    fn context(&self) -> usize {
        self.model.context()
    }

    fn tokens(&self, prompt: Prompt) -> Result<Vec<u32>> {
        Ok(match prompt {
            Prompt::Chat(request) => self.model.language().render(request)?,
            Prompt::Plain(text) => {
                self.model.language().tokenizer().encode_with_bos(text, Specials::Parse)?
            }
        })
    }

    fn answer(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event) -> Flow,
    ) -> Result<Outcome> {
        Ok(self.model.generate(&mut self.session, prompt, options, on_event)?)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let model = &self.model;
        let threads = if model.threads() == 1 { "thread" } else { "threads" };
        let kernels = model.isa().map_or("reference", |isa| isa.name());
        vec![
            ("model", self.name.clone()),
            ("architecture", model.spec().architecture.clone()),
            ("parameters", grouped(model.spec().parameters())),
            ("computing", format!("{kernels}, {} {threads}", model.threads())),
            ("weights", bytes(model.weight_bytes())),
            ("KV cache", bytes(model.kv_bytes())),
        ]
    }
}
