//! What a model reads and writes: its tokens, its templates, how its answers are marked, its own settings.

use crate::constraint::{Beginning, ConstraintError, Vocabulary};
use crate::error::EngineError;
use crate::generate::Reading;
use crate::sampling::GenerationDefaults;
use ingle_model::Source;
use ingle_text::{AnswerReader, ChatTemplate, Dialect, Message, Moment, TemplateSources, Tokenizer};
use std::sync::OnceLock;

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

/// The text side of a model, which needs no executor and can be used from any thread.
pub struct Language {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// For conversations with tools; some models have a variant for them.
    tool_template: Option<ChatTemplate>,
    /// Its format as this program writes it, for conversations that the template cannot write.
    native: Option<ChatTemplate>,
    /// How its answers are to be read.
    pub(crate) dialect: Dialect,
    defaults: GenerationDefaults,
    /// Tokens after which an answer is over.
    ends: Vec<u32>,
    /// Made when the first answer is held to something.
    vocabulary: OnceLock<Result<Vocabulary, ConstraintError>>,
}

impl Language {
    /// Of an opened model. `notices` gets what a person should know.
    ///
    /// # Errors
    /// A tokenizer, template or settings that cannot be read.
    pub(crate) fn read(source: &Source, notices: &mut Vec<String>) -> Result<Language, EngineError> {
        let tokenizer = Tokenizer::from_source(source)?;
        let sources = TemplateSources::from_source(source)?;
        let (mut template, mut tool_template) = (template(&sources, false)?, template(&sources, true)?);
        let dialect = dialect(&template, &tool_template, &tokenizer);
        let defaults = GenerationDefaults::of(source)?;
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
        let mut ends = tokenizer.end_of_generation().to_vec();
        ends.extend(defaults.end_tokens.iter().copied());
        let native = ChatTemplate::built_in(&dialect);
        let vocabulary = OnceLock::new();
        Ok(Language { tokenizer, template, tool_template, native, dialect, defaults, ends, vocabulary })
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

    /// The model's own sampling settings.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }

    /// The prompt of a conversation, as the model's template writes it. Control tokens spelled inside messages stay
    /// plain text.
    ///
    /// # Errors
    /// A model without a template, or a conversation that its template refuses.
    pub fn render(&self, request: &ChatRequest) -> Result<Vec<u32>, EngineError> {
        let template = if request.tools.is_empty() { &self.template } else { &self.tool_template };
        let native = self.native.as_ref().filter(|native| native.goes_beyond_templates(&request.messages));
        let template = template.as_ref().ok_or(EngineError::NoTemplate)?;
        let template = native.unwrap_or(template);
        let ChatRequest { messages, tools, variables } = request;
        let tools = (!tools.is_empty()).then_some(tools.as_slice());
        Ok(ingle_text::render_prompt(template, &self.tokenizer, messages, tools, variables, Moment::now())?)
    }

    /// The tokens as grammars walk them, for rows of `rows` logits.
    pub(crate) fn vocabulary(&self, rows: usize) -> Result<&Vocabulary, ConstraintError> {
        let made = self.vocabulary.get_or_init(|| Vocabulary::new(&self.tokenizer, rows, &self.ends));
        made.as_ref().map_err(Clone::clone)
    }

    /// What the answer to `prompt` begins with.
    pub(crate) fn beginning(&self, prompt: &[u32]) -> Result<Beginning, EngineError> {
        let end = self.end_of(prompt)?;
        let Some((open, close)) = self.dialect.reasoning() else { return Ok(Beginning::Content) };
        Ok(if self.dialect.opens_reasoning(&end) {
            Beginning::Thought
        } else if end.trim_end().ends_with(close.trim_end()) || self.tokenizer.id_of(open).is_none() {
            Beginning::Content
        } else {
            Beginning::PerhapsThought
        })
    }

    /// The text that a prompt ends with, long enough for markers.
    fn end_of(&self, prompt: &[u32]) -> Result<String, EngineError> {
        const LONGEST_MARKER: usize = 16; // in tokens
        Ok(self.tokenizer.decode(&prompt[prompt.len().saturating_sub(LONGEST_MARKER)..])?)
    }

    /// Reads the answer to `prompt`, which may have begun it: with a thought.
    pub(crate) fn reader(&self, prompt: &[u32], reading: &Reading) -> Result<AnswerReader, EngineError> {
        let Reading::Message { tools } = reading else { return Ok(AnswerReader::plain()) };
        let end = self.end_of(prompt)?;
        Ok(AnswerReader::new(&self.dialect, tools, self.dialect.opens_reasoning(&end), true))
    }

    /// Whether an answer is over after a token.
    pub(crate) fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Whether a token that ends the turn says something about the answer.
    pub(crate) fn is_marker(&self, token: u32, reading: &Reading) -> bool {
        let text = self.tokenizer.token_text(token);
        *reading != Reading::Text && text.is_some_and(|text| self.dialect.is_marker(text))
    }
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
