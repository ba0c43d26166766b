//! WordPiece (BERT) from GGUF, where word beginnings are marked with `▁` instead of continuations with `##`.

use ahash::AHashMap;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::added::AddedToken;
use super::pipeline::{Added, AddedTokens, Pipeline, WordModel, component};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::error::{Error, Result, excerpt};

/// Longer words are unknown as a whole, as in the published BERT tokenizers.
const LONGEST_WORD: usize = 100;

/// The pipeline of a GGUF file whose tokenizer model is `bert`.
pub(crate) fn build(vocabulary: &Vocabulary, unknown: u32) -> Result<Pipeline> {
    let mut pieces = AHashMap::with_capacity(vocabulary.len());
    let mut added = Vec::new();
    for (id, text, kind) in vocabulary.iter().filter(|(_, text, _)| !text.is_empty()) {
        let bracketed = text.len() > 2 && text.starts_with('[') && text.ends_with(']');
        let piece = match text.strip_prefix('\u{2581}') {
            Some(word) => word.to_owned(),
            None if bracketed || kind != TokenKind::Normal => text.to_owned(),
            None => format!("##{text}"),
        };
        if let Some(first) = pieces.insert(piece, id) {
            return Err(Error::DuplicateToken { text: excerpt(text), first, second: id });
        }
        let control = matches!(kind, TokenKind::Control | TokenKind::Unknown);
        if control || kind == TokenKind::UserDefined {
            added.push(Added { token: AddedToken::plain(id, text), control, normalised: false });
        }
    }
    let model = WordPiece::builder()
        .vocab(pieces)
        .unk_token(vocabulary.text(unknown).unwrap_or_default().to_owned())
        .continuing_subword_prefix("##".to_owned())
        .max_input_chars_per_word(LONGEST_WORD)
        .build()
        .map_err(component)?;
    Ok(Pipeline {
        added: AddedTokens::new(&added)?,
        normaliser: Some(NormalizerWrapper::BertNormalizer(BertNormalizer::new(true, true, None, true))),
        pre_tokeniser: Some(PreTokenizerWrapper::BertPreTokenizer(BertPreTokenizer)),
        model: WordModel::Library(Box::new(ModelWrapper::WordPiece(model))),
    })
}
