//! Where chat templates are kept: in GGUF metadata, in tokenizer_config.json, in files of their own.

use ingle_model::source::SourceKind;
use ingle_model::{Metadata, Source, Value};

use crate::error::{Error, Result};
use crate::tokenizer::parse_json;

const KEY: &str = "tokenizer.chat_template";

/// The chat templates of a model, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateSources {
    /// The one used unless another is asked for.
    pub default: Option<String>,
    /// Variants by name (`tool_use`, `rag`).
    pub named: Vec<(String, String)>,
}

impl TemplateSources {
    /// The templates of an opened model, from wherever its layout keeps them.
    ///
    /// # Errors
    /// As [`from_metadata`](TemplateSources::from_metadata) and [`from_files`](TemplateSources::from_files).
    pub fn from_source(source: &Source) -> Result<TemplateSources> {
        match source.kind {
            SourceKind::Gguf => TemplateSources::from_metadata(&source.metadata),
            SourceKind::HuggingFace => TemplateSources::from_files(
                source.tokenizer_config_json()?.as_deref(),
                source.chat_template_jinja()?.as_deref(),
                source.chat_template_json()?.as_deref(),
            ),
        }
    }

    /// `tokenizer.chat_template` and `tokenizer.chat_template.<name>` of a GGUF file.
    ///
    /// # Errors
    /// A key that is not text.
    pub fn from_metadata(metadata: &Metadata) -> Result<TemplateSources> {
        let mut sources =
            TemplateSources { default: metadata.string(KEY)?.map(str::to_owned), named: Vec::new() };
        for (key, value) in metadata.iter() {
            if let (Some(name), Value::String(source)) =
                (key.strip_prefix(KEY).and_then(|rest| rest.strip_prefix('.')), value)
            {
                sources.named.push((name.to_owned(), source.clone()));
            }
        }
        Ok(sources)
    }

    /// The templates of a Hugging Face folder: `chat_template` of tokenizer_config.json, a text or a list of names and
    /// texts; chat_template.jinja and the `chat_template` of chat_template.json, where present, come before it.
    ///
    /// # Errors
    /// [`Error::Json`] for malformed files.
    pub fn from_files(
        config: Option<&[u8]>,
        jinja: Option<&[u8]>,
        chat_template_json: Option<&[u8]>,
    ) -> Result<TemplateSources> {
        let mut sources = TemplateSources::default();
        for (file, bytes) in [("tokenizer_config.json", config), ("chat_template.json", chat_template_json)] {
            let Some(bytes) = bytes else { continue };
            sources.add(file, &parse_json(file, bytes)?["chat_template"])?;
        }
        if let Some(jinja) = jinja {
            let file = "chat_template.jinja";
            let text = std::str::from_utf8(jinja)
                .map_err(|error| Error::Json { file, message: format!("is not UTF-8: {error}") })?;
            sources.default = Some(text.to_owned());
        }
        Ok(sources)
    }

    fn add(&mut self, file: &'static str, value: &serde_json::Value) -> Result<()> {
        if let Some(source) = value.as_str() {
            self.default = Some(source.to_owned());
            return Ok(());
        }
        for entry in value.as_array().into_iter().flatten() {
            let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str()) else {
                let message = "`chat_template` has an entry without `name` and `template`".into();
                return Err(Error::Json { file, message });
            };
            match name {
                "default" => self.default = Some(source.to_owned()),
                _ => self.named.push((name.to_owned(), source.to_owned())),
            }
        }
        Ok(())
    }

    /// The template to use: `name`, when one is asked for; otherwise `tool_use` for conversations with tools, where
    /// there is one; otherwise the default.
    ///
    /// # Errors
    /// [`Error::NoTemplate`].
    pub fn choose(&self, name: Option<&str>, tools: bool) -> Result<&str> {
        let named = |wanted: &str| {
            self.named.iter().find(|(name, _)| name == wanted).map(|(_, source)| source.as_str())
        };
        let found = match name {
            Some("default") => self.default.as_deref(),
            Some(name) => named(name),
            None => named("tool_use").filter(|_| tools).or(self.default.as_deref()),
        };
        found.ok_or_else(|| Error::NoTemplate { name: name.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_holds_a_default_and_variants() {
        let mut metadata = Metadata::default();
        assert!(matches!(
            TemplateSources::default().choose(None, false),
            Err(Error::NoTemplate { name: None })
        ));
        metadata.insert(KEY, Value::String("d".into()));
        metadata.insert("tokenizer.chat_template.tool_use", Value::String("t".into()));
        metadata.insert("tokenizer.chat_templates", Value::Strings(["tool_use"].into_iter().collect()));
        let sources = TemplateSources::from_metadata(&metadata).unwrap();
        assert_eq!(sources.choose(None, false).unwrap(), "d");
        assert_eq!(sources.choose(None, true).unwrap(), "t");
        assert_eq!(sources.choose(Some("default"), true).unwrap(), "d");
        let missing = sources.choose(Some("rag"), false).unwrap_err().to_string();
        assert!(missing.contains("`rag`"), "{missing}");
    }

    #[test]
    fn folders_keep_templates_in_three_places() {
        let text = br#"{"chat_template": "a"}"#;
        let list =
            br#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "rag", "template": "r"}]}"#;
        let read =
            |config: &[u8], jinja: Option<&[u8]>| TemplateSources::from_files(Some(config), jinja, None);
        assert_eq!(read(text, None).unwrap().default.as_deref(), Some("a"));
        assert_eq!(read(list, None).unwrap().choose(Some("rag"), false).unwrap(), "r");
        assert_eq!(read(list, Some(b"j")).unwrap().choose(None, false).unwrap(), "j");
        assert!(matches!(read(br#"{"chat_template": [{}]}"#, None), Err(Error::Json { .. })));
    }
}
