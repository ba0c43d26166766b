//! What is shown of a model, gathered once for both forms of output.

use super::network;
use crate::figures::{bytes, grouped, rounded};
use crate::{errors, opening};
use anyhow::{Context, Result};
use ingle_model::source::SourceKind;
use ingle_model::spec::{KvBytes, KvFormat, ModelSpec};
use ingle_model::{Format, Source};
use ingle_text::{ChatTemplate, Dialect, Message, Moment, Tokenizer, render_prompt};
use serde_json::{Value, json};

/// Everything but the network itself.
pub(super) struct Facts {
    /// Name, origin, licence, size.
    pub(super) about: Vec<(&'static str, String)>,
    /// Formats by bytes, largest first.
    pub(super) formats: Vec<FormatShare>,
    /// Needs at several context lengths.
    pub(super) memory: Vec<Memory>,
    /// Bytes free now, where the system says.
    pub(super) available: Option<u64>,
    /// Tokenizer and chat template.
    pub(super) text: Vec<(String, String)>,
    /// Why they cannot be used, if they cannot.
    pub(super) text_problem: Option<String>,
    /// Why the model cannot be run, if it cannot.
    pub(super) problem: Option<String>,
    /// `text` for programs.
    text_json: Value,
    file_bytes: u64,
    files: Vec<String>,
}

/// One format's part of the file.
pub(super) struct FormatShare {
    pub(super) format: Format,
    pub(super) tensors: usize,
    pub(super) weights: u64,
    pub(super) bytes: u64,
}

impl FormatShare {
    /// Bits that one weight takes, scales included.
    pub(super) fn bits_per_weight(&self) -> f64 {
        per_weight(self.bytes, self.weights)
    }
}

/// What a context length needs.
pub(super) struct Memory {
    pub(super) context: u64,
    pub(super) weights: u64,
    pub(super) kv: u64,
}

impl Memory {
    /// What is remarkable about the length.
    pub(super) fn note(&self, made_for: u64) -> &'static str {
        match self.context.cmp(&made_for) {
            std::cmp::Ordering::Less => "",
            std::cmp::Ordering::Equal => "  the model's own context",
            std::cmp::Ordering::Greater => "  more than the model was made for",
        }
    }
}

impl Facts {
    /// `spec` and `problem`: the network, or why there is none.
    pub(super) fn gather(
        source: &Source,
        spec: Option<&ModelSpec>,
        problem: Option<String>,
        context: Option<u64>,
    ) -> Facts {
        let text = text_facts(source, spec);
        Facts {
            about: about(source, spec),
            formats: formats(source),
            memory: spec.map(|spec| memory(spec, context)).unwrap_or_default(),
            available: ingle_engine::memory::available(),
            text: text.lines,
            text_problem: text.problem,
            problem,
            text_json: text.document,
            file_bytes: source.file_bytes(),
            files: source.files().map(|file| file.display().to_string()).collect(),
        }
    }

    /// Mean over the whole file.
    pub(super) fn bits_per_weight(&self) -> f64 {
        let sum = |count: fn(&FormatShare) -> u64| self.formats.iter().map(count).sum();
        per_weight(sum(|share| share.bytes), sum(|share| share.weights))
    }

    pub(super) fn json(&self, spec: Option<&ModelSpec>) -> Value {
        let formats = self.formats.iter().map(|share| {
            json!({
                "format": share.format.name(), "tensors": share.tensors, "weights": share.weights,
                "bytes": share.bytes, "bits_per_weight": share.bits_per_weight(),
            })
        });
        let memory = self
            .memory
            .iter()
            .map(|row| json!({ "context": row.context, "weight_bytes": row.weights, "kv_bytes": row.kv }));
        let about: serde_json::Map<String, Value> =
            self.about.iter().map(|(label, value)| ((*label).to_owned(), json!(value))).collect();
        json!({
            "architecture": self.about_value("architecture"),
            "name": self.about_value("name"),
            "problem": self.problem,
            "parameters": spec.map(ModelSpec::parameters),
            "active_parameters": spec.map(ModelSpec::active_parameters),
            "file_bytes": self.file_bytes,
            "files": self.files,
            "about": about,
            "network": spec.map(network::json),
            "formats": formats.collect::<Vec<_>>(),
            "bits_per_weight": self.bits_per_weight(),
            "memory": memory.collect::<Vec<_>>(),
            "memory_available": self.available,
            "text": self.text_json,
            "notices": spec.map(|spec| &spec.notices),
            "unused_tensors": spec.map(|spec| &spec.unused),
        })
    }
}

impl Facts {
    fn about_value(&self, label: &str) -> Option<&str> {
        self.about.iter().find(|(known, _)| *known == label).map(|(_, value)| value.as_str())
    }
}

fn per_weight(bytes: u64, weights: u64) -> f64 {
    if weights == 0 { 0.0 } else { bytes as f64 * 8.0 / weights as f64 }
}

fn about(source: &Source, spec: Option<&ModelSpec>) -> Vec<(&'static str, String)> {
    let mut about = Vec::new();
    let from_header = |key: &str| source.metadata.string(key).ok().flatten().map(str::to_owned);
    let mut add = |label, value: Option<String>| about.extend(value.map(|value| (label, value)));
    match spec {
        Some(spec) => {
            add("name", spec.name.clone());
            add("architecture", Some(spec.architecture.clone()));
        }
        None => {
            let hub = |pointer| source.config.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            add("name", from_header("general.name").or_else(|| hub("/_name_or_path")));
            add("architecture", from_header("general.architecture").or_else(|| hub("/architectures/0")));
        }
    }
    add("author", from_header("general.author").or_else(|| from_header("general.organization")));
    add("licence", from_header("general.license").or_else(|| card_licence(source)));
    let layout = match source.kind {
        SourceKind::Gguf => "GGUF",
        SourceKind::HuggingFace => "safetensors",
    };
    let files = source.files().len();
    let count = if files == 1 { "1 file".into() } else { format!("{files} files") };
    add("size", Some(format!("{} in {count}, {layout}", bytes(source.file_bytes()))));
    let Some(spec) = spec else { return about };
    let (all, active) = (spec.parameters(), spec.active_parameters());
    add("parameters", Some(format!("{} ({})", grouped(all), rounded(all))));
    if active != all {
        add("active", Some(format!("{} ({}) per token", grouped(active), rounded(active))));
    }
    about
}

/// The `license:` of a Hugging Face folder's model card.
fn card_licence(source: &Source) -> Option<String> {
    let card = source.document("README.md").ok()??;
    let card = String::from_utf8_lossy(&card);
    let header = card.strip_prefix("---")?.split("\n---").next()?;
    let value = header.lines().find_map(|line| line.strip_prefix("license:"))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
}

fn formats(source: &Source) -> Vec<FormatShare> {
    let mut shares: Vec<FormatShare> = Vec::new();
    for tensor in source.tensors() {
        let weights = tensor.shape.iter().map(|&size| size as u64).product::<u64>();
        let bytes = tensor.bytes as u64;
        match shares.iter_mut().find(|share| share.format == tensor.format) {
            Some(share) => {
                share.tensors += 1;
                share.weights = share.weights.saturating_add(weights);
                share.bytes = share.bytes.saturating_add(bytes);
            }
            None => shares.push(FormatShare { format: tensor.format, tensors: 1, weights, bytes }),
        }
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

/// One length, or powers of two from 4096 to the model's own context.
fn memory(spec: &ModelSpec, context: Option<u64>) -> Vec<Memory> {
    const FIRST: u64 = 4096;
    let own = spec.context as u64;
    let lengths = match context {
        Some(length) => vec![length],
        None => {
            let doubled = std::iter::successors(Some(FIRST), |length| length.checked_mul(2));
            doubled.take_while(|&length| length < own).chain([own]).collect()
        }
    };
    let need = |context| Memory {
        context,
        weights: spec.resident_bytes(),
        kv: spec.kv_bytes(context, KvBytes::of(KvFormat::default())) as u64,
    };
    lengths.into_iter().map(need).collect()
}

/// Tokenizer and chat template: lines for people, a document for programs, and what makes them unusable.
struct Text {
    lines: Vec<(String, String)>,
    document: Value,
    problem: Option<String>,
}

fn text_facts(source: &Source, spec: Option<&ModelSpec>) -> Text {
    let mut lines = Vec::new();
    let tokenizer = opening::tokenizer(source);
    let mut document = match &tokenizer {
        Ok(tokenizer) => tokenizer_facts(tokenizer, source, spec, &mut lines),
        Err(_) => json!({}),
    };
    let template = match &tokenizer {
        Ok(_) if spec.is_some_and(|spec| spec.head.is_none()) => {
            Ok("none needed: the model makes embeddings (`ingle embed`)".into())
        }
        Ok(tokenizer) => chat_template(source, tokenizer),
        Err(_) => Ok("not tried: it needs the tokenizer".into()),
    };
    let problem = tokenizer.as_ref().err().or(template.as_ref().err()).map(errors::line);
    let template = template.unwrap_or_else(|_| "unusable".into());
    document["chat_template"] = json!(template);
    document["unusable"] = json!(problem);
    lines.push(("chat template".into(), template));
    Text { lines, document, problem }
}

/// What the chat template is, after a trial with the shortest of conversations.
fn chat_template(source: &Source, tokenizer: &Tokenizer) -> Result<String> {
    let name = || format!("cannot use the chat template of {}", source.path.display());
    if let Some(text) = opening::template(source, true)? {
        ChatTemplate::new(&text).with_context(name)?;
    }
    let Some(text) = opening::template(source, false)? else {
        let dialect = Dialect::detect(None, Some(tokenizer));
        if ChatTemplate::built_in(&dialect).is_some() {
            let name = dialect.name();
            return Ok(format!("none, but the vocabulary is that of the {name} format, which is used"));
        }
        return Ok("none: the model continues text and is not made for conversations".into());
    };
    let template = ChatTemplate::new(&text).with_context(name)?;
    let hello = [Message::new("user", "Hello")];
    render_prompt(&template, tokenizer, &hello, None, &serde_json::Map::new(), Moment::now())
        .with_context(name)?;
    let switch = text.contains(opening::THINKING[0]);
    Ok(if switch { "yes, and reasoning can be switched (--no-think)" } else { "yes" }.into())
}

fn tokenizer_facts(
    tokenizer: &Tokenizer,
    source: &Source,
    spec: Option<&ModelSpec>,
    lines: &mut Vec<(String, String)>,
) -> Value {
    let key = |key: &str| source.metadata.string(key).ok().flatten().map(str::to_owned);
    let kind = match (key("tokenizer.ggml.model"), key("tokenizer.ggml.pre")) {
        (Some(model), Some(pre)) => Some(format!("{model}, pre-tokeniser {pre}")),
        (model, _) => model,
    };
    let size = tokenizer.vocab_size();
    let padding = match spec.map(|spec| spec.vocabulary.saturating_sub(size)) {
        Some(0) | None => String::new(),
        Some(rows) => {
            format!(" (the network has {} rows, {} of them padding)", grouped((size + rows) as u64), rows)
        }
    };
    lines.push(("tokenizer".into(), kind.clone().unwrap_or_else(|| "tokenizer.json".into())));
    lines.push(("vocabulary".into(), format!("{} tokens{padding}", grouped(size as u64))));
    let named = |id: u32| format!("{id} {:?}", tokenizer.token_text(id).unwrap_or_default());
    let roles = [
        ("begin of text", tokenizer.bos()),
        ("end of text", tokenizer.eos()),
        ("end of turn", tokenizer.eot()),
        ("padding", tokenizer.pad()),
        ("unknown", tokenizer.unknown()),
    ];
    for (label, id) in roles {
        lines.extend(id.map(|id| (label.to_owned(), named(id))));
    }
    let ends: Vec<String> = tokenizer.end_of_generation().iter().map(|&id| named(id)).collect();
    lines.push(("answers end at".into(), if ends.is_empty() { "nothing".into() } else { ends.join(", ") }));
    let first = if tokenizer.add_bos() { "yes" } else { "no" };
    lines.push(("begins every text".into(), first.into()));
    json!({
        "tokenizer": kind, "vocabulary": size, "bos": tokenizer.bos(), "eos": tokenizer.eos(),
        "eot": tokenizer.eot(), "pad": tokenizer.pad(), "unknown": tokenizer.unknown(),
        "end_of_generation": tokenizer.end_of_generation(), "add_bos": tokenizer.add_bos(),
    })
}
