//! What a model is, known without loading it.

use crate::error::EngineError;
use crate::sampling::GenerationDefaults;
use ingle_model::spec::ModelSpec;
use ingle_model::{Source, families};
use ingle_text::{ChatTemplate, Dialect, TemplateSources, Tokenizer};

/// The names by which templates know whether to think, and how much.
const THINKING: [&str; 3] = ["enable_thinking", "thinking", "reasoning_effort"];

/// What the header and the template of a model say.
#[derive(Clone, Debug)]
pub struct Description {
    /// The network.
    pub spec: ModelSpec,
    /// Whether it is made for conversations.
    pub converses: bool,
    /// Whether it can be told of tools.
    pub tools: bool,
    /// Whether it thinks before it speaks.
    pub thinks: bool,
    /// Its own sampling settings.
    pub defaults: GenerationDefaults,
}

impl Description {
    /// Of an opened model.
    ///
    /// # Errors
    /// A network, a template or a tokenizer that cannot be read.
    pub fn read(source: &Source) -> Result<Description, EngineError> {
        let spec = families::describe(source)?;
        let sources = TemplateSources::from_source(source)?;
        let texts: Vec<&str> =
            [false, true].iter().filter_map(|&tools| sources.choose(None, tools).ok()).collect();
        let template = (!texts.is_empty()).then(|| texts.join("\n"));
        let mut dialect = Dialect::detect(template.as_deref(), None);
        if dialect.name() == Dialect::plain().name() {
            // where the template does not show it, the vocabulary may
            dialect = Dialect::detect(template.as_deref(), Some(&Tokenizer::from_source(source)?));
        }
        let mut templates =
            texts.iter().map(|text| ChatTemplate::new(text)).collect::<Result<Vec<_>, _>>()?;
        if templates.is_empty() {
            templates.extend(ChatTemplate::built_in(&dialect));
        }
        let reads = |name: &str| templates.iter().any(|template| template.reads(name));
        let marks = ["harmony", "think"].contains(&dialect.name());
        Ok(Description {
            spec,
            converses: !templates.is_empty(),
            tools: reads("tools"),
            defaults: GenerationDefaults::of(source)?,
            thinks: marks || THINKING.into_iter().any(reads),
        })
    }
}
