//! From what a person typed to an opened model.

use crate::console::harmless;
use crate::{ember, env, errors, found, messages};
use anyhow::{Context, Result};
use ingle_model::source::SourceKind;
use ingle_model::{ModelSpec, Source, families};
use ingle_store::{Choice, Found};
use ingle_text::{TemplateSources, Tokenizer};
use std::path::{Path, PathBuf};

/// A model, named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelName {
    /// The one inside the program.
    Ember,
    /// One on disk.
    Path(PathBuf),
    /// One on disk that was called by its name.
    Found {
        /// The whole name.
        name: String,
        /// Where it lies.
        path: PathBuf,
    },
}

/// What a word on the command line can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A model that is there.
    Model(ModelName),
    /// A path, and nothing is there.
    Missing,
    /// A name that several models here have.
    Several(Vec<String>),
    /// The name of a model somewhere else.
    Remote,
    /// Plain text.
    Text,
}

/// Decides what `text` is, by the disk first and then by its looks.
pub(crate) fn classify(text: &str) -> Word {
    if text == ember::NAME {
        return Word::Model(ModelName::Ember);
    }
    let path = env::expand_home(text);
    if !text.is_empty() && path.exists() {
        return Word::Model(ModelName::Path(path));
    }
    if looks_like_a_path(text) {
        return Word::Missing;
    }
    if !text.contains(char::is_whitespace) {
        match found::here().choose(text) {
            Choice::None => {}
            Choice::One(Found { name, path, .. }) => {
                return Word::Model(ModelName::Found { name: name.clone(), path: path.clone() });
            }
            Choice::Several(all) => {
                return Word::Several(all.iter().map(|found| found::told(found)).collect());
            }
        }
    }
    if looks_like_a_remote_name(text) { Word::Remote } else { Word::Text }
}

/// The model a person named where nothing but a model can stand.
pub(crate) fn model(text: &str) -> Result<ModelName> {
    let problem = match classify(text) {
        Word::Model(name) => return Ok(name),
        Word::Missing => messages::no_such_model(text),
        Word::Several(all) => messages::several_models(text, &all),
        Word::Remote => messages::no_download(text),
        Word::Text => messages::not_a_model(text),
    };
    Err(anyhow::Error::msg(problem))
}

impl ModelName {
    /// For titles and messages.
    pub(crate) fn display(&self) -> String {
        match self {
            ModelName::Ember => ember::NAME.into(),
            ModelName::Path(path) => path.display().to_string(),
            ModelName::Found { name, .. } => name.clone(),
        }
    }

    /// The file or folder that it is, however it was written; `None` for the one inside the program.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match self {
            ModelName::Ember => None,
            ModelName::Path(path) | ModelName::Found { path, .. } => {
                Some(path.canonicalize().unwrap_or_else(|_| path.clone()))
            }
        }
    }

    /// Opens it: header read and checked, weights mapped.
    pub(crate) fn open(&self) -> Result<Source> {
        match self {
            ModelName::Ember => ember::open().context("the model inside this program is damaged"),
            ModelName::Path(path) => {
                if let Some(ending) = foreign_ending(path) {
                    anyhow::bail!(messages::not_a_gguf_path(&self.display(), ending));
                }
                Source::open(path).map_err(|error| self.blame(error.into()))
            }
            ModelName::Found { path, .. } => Source::open(path).map_err(|error| self.blame(error.into())),
        }
    }

    /// Puts the model's name before an error that does not say which file it is about.
    pub(crate) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        let name = self.display();
        if errors::line(&error).contains(&name) { error } else { error.context(format!("cannot use {name}")) }
    }

    /// The network of the opened model, which is to be computed.
    pub(crate) fn describe(&self, source: &Source) -> Result<ModelSpec> {
        match network(source) {
            Ok(Network::Known(spec)) => Ok(*spec),
            Ok(Network::Unknown(architecture)) => {
                let name = harmless(&self.display());
                Err(anyhow::anyhow!("{name}: {}", messages::cannot_run_yet(&harmless(&architecture))))
            }
            Ok(Network::Absent) => Err(anyhow::Error::msg(messages::only_a_tokenizer(&self.display()))),
            Err(error) => Err(self.blame(error)),
        }
    }
}

/// What an opened model has for a network.
pub(crate) enum Network {
    /// One that this version runs.
    Known(Box<ModelSpec>),
    /// One of an architecture that it does not know.
    Unknown(String),
    /// None: there are no tensors.
    Absent,
}

/// Looks at the network of an opened model.
///
/// # Errors
/// When the architecture is known and the network is not what it must be.
pub(crate) fn network(source: &Source) -> Result<Network> {
    if source.tensors().is_empty() {
        return Ok(Network::Absent);
    }
    match families::describe(source) {
        Ok(spec) => Ok(Network::Known(Box::new(spec))),
        Err(ingle_model::Error::UnknownArchitecture { architecture, .. }) => {
            Ok(Network::Unknown(architecture))
        }
        Err(error) => Err(error.into()),
    }
}

/// A file's ending that says it is a part of something else.
fn foreign_ending(path: &Path) -> Option<&str> {
    let ending = path.extension()?.to_str()?;
    (path.is_file() && matches!(ending, "safetensors" | "json" | "bin" | "pt" | "pth" | "onnx"))
        .then_some(ending)
}

/// The tokenizer that came with the model.
pub(crate) fn tokenizer(source: &Source) -> Result<Tokenizer> {
    let name = || format!("cannot use the tokenizer of {}", source.path.display());
    if source.kind == SourceKind::HuggingFace && matches!(source.tokenizer_json(), Ok(None)) {
        return Err(anyhow::anyhow!(messages::NO_TOKENIZER_FILE)).with_context(name);
    }
    Tokenizer::from_source(source).with_context(name)
}

/// The template variables that switch reasoning.
pub(crate) const THINKING: [&str; 2] = ["enable_thinking", "thinking"];

/// The template variable that says how long to reason.
pub(crate) const EFFORT: &str = "reasoning_effort";

/// The text of the chat template that came with the model, for conversations with or without tools; `None` for a model that is not made for conversations.
pub(crate) fn template(source: &Source, tools: bool) -> Result<Option<String>> {
    let name = || format!("cannot use the chat template of {}", source.path.display());
    let sources = TemplateSources::from_source(source).with_context(name)?;
    Ok(sources.choose(None, tools).ok().map(str::to_owned))
}

fn looks_like_a_path(text: &str) -> bool {
    let begins = ["./", "../", "/", "~/", ".\\", "..\\"].iter().any(|start| text.starts_with(start));
    let ends = [".gguf", ".safetensors"].iter().any(|end| text.to_ascii_lowercase().ends_with(end));
    // a sentence may begin with a slash or end with a file's name
    (begins && !text.contains(char::is_whitespace)) || (ends && !text.contains(' ')) || text.is_empty()
}

/// `name:tag`, `owner/name`, or one word that begins like a well-known family.
fn looks_like_a_remote_name(text: &str) -> bool {
    const FAMILIES: &[&str] = &[
        "qwen",
        "qwq",
        "llama",
        "tinyllama",
        "codellama",
        "gemma",
        "mistral",
        "mixtral",
        "codestral",
        "devstral",
        "ministral",
        "phi3",
        "phi4",
        "phi-",
        "deepseek",
        "gpt-oss",
        "granite",
        "smollm",
        "olmo",
        "glm-",
        "glm4",
        "kimi-",
        "falcon",
        "command-r",
        "minimax",
        "nemotron",
        "all-minilm",
        "bge-",
        "embeddinggemma",
        "mxbai-",
        "nomic-",
    ];
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if text.starts_with("hf.co/") || text.starts_with("huggingface.co/") || text.starts_with("https://") {
        return !text.contains(char::is_whitespace);
    }
    let split_in_two = |at: char| text.split_once(at).is_some_and(|(a, b)| plain(a) && plain(b));
    let lower = text.to_ascii_lowercase();
    split_in_two(':')
        || split_in_two('/')
        || (plain(text) && FAMILIES.iter().any(|name| lower.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        assert_eq!(classify("ember"), Word::Model(ModelName::Ember));
        assert_eq!(classify("src"), Word::Model(ModelName::Path("src".into())));
        for text in
            ["./no-such", "../x/y", "/nowhere/at/all", "model.gguf", "Model.GGUF", "~/no-such-model", ""]
        {
            assert_eq!(classify(text), Word::Missing, "{text}");
        }
        for text in
            ["qwen3:4b", "Qwen/Qwen3-4B", "llama3.2", "gpt-oss", "hf.co/a/b:Q4_K_M", "https://x.y/z.bin"]
        {
            assert_eq!(classify(text), Word::Remote, "{text}");
        }
        for text in [
            "Hello!",
            "What is 1/2 of 3?",
            "hi",
            "Who are you?",
            "what is a .gguf",
            "Llamas: why?",
            "/ is what",
        ] {
            assert_eq!(classify(text), Word::Text, "{text}");
        }
    }
}
