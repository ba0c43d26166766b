//! Text to token ids and back.

mod added;
mod bpe;
mod gguf;
mod json;
mod pipeline;
mod pre;
mod sentencepiece;
mod special;
mod vocabulary;
mod wordpiece;

use std::sync::Arc;

use ingle_model::source::SourceKind;
use ingle_model::{Metadata, Source};

pub(crate) use added::{Matcher, Piece};
pub(crate) use json::parse as parse_json;
use pipeline::Pipeline;
use sentencepiece::SentencePiece;
use special::SpecialIds;
pub use vocabulary::TokenKind;
use vocabulary::Vocabulary;

use crate::error::{Error, Result};

/// Whether control tokens written in a text mean themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// `<|im_end|>` in the text is the control token: for text that a program made.
    Parse,
    /// `<|im_end|>` in the text is ten characters: for text that a person wrote. User-defined tokens (`<think>`) are
    /// found all the same.
    AsText,
}

/// A model's tokenizer. Cloning is cheap: clones share one vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    parts: Arc<Parts>,
}

/// What the readers of GGUF and JSON make.
pub(crate) struct Parts {
    vocabulary: Vocabulary,
    model: Model,
    special: SpecialIds,
    /// Finds control tokens.
    control: Matcher,
    /// Put before a whole text.
    prefix: Vec<u32>,
    /// Put after a whole text.
    suffix: Vec<u32>,
    adds_bos: bool,
    /// Whether encoding puts a space before the text, which decoding takes back.
    strips_space: bool,
}

enum Model {
    Pipeline(Box<Pipeline>),
    SentencePiece(Box<SentencePiece>),
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata: `tokenizer.ggml.model` `gpt2` (with a known `tokenizer.ggml.pre`),
    /// `llama`, `gemma4` or `bert`.
    ///
    /// # Errors
    /// Missing keys, unknown kinds, lists of different lengths, duplicate tokens, ids outside the vocabulary, merge
    /// rules of unknown pieces: each names the key or token.
    pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer> {
        Ok(Tokenizer { parts: Arc::new(gguf::parts(metadata)?) })
    }

    /// The tokenizer of a Hugging Face folder: the bytes of tokenizer.json, and of tokenizer_config.json for the
    /// roles of special tokens (without it there is no BOS, EOS or padding).
    ///
    /// # Errors
    /// As [`from_metadata`](Tokenizer::from_metadata); malformed JSON with its line and column.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Tokenizer> {
        Ok(Tokenizer { parts: Arc::new(json::parts(tokenizer, config)?) })
    }

    /// The tokenizer of an opened model, from wherever its layout keeps it.
    ///
    /// # Errors
    /// As [`from_metadata`](Tokenizer::from_metadata) and [`from_json`](Tokenizer::from_json);
    /// [`Error::MissingKey`] for a folder without tokenizer.json.
    pub fn from_source(source: &Source) -> Result<Tokenizer> {
        match source.kind {
            SourceKind::Gguf => Tokenizer::from_metadata(&source.metadata),
            SourceKind::HuggingFace => {
                let tokenizer = source.tokenizer_json()?;
                let tokenizer =
                    tokenizer.ok_or_else(|| Error::MissingKey { key: "tokenizer.json".into() })?;
                Tokenizer::from_json(&tokenizer, source.tokenizer_config_json()?.as_deref())
            }
        }
    }

    /// The token ids of `text`, nothing added before or after.
    ///
    /// # Errors
    /// [`Error::Unencodable`] when the vocabulary has no token for a part of the text and no unknown token.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        match &self.parts.model {
            Model::Pipeline(pipeline) => pipeline.encode(&self.parts.vocabulary, text, specials),
            Model::SentencePiece(model) => model.encode(&self.parts.vocabulary, text, specials),
        }
    }

    /// The token ids of a whole text, with what the model was trained to see around one (BOS; for BERT `[CLS]` and
    /// `[SEP]`). A text that begins with a parsed BOS does not get a second one.
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode).
    pub fn encode_with_bos(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let inner = self.encode(text, specials)?;
        let parts = &*self.parts;
        let mut ids = Vec::with_capacity(parts.prefix.len() + inner.len() + parts.suffix.len());
        if parts.prefix.is_empty() || !inner.starts_with(&parts.prefix) {
            ids.extend(&parts.prefix);
        }
        ids.extend(inner);
        ids.extend(&parts.suffix);
        Ok(ids)
    }

    /// What [`encode_with_bos`](Tokenizer::encode_with_bos) puts after a text.
    pub fn suffix(&self) -> &[u32] {
        &self.parts.suffix
    }

    /// The text of `ids`, control tokens included as their text. Bytes that are no UTF-8 become U+FFFD; the space
    /// that encoding puts before a text, where it does, is taken back.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut strip = self.strips_space();
        for &id in ids {
            bytes.extend_from_slice(self.stripped_bytes(id, &mut strip)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The exact bytes token `id` stands for, `None` outside the vocabulary. Many tokens are parts of characters.
    /// Control tokens stand for their text.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.parts.vocabulary.bytes(id)
    }

    /// The text of token `id` as the vocabulary spells it (`Ġthe`, `▁the`, `<0x0A>`), `None` outside the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.parts.vocabulary.text(id)
    }

    /// What token `id` is for, `None` outside the vocabulary.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.parts.vocabulary.kind(id)
    }

    /// The id of the token the vocabulary spells `text`.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.parts.vocabulary.id_of(text)
    }

    /// Whether `id` is a control token (or the unknown token): structure, not text.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.token_kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// Number of token ids, holes included. A model's head may have more rows than that, for padding.
    pub fn vocab_size(&self) -> usize {
        self.parts.vocabulary.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.parts.special.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.parts.special.eos
    }

    /// The token that ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.parts.special.eot
    }

    /// The token that fills a batch up.
    pub fn pad(&self) -> Option<u32> {
        self.parts.special.pad
    }

    /// The token for text the vocabulary cannot express.
    pub fn unknown(&self) -> Option<u32> {
        self.parts.special.unknown
    }

    /// Every token after which an answer is over, ascending: EOS, end of turn, and control tokens known to mean it.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.parts.special.ends
    }

    /// Whether the model was trained with a BOS before every text.
    pub fn add_bos(&self) -> bool {
        self.parts.adds_bos
    }

    /// Whether decoding from the beginning of a text takes a space back.
    pub(crate) fn strips_space(&self) -> bool {
        self.parts.strips_space
    }

    /// The bytes of `id`, without its leading space when `strip` asks for it. The first token that is text decides:
    /// `strip` is false afterwards.
    pub(crate) fn stripped_bytes(&self, id: u32, strip: &mut bool) -> Result<&[u8]> {
        let unknown = || Error::UnknownToken { id, size: self.vocab_size() };
        let bytes = self.token_bytes(id).ok_or_else(unknown)?;
        if *strip && !self.is_special(id) && !bytes.is_empty() {
            *strip = false;
            return Ok(bytes.strip_prefix(b" ").unwrap_or(bytes));
        }
        Ok(bytes)
    }

    /// Finds this tokenizer's control tokens.
    pub(crate) fn control(&self) -> &Matcher {
        &self.parts.control
    }

    /// The token ids of `text`, cut beforehand: of its control tokens only those in `pieces` are parsed.
    pub(crate) fn encode_cut(&self, text: &str, pieces: &[Piece]) -> Result<Vec<u32>> {
        match &self.parts.model {
            Model::Pipeline(pipeline) => pipeline.encode_cut(&self.parts.vocabulary, text, pieces),
            Model::SentencePiece(model) => model.encode_cut(&self.parts.vocabulary, text, pieces),
        }
    }
}
