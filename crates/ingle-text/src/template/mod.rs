//! Chat templates: the Jinja programs that come with models and turn a conversation into a prompt.
//!
//! They are rendered with the settings of the Hugging Face library: `trim_blocks`, `lstrip_blocks`, `break` and
//! `continue`, `tojson` with Python's spacing and without HTML escapes, `raise_exception`, `strftime_now`, and Python's
//! methods on texts, lists and maps. They are foreign programs, so they run with bounded steps, depth and output
//! ([`Limits`]), and on a thread of their own with a stack that their depth cannot exhaust. Formats of models that come
//! without a template are written natively (`native/`).

mod clock;
mod filters;
mod limits;
mod native;
mod python;
mod source;
mod sources;

use std::io::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};

pub use clock::Moment;
use limits::Hit;
pub use limits::Limits;
pub use sources::TemplateSources;

use crate::answer::Dialect;
use crate::error::{Error, Result, excerpt_of};
use crate::message::Message;
use native::Native;

const NAME: &str = "chat template";

/// What turns a conversation into a prompt: a compiled chat template, or a format that this program writes itself.
pub struct ChatTemplate {
    program: Program,
    limits: Limits,
}

enum Program {
    Jinja {
        environment: Box<Environment<'static>>,
        /// Its text, for questions about it.
        source: String,
    },
    Native(Native),
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles `source` with the default limits.
    ///
    /// # Errors
    /// [`Error::TemplateSyntax`] with the line, [`Error::TemplateLimit`] when it is too long.
    pub fn new(source: &str) -> Result<ChatTemplate> {
        ChatTemplate::with_limits(source, Limits::default())
    }

    /// Compiles `source`, which may use as much as `limits` say.
    ///
    /// # Errors
    /// As [`new`](ChatTemplate::new).
    pub fn with_limits(source: &str, limits: Limits) -> Result<ChatTemplate> {
        if source.len() > limits.source_bytes {
            return Err(Error::TemplateLimit {
                what: "bytes in a chat template",
                limit: limits.source_bytes as u64,
            });
        }
        let (given, source) = (source.to_owned(), source::prepare(source)?);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(syntax_error)?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_debug(false);
        environment.set_recursion_limit(limits.recursion);
        filters::install(&mut environment);
        let environment = on_deep_stack(move || {
            environment.add_template_owned(NAME, source).map_err(syntax_error)?;
            Ok(environment)
        })?;
        Ok(ChatTemplate {
            program: Program::Jinja { environment: Box::new(environment), source: given },
            limits,
        })
    }

    /// The format of a dialect that this program writes itself, for models without a template: Harmony and DeepSeek
    /// V3.2's encoding. `None` for all others.
    pub fn built_in(dialect: &Dialect) -> Option<ChatTemplate> {
        let native = Native::of(dialect.name())?;
        Some(ChatTemplate { program: Program::Native(native), limits: Limits::default() })
    }

    /// Whether a variable of this name is mentioned, so that setting it may change something.
    pub fn reads(&self, variable: &str) -> bool {
        match &self.program {
            Program::Jinja { source, .. } => source.contains(variable),
            Program::Native(native) => native.reads(variable),
        }
    }

    /// Whether this is a format written here and `messages` hold something that published templates of it refuse or write
    /// only in part.
    pub fn goes_beyond_templates(&self, messages: &[Message]) -> bool {
        match &self.program {
            Program::Jinja { .. } => false,
            Program::Native(native) => messages.iter().any(|message| native.beyond_templates(message)),
        }
    }

    /// The template's text; `None` for a format written here.
    pub fn source(&self) -> Option<&str> {
        match &self.program {
            Program::Jinja { source, .. } => Some(source),
            Program::Native(_) => None,
        }
    }

    /// The prompt text for `variables`: an object with `messages`, `tools`, `add_generation_prompt`, `bos_token` and
    /// whatever else the template asks for. `strftime_now` tells `now`, and a message's reasoning is offered under
    /// both names in use, `thinking` and `reasoning_content`; nothing else is added. See
    /// [`render_prompt`](crate::render_prompt) for the whole way from messages to tokens.
    ///
    /// # Errors
    /// [`Error::TemplateRaised`] when the template refuses the conversation, [`Error::TemplateLimit`] when it runs too
    /// long or writes too much, [`Error::TemplateFailed`] with the line for everything else.
    pub fn render(
        &self,
        variables: &serde_json::Map<String, serde_json::Value>,
        now: Moment,
    ) -> Result<String> {
        let limit = self.limits.output_bytes;
        let environment = match &self.program {
            Program::Jinja { environment, .. } => environment,
            Program::Native(native) => {
                let text = native.write(variables, now)?;
                return if text.len() <= limit {
                    Ok(text)
                } else {
                    Err(Error::TemplateLimit { what: "bytes in a prompt", limit: limit as u64 })
                };
            }
        };
        let mut environment = Environment::clone(environment);
        let fuel = self.limits.fuel_per_byte.saturating_mul(bytes(variables.values()));
        environment.set_fuel(Some(self.limits.fuel.saturating_add(fuel)));
        let limits = self.limits;
        on_deep_stack(move || {
            let template = environment.get_template(NAME).map_err(syntax_error)?;
            let clock = Value::from_function(move |format: &str| now.format(format));
            let mut context = vec![("strftime_now", clock)];
            for (name, value) in variables {
                let value = match (name.as_str(), value) {
                    ("messages", serde_json::Value::Array(messages)) => conversation(messages)?,
                    _ => engine_value(value, 0)?,
                };
                context.push((name, value));
            }
            let context = Value::from_pairs(context);
            let mut output = Bounded { bytes: Vec::new(), limit, full: false };
            let result = template.render_captured_to(context, &mut output).map(drop);
            if output.full {
                return Err(Error::TemplateLimit { what: "bytes in a prompt", limit: limit as u64 });
            }
            result.map_err(|error| render_error(&error, &limits))?;
            String::from_utf8(output.bytes).map_err(|_| Error::TemplateFailed {
                line: 0,
                message: "wrote bytes that are not UTF-8".into(),
            })
        })
    }
}

/// Messages as the engine's values, reasoning under both names.
fn conversation(messages: &[serde_json::Value]) -> Result<Value> {
    let mut list = Vec::with_capacity(messages.len());
    for message in messages {
        let serde_json::Value::Object(members) = message else {
            list.push(engine_value(message, 1)?);
            continue;
        };
        let mut pairs = Vec::with_capacity(members.len() + 1);
        for (name, member) in members {
            pairs.push((name.as_str(), engine_value(member, 2)?));
        }
        for (one, other) in [("thinking", "reasoning_content"), ("reasoning_content", "thinking")] {
            if let (Some(reasoning), None) = (members.get(one), members.get(other)) {
                pairs.push((other, engine_value(reasoning, 2)?));
            }
        }
        list.push(Value::from_pairs(pairs));
    }
    Ok(Value::from(list))
}

/// JSON as the engine's values, members in their order.
fn engine_value(value: &serde_json::Value, depth: usize) -> Result<Value> {
    if depth > limits::VALUE_DEPTH {
        let limit = limits::VALUE_DEPTH as u64;
        return Err(Error::TemplateLimit { what: "levels of nested values", limit });
    }
    Ok(match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::Array(items) => {
            let items: Result<Vec<Value>> = items.iter().map(|item| engine_value(item, depth + 1)).collect();
            Value::from(items?)
        }
        serde_json::Value::Object(members) => {
            let mut pairs = Vec::with_capacity(members.len());
            for (name, member) in members {
                pairs.push((name.as_str(), engine_value(member, depth + 1)?));
            }
            Value::from_pairs(pairs)
        }
    })
}

/// About the bytes of texts in `values`.
fn bytes<'a>(values: impl Iterator<Item = &'a serde_json::Value>) -> u64 {
    let mut todo: Vec<&serde_json::Value> = values.collect();
    let mut total = 0u64;
    while let Some(value) = todo.pop() {
        total += 16;
        match value {
            serde_json::Value::String(text) => total += text.len() as u64,
            serde_json::Value::Array(items) => todo.extend(items),
            serde_json::Value::Object(members) => todo.extend(members.values()),
            _ => {}
        }
    }
    total
}

/// Runs `work` where its recursion cannot overflow the caller's stack. The memory is only reserved, not used.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat template".into())
            .stack_size(limits::STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(Error::TemplateThread)?;
        match thread.join() {
            Ok(result) => result,
            Err(_) => Err(Error::TemplateFailed { line: 0, message: "the template engine failed".into() }),
        }
    })
}

struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.full = true;
            return Err(std::io::Error::other("the prompt is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn syntax_error(error: minijinja::Error) -> Error {
    Error::TemplateSyntax { line: error.line().unwrap_or(1), message: message(&error) }
}

fn message(error: &minijinja::Error) -> String {
    excerpt_of(error.detail().map_or_else(|| error.kind().to_string(), str::to_owned).as_str(), 500)
}

fn render_error(error: &minijinja::Error, limits: &Limits) -> Error {
    // Inclusions and callbacks wrap errors: what happened is at the end of the chain.
    let mut innermost = error;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(filters::Raised(message)) = current.downcast_ref() {
            return Error::TemplateRaised { message: message.clone() };
        }
        if let Some(Hit { what, limit }) = current.downcast_ref() {
            return Error::TemplateLimit { what, limit: *limit };
        }
        if let Some(engine) = current.downcast_ref::<minijinja::Error>() {
            innermost = engine;
        }
        cause = current.source();
    }
    if innermost.kind() == ErrorKind::OutOfFuel {
        return Error::TemplateLimit { what: "steps", limit: limits.fuel };
    }
    let text = message(innermost);
    if text.contains("recursion limit") {
        return Error::TemplateLimit { what: "levels of calls", limit: limits.recursion as u64 };
    }
    Error::TemplateFailed { line: error.line().unwrap_or(0), message: text }
}
