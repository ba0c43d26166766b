//! Tokenizers from tokenizer.json, with tokenizer_config.json beside it for the roles of its special tokens.
//!
//! The components are read one by one and not as a whole by the `tokenizers` library: a few of them panic on data
//! that no published file has, so their data is looked at first.

use std::collections::BTreeMap;

use ahash::{AHashMap, AHashSet};
use ingle_model::StringList;
use serde_json::Value;
use tokenizers::{
    Encoding, NormalizedString, Normalizer as _, NormalizerWrapper, PostProcessor as _, PostProcessorWrapper,
    PreTokenizerWrapper, Token,
};

use super::added::{AddedToken, Matcher};
use super::bpe::{self, Bpe};
use super::pipeline::{Added, AddedTokens, Pipeline, WordModel, component};
use super::special::SpecialIds;
use super::vocabulary::{MAX_TOKENS, Spelling, TokenKind, Vocabulary, byte_of_text};
use super::{Model, Parts};
use crate::error::{Error, Result, excerpt};

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// The parts of the tokenizer these files describe.
pub(crate) fn parts(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Parts> {
    let mut root = parse(FILE, tokenizer)?;
    let config = config.map(|bytes| parse(CONFIG, bytes)).transpose()?.unwrap_or(Value::Null);

    check_components(&root["normalizer"])?;
    check_components(&root["pre_tokenizer"])?;
    let normaliser: Option<NormalizerWrapper> = component_of(&root["normalizer"], "normalizer")?;
    let pre_tokeniser: Option<PreTokenizerWrapper> = component_of(&root["pre_tokenizer"], "pre_tokenizer")?;
    let post_processor: Option<PostProcessorWrapper> =
        component_of(&root["post_processor"], "post_processor")?;

    let unknown = root["model"]["unk_token"].as_str().map(str::to_owned);
    let mut model = ModelMembers::new(root["model"].take())?;
    let mut texts = model.take_vocabulary()?;
    let models_own: Vec<u32> = texts.keys().copied().collect();
    let added = read_added(&root["added_tokens"], &mut texts, normaliser.as_ref())?;

    let spelling = spelling(&root["decoder"], &root["pre_tokenizer"]);
    let strips_space = strips_space(&root["decoder"]) || matches!(spelling, Spelling::Continuation(_));
    let vocabulary = vocabulary(texts, model.flag("byte_fallback"), &spelling)?;
    let model = model.build(&vocabulary, &models_own)?;

    let special = special(&config, unknown.as_deref(), &vocabulary);
    let (mut prefix, suffix) = around(post_processor.as_ref())?;
    for &id in prefix.iter().chain(&suffix) {
        if vocabulary.text(id).is_none() {
            let what = "a token of the post_processor".to_owned();
            return Err(Error::IdOutOfRange { what, id: u64::from(id), size: vocabulary.len() });
        }
    }
    let begins = special.bos.is_some_and(|bos| prefix.first() == Some(&bos));
    match (config["add_bos_token"].as_bool(), special.bos) {
        (Some(true), Some(bos)) if !begins => prefix.insert(0, bos),
        (Some(false), _) if begins => drop(prefix.remove(0)),
        _ => {}
    }
    let adds_bos = special.bos.or(special.cls).is_some_and(|bos| prefix.contains(&bos));
    let written = |added: &Added| {
        let text = vocabulary.text(added.token.id).unwrap_or_default().to_owned();
        AddedToken { text, ..added.token.clone() }
    };
    let control = Matcher::new(added.iter().filter(|added| added.control).map(written))?;
    let pipeline = Pipeline { added: AddedTokens::new(&added)?, normaliser, pre_tokeniser, model };
    Ok(Parts {
        vocabulary,
        model: Model::Pipeline(Box::new(pipeline)),
        special,
        control,
        prefix,
        suffix,
        adds_bos,
        strips_space,
    })
}

pub(crate) fn parse(file: &'static str, bytes: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::Json { file, message: format!("not valid JSON: {error}") })?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Error::Json { file, message: "is not a JSON object".into() }),
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::Json { file: FILE, message: message.into() }
}

fn component_of<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Result<Option<T>> {
    if value.is_null() {
        return Ok(None);
    }
    T::deserialize(value).map(Some).map_err(|error| wrong(format!("`{name}`: {error}")))
}

/// Refuses components whose data can make the library panic.
fn check_components(value: &Value) -> Result<()> {
    for list in ["normalizers", "pretokenizers"] {
        for part in value[list].as_array().into_iter().flatten() {
            check_components(part)?;
        }
    }
    match value["type"].as_str() {
        // Its trie is walked without looking at its bounds.
        Some("Precompiled") => Err(Error::Unsupported { what: "a precompiled character map".into() }),
        Some("FixedLength") if value["length"].as_u64() == Some(0) => {
            Err(wrong("`pre_tokenizer` cuts text into pieces of length 0"))
        }
        _ => Ok(()),
    }
}

fn checked_id(id: Option<u64>, text: &str) -> Result<u32> {
    match id.and_then(|id| u32::try_from(id).ok()) {
        Some(id) if (id as usize) < MAX_TOKENS => Ok(id),
        _ => Err(Error::IdOutOfRange {
            what: format!("{:?}", excerpt(text)),
            id: id.unwrap_or(u64::MAX),
            size: MAX_TOKENS,
        }),
    }
}

/// Texts and kinds by id.
type Texts = BTreeMap<u32, (String, TokenKind)>;

fn insert(texts: &mut Texts, id: u32, text: String, kind: TokenKind) -> Result<()> {
    match texts.insert(id, (text, kind)) {
        None => Ok(()),
        Some((other, _)) => {
            let reason = "has the id of another token";
            Err(Error::BadToken { id, text: excerpt(&other), reason })
        }
    }
}

/// All tokens; ids that no text has are holes.
fn vocabulary(texts: Texts, byte_tokens: bool, spelling: &Spelling) -> Result<Vocabulary> {
    let count = texts.last_key_value().map_or(0, |(&id, _)| id as usize + 1);
    let (mut list, mut kinds) = (StringList::with_capacity(count), Vec::with_capacity(count));
    for (id, (text, kind)) in texts {
        let byte = byte_tokens && kind == TokenKind::Normal && byte_of_text(&text).is_some();
        let mut fits = true;
        while list.len() < id as usize {
            fits &= list.push("");
            kinds.push(TokenKind::Unused);
        }
        fits &= list.push(&text);
        kinds.push(if byte { TokenKind::Byte } else { kind });
        if !fits {
            return Err(wrong("the vocabulary is more than 4 GiB of text"));
        }
    }
    list.shrink_to_fit();
    Vocabulary::new(list, kinds, spelling)
}

/// The document's `model`.
struct ModelMembers {
    kind: String,
    members: serde_json::Map<String, Value>,
}

impl ModelMembers {
    fn new(value: Value) -> Result<ModelMembers> {
        let Value::Object(members) = value else { return Err(Error::MissingKey { key: "model".into() }) };
        // Files from before the key existed hold a BPE model.
        let kind = members.get("type").and_then(Value::as_str).unwrap_or("BPE").to_owned();
        match kind.as_str() {
            "BPE" | "WordPiece" | "WordLevel" | "Unigram" => Ok(ModelMembers { kind, members }),
            _ => {
                let known = "BPE, WordPiece, WordLevel, Unigram".to_owned();
                Err(Error::UnknownModel { model: excerpt(&kind), known })
            }
        }
    }

    /// A text; an empty one is how some files write "none".
    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.members.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The model's tokens. They stay in the members only where the library reads them there once more.
    fn take_vocabulary(&mut self) -> Result<Texts> {
        let mut texts = Texts::new();
        if self.kind == "Unigram" {
            let vocabulary = self.members.get("vocab").and_then(Value::as_array);
            for (id, entry) in vocabulary.into_iter().flatten().enumerate() {
                let text =
                    entry[0].as_str().ok_or_else(|| wrong(format!("`model.vocab[{id}]` is not a piece")))?;
                insert(&mut texts, checked_id(Some(id as u64), text)?, text.to_owned(), TokenKind::Normal)?;
            }
            return Ok(texts);
        }
        let vocabulary = match self.members.get_mut("vocab") {
            Some(vocabulary) if self.kind == "BPE" => vocabulary.take(),
            Some(vocabulary) => vocabulary.clone(),
            None => Value::Null,
        };
        let Value::Object(vocabulary) = vocabulary else {
            return Err(Error::MissingKey { key: "model.vocab".into() });
        };
        for (text, id) in vocabulary {
            insert(&mut texts, checked_id(id.as_u64(), &text)?, text, TokenKind::Normal)?;
        }
        Ok(texts)
    }

    /// The model, whose own tokens have the ids `own`; the vocabulary may have added ones besides.
    fn build(self, vocabulary: &Vocabulary, own: &[u32]) -> Result<WordModel> {
        if self.kind == "BPE" {
            return Ok(WordModel::Bpe(self.build_bpe(vocabulary, own)?));
        }
        let ModelMembers { kind, mut members } = self;
        members.insert("type".into(), Value::String(kind));
        let model = serde_json::from_value(Value::Object(members));
        Ok(WordModel::Library(Box::new(model.map_err(|error| wrong(format!("`model`: {error}")))?)))
    }

    fn build_bpe(&self, vocabulary: &Vocabulary, own: &[u32]) -> Result<Bpe> {
        let Some(Value::Array(rules)) = self.members.get("merges") else {
            return Err(Error::MissingKey { key: "model.merges".into() });
        };
        let mut pieces = vec![false; vocabulary.len()];
        own.iter().for_each(|&id| pieces[id as usize] = true);
        let id_of = |text: &str| vocabulary.id_of(text).filter(|&id| pieces[id as usize]);
        let unknown = match self.text("unk_token") {
            None => None,
            Some(text) => Some(id_of(text).ok_or_else(|| Error::Component {
                message: format!("the unknown token {text:?} is not in the vocabulary"),
            })?),
        };
        let options = bpe::Options {
            unknown,
            fuse_unknown: self.flag("fuse_unk"),
            byte_fallback: self.flag("byte_fallback"),
            whole_words_first: self.flag("ignore_merges"),
            continuing_prefix: self.text("continuing_subword_prefix").unwrap_or_default().to_owned(),
            word_suffix: self.text("end_of_word_suffix").unwrap_or_default().to_owned(),
        };
        let merges = rules.iter().enumerate().map(|(index, rule)| match rule {
            Value::String(rule) => bpe::parse_merge(index, rule),
            rule => match (rule[0].as_str(), rule[1].as_str()) {
                (Some(left), Some(right)) => Ok((left, right)),
                _ => {
                    let rule = excerpt(&rule.to_string());
                    Err(Error::BadMerge { index, rule, reason: "is not a pair of pieces" })
                }
            },
        });
        Bpe::new(vocabulary, pieces, merges, options)
    }
}

fn read_added(list: &Value, texts: &mut Texts, normaliser: Option<&NormalizerWrapper>) -> Result<Vec<Added>> {
    let entries = || list.as_array().into_iter().flatten();
    let wanted: AHashSet<&str> = entries().filter_map(|entry| entry["content"].as_str()).collect();
    let known = texts.iter().filter(|(_, (text, _))| wanted.contains(text.as_str()));
    let mut ids: AHashMap<String, u32> = known.map(|(&id, (text, _))| (text.clone(), id)).collect();
    let mut added = Vec::new();
    for entry in entries() {
        let text = entry["content"].as_str().ok_or_else(|| wrong("an added token has no `content`"))?;
        if text.is_empty() {
            continue;
        }
        let control = entry["special"].as_bool().unwrap_or(false);
        let kind = if control { TokenKind::Control } else { TokenKind::UserDefined };
        // A token the model has keeps the model's id, as in the library.
        let id = match ids.get(text) {
            Some(&id) => {
                texts.insert(id, (text.to_owned(), kind));
                id
            }
            None => {
                let id = checked_id(entry["id"].as_u64(), text)?;
                insert(texts, id, text.to_owned(), kind)?;
                ids.insert(text.to_owned(), id);
                id
            }
        };
        let flag = |name: &str| entry[name].as_bool().unwrap_or(false);
        let normalised = entry["normalized"].as_bool().unwrap_or(!control);
        let mut find = text.to_owned();
        if let (true, Some(normaliser)) = (normalised, normaliser) {
            let mut string = NormalizedString::from(text);
            normaliser.normalize(&mut string).map_err(component)?;
            find = string.get().to_owned();
        }
        added.push(Added {
            token: AddedToken {
                id,
                text: find,
                takes_left: flag("lstrip"),
                takes_right: flag("rstrip"),
                whole_word: flag("single_word"),
            },
            control,
            normalised,
        });
    }
    Ok(added)
}

/// How tokens spell bytes, as far as the decoder says.
fn spelling(decoder: &Value, pre_tokeniser: &Value) -> Spelling {
    let steps: Vec<&Value> = match decoder["decoders"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![decoder],
    };
    for step in steps {
        match step["type"].as_str() {
            Some("ByteLevel") => return Spelling::ByteLevel,
            Some("Replace") if step["content"] == " " => {
                let pattern = step["pattern"]["String"].as_str().unwrap_or_default();
                if let (Some(space), 1) = (pattern.chars().next(), pattern.chars().count()) {
                    return Spelling::Spaces(space);
                }
            }
            Some("Metaspace") => {
                let space = step["replacement"].as_str().and_then(|text| text.chars().next());
                return Spelling::Spaces(space.unwrap_or(super::sentencepiece::SPACE));
            }
            Some("WordPiece") => {
                return Spelling::Continuation(step["prefix"].as_str().unwrap_or("##").to_owned());
            }
            Some("BPEDecoder") => {
                return Spelling::WordEnd(step["suffix"].as_str().unwrap_or("</w>").to_owned());
            }
            _ => {}
        }
    }
    // Without a decoder the pre-tokeniser still says whether the alphabet is bytes.
    let parts = pre_tokeniser["pretokenizers"].as_array();
    let byte_level = |part: &Value| part["type"] == "ByteLevel";
    match byte_level(pre_tokeniser) || parts.is_some_and(|parts| parts.iter().any(byte_level)) {
        true => Spelling::ByteLevel,
        false => Spelling::Plain,
    }
}

/// Whether the decoder takes back a space that encoding puts before the text.
fn strips_space(decoder: &Value) -> bool {
    if let Some(steps) = decoder["decoders"].as_array() {
        return steps.iter().any(strips_space);
    }
    match decoder["type"].as_str() {
        Some("Strip") => {
            decoder["content"] == " " && decoder["start"].as_u64().is_some_and(|count| count > 0)
        }
        Some("Metaspace") => match decoder["prepend_scheme"].as_str() {
            Some(scheme) => scheme != "never",
            None => decoder["add_prefix_space"].as_bool().unwrap_or(true),
        },
        _ => false,
    }
}

fn special(config: &Value, unknown: Option<&str>, vocabulary: &Vocabulary) -> SpecialIds {
    // A text, or an object with the text as its content.
    let id = |name: &str| {
        let entry = &config[name];
        vocabulary.id_of(entry.as_str().or_else(|| entry["content"].as_str())?)
    };
    let mut special = SpecialIds {
        bos: id("bos_token"),
        eos: id("eos_token"),
        eot: id("eot_token"),
        pad: id("pad_token"),
        unknown: id("unk_token").or_else(|| vocabulary.id_of(unknown?)),
        cls: id("cls_token"),
        sep: id("sep_token"),
        ends: Vec::new(),
    };
    special.complete(vocabulary);
    special
}

/// The tokens the post-processor puts before and after a text.
fn around(post_processor: Option<&PostProcessorWrapper>) -> Result<(Vec<u32>, Vec<u32>)> {
    // No vocabulary reaches this id.
    const TEXT: u32 = u32::MAX;
    let Some(post_processor) = post_processor else { return Ok((Vec::new(), Vec::new())) };
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let encoding = post_processor.process(text, None, true).map_err(component)?;
    match encoding.get_ids().iter().position(|&id| id == TEXT) {
        Some(at) => Ok((encoding.get_ids()[..at].to_vec(), encoding.get_ids()[at + 1..].to_vec())),
        None => Err(wrong("`post_processor` leaves the text out")),
    }
}
