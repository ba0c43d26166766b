//! Tokenizers from GGUF metadata (`tokenizer.ggml.*`).

use ingle_model::Metadata;
use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};

use super::added::{AddedToken, Matcher};
use super::bpe::{self, Bpe};
use super::pipeline::{Added, AddedTokens, Pipeline, WordModel, component};
use super::sentencepiece::{SPACE, SentencePiece};
use super::special::SpecialIds;
use super::vocabulary::{Spelling, TokenKind, Vocabulary};
use super::{Model, Parts, pre, wordpiece};
use crate::error::{Error, Result, excerpt};

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const KNOWN: &str = "gpt2, llama, gemma4, bert";

/// The parts of the tokenizer `metadata` describes.
pub(crate) fn parts(metadata: &Metadata) -> Result<Parts> {
    let key = "tokenizer.ggml.model";
    let model = metadata.string(key)?.ok_or_else(|| Error::MissingKey { key: key.into() })?;
    let spelling = match model {
        "gpt2" => Spelling::ByteLevel,
        "llama" | "gemma4" => Spelling::Spaces(SPACE),
        "bert" => Spelling::PhantomSpaces,
        _ => return Err(Error::UnknownModel { model: excerpt(model), known: KNOWN.into() }),
    };
    let vocabulary = vocabulary(metadata, &spelling)?;
    let special = special(metadata, &vocabulary)?;
    let flag = |key: &str, default: bool| -> Result<bool> { Ok(metadata.flag(key)?.unwrap_or(default)) };
    let adds_space = flag("tokenizer.ggml.add_space_prefix", model == "llama")?;
    let adds_bos = flag("tokenizer.ggml.add_bos_token", matches!(model, "llama" | "bert"))?;
    let adds_eos = flag("tokenizer.ggml.add_eos_token", false)?;
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    if adds_bos {
        prefix.extend(special.bos);
    }
    if adds_eos {
        suffix.extend(special.eos);
    }
    let mut strips_space = false;
    let model = match model {
        "gpt2" => Model::Pipeline(Box::new(byte_level(metadata, &vocabulary)?)),
        "gemma4" => Model::Pipeline(Box::new(gemma4(metadata, &vocabulary, &special)?)),
        "bert" => {
            prefix = special.cls.or(special.bos).filter(|_| adds_bos).into_iter().collect();
            suffix = special.sep.or(special.eos).into_iter().collect();
            strips_space = true;
            let key = "tokenizer.ggml.unknown_token_id";
            let unknown = special.unknown.or_else(|| vocabulary.id_of("[UNK]"));
            let unknown = unknown.ok_or_else(|| Error::MissingKey { key: key.into() })?;
            Model::Pipeline(Box::new(wordpiece::build(&vocabulary, unknown)?))
        }
        _ => {
            let scores = metadata.floats(SCORES)?.ok_or_else(|| Error::MissingKey { key: SCORES.into() })?;
            same_length(SCORES, vocabulary.len(), scores.len())?;
            strips_space = adds_space;
            let model = SentencePiece::new(&vocabulary, scores, special.unknown, adds_space)?;
            Model::SentencePiece(Box::new(model))
        }
    };
    let control = vocabulary.iter().filter_map(|(id, text, kind)| match kind {
        TokenKind::Control | TokenKind::Unknown => Some(AddedToken::plain(id, text)),
        _ => None,
    });
    let control = Matcher::new(control)?;
    Ok(Parts { vocabulary, model, special, control, prefix, suffix, adds_bos, strips_space })
}

fn vocabulary(metadata: &Metadata, spelling: &Spelling) -> Result<Vocabulary> {
    let tokens = metadata.strings(TOKENS)?.ok_or_else(|| Error::MissingKey { key: TOKENS.into() })?;
    if tokens.is_empty() {
        return Err(Error::MissingKey { key: TOKENS.into() });
    }
    let kinds = metadata.integers(KINDS)?;
    if let Some(kinds) = &kinds {
        same_length(KINDS, tokens.len(), kinds.len())?;
    }
    let kinds = match kinds {
        Some(kinds) => kinds.into_iter().map(TokenKind::from_gguf).collect(),
        None => vec![TokenKind::Normal; tokens.len()],
    };
    Vocabulary::new(tokens.clone(), kinds, spelling)
}

fn same_length(key: &str, expected: usize, found: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::LengthMismatch { key: key.into(), expected, found }),
    }
}

fn special(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<SpecialIds> {
    let id = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        // Some writers store -1, or the largest number, for "none".
        if let Some(&ingle_model::Value::Signed(-1, _)) = metadata.get(&key) {
            return Ok(None);
        }
        match metadata.count(&key)? {
            None => Ok(None),
            Some(id) if id == u32::MAX as usize => Ok(None),
            Some(id) if id < vocabulary.len() => Ok(u32::try_from(id).ok()),
            Some(id) => Err(Error::IdOutOfRange { what: key, id: id as u64, size: vocabulary.len() }),
        }
    };
    let mut special = SpecialIds {
        bos: id("bos")?,
        eos: id("eos")?,
        eot: id("eot")?,
        pad: id("padding")?,
        unknown: id("unknown")?,
        cls: id("cls")?,
        // The format's own spelling, and the one some writers use.
        sep: id("seperator")?.or(id("separator")?),
        ends: id("eom")?.into_iter().collect(),
    };
    special.complete(vocabulary);
    Ok(special)
}

fn bpe(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    pieces: Vec<bool>,
    options: bpe::Options,
) -> Result<WordModel> {
    let rules = metadata.strings(MERGES)?.ok_or_else(|| Error::MissingKey { key: MERGES.into() })?;
    let merges = rules.iter().enumerate().map(|(index, rule)| bpe::parse_merge(index, rule));
    Ok(WordModel::Bpe(Bpe::new(vocabulary, pieces, merges, options)?))
}

/// By id, whether BPE may make the token; and the tokens found whole. Control tokens are kept out of the model: they
/// must not come out of text, whatever it says.
fn split_vocabulary(vocabulary: &Vocabulary) -> (Vec<bool>, Vec<Added>) {
    let mut pieces = Vec::with_capacity(vocabulary.len());
    let mut added = Vec::new();
    for (id, text, kind) in vocabulary.iter() {
        let control = matches!(kind, TokenKind::Control | TokenKind::Unknown);
        if (control || kind == TokenKind::UserDefined) && !text.is_empty() {
            added.push(Added { token: AddedToken::plain(id, text), control, normalised: false });
        }
        pieces.push(!control);
    }
    (pieces, added)
}

fn byte_level(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Pipeline> {
    let pre = pre::build(metadata.string("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let (pieces, added) = split_vocabulary(vocabulary);
    let options = bpe::Options { whole_words_first: pre.whole_words_first, ..bpe::Options::default() };
    Ok(Pipeline {
        added: AddedTokens::new(&added)?,
        normaliser: pre.normaliser,
        pre_tokeniser: Some(pre.pre_tokeniser),
        model: bpe(metadata, vocabulary, pieces, options)?,
    })
}

/// Gemma 4: merge rules over text whose spaces are `▁`, unknown characters as bytes, no words.
fn gemma4(metadata: &Metadata, vocabulary: &Vocabulary, special: &SpecialIds) -> Result<Pipeline> {
    let (mut pieces, added) = split_vocabulary(vocabulary);
    if let Some(piece) = special.unknown.and_then(|id| pieces.get_mut(id as usize)) {
        *piece = true;
    }
    let options = bpe::Options {
        unknown: special.unknown,
        fuse_unknown: true,
        byte_fallback: true,
        ..bpe::Options::default()
    };
    let escape = Replace::new(ReplacePattern::String(" ".into()), SPACE).map_err(component)?;
    Ok(Pipeline {
        added: AddedTokens::new(&added)?,
        normaliser: Some(NormalizerWrapper::Replace(escape)),
        pre_tokeniser: None,
        model: bpe(metadata, vocabulary, pieces, options)?,
    })
}
