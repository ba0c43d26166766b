//! Tokenizers built from the parts of the `tokenizers` library: normaliser, pre-tokeniser, model.
//!
//! The parts are the library's (but for BPE, see there), so that a tokenizer.json means here what it means where it was
//! made. The walk through them is ours, because whether control tokens are parsed is a property of a call, not of the
//! tokenizer.

use tokenizers::normalizer::Range as NormalizedRange;
use tokenizers::{
    Model as _, ModelWrapper, NormalizedString, Normalizer as _, NormalizerWrapper, OffsetType,
    PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper, Token,
};

use super::Specials;
use super::added::{AddedToken, Matcher, Piece};
use super::bpe::Bpe;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Added tokens as the pipeline looks for them.
pub(crate) struct AddedTokens {
    /// Found in the text as written: with control tokens, and without.
    raw: [Matcher; 2],
    /// Found in the normalised text: with control tokens, and without.
    normalised: [Matcher; 2],
}

/// An added token and how it is to be found.
pub(crate) struct Added {
    pub(crate) token: AddedToken,
    /// Whether it is a control token, not looked for in text that people wrote.
    pub(crate) control: bool,
    /// Whether it is looked for in the normalised text.
    pub(crate) normalised: bool,
}

impl AddedTokens {
    /// Sorts `tokens` into the four ways of looking.
    pub(crate) fn new(tokens: &[Added]) -> Result<AddedTokens> {
        let matcher = |normalised: bool, control: bool| {
            let wanted = |added: &&Added| added.normalised == normalised && (control || !added.control);
            Matcher::new(tokens.iter().filter(wanted).map(|added| added.token.clone()))
        };
        Ok(AddedTokens {
            raw: [matcher(false, true)?, matcher(false, false)?],
            normalised: [matcher(true, true)?, matcher(true, false)?],
        })
    }
}

/// The parts of a tokenizer, in the order text goes through them.
pub(crate) struct Pipeline {
    pub(crate) added: AddedTokens,
    pub(crate) normaliser: Option<NormalizerWrapper>,
    pub(crate) pre_tokeniser: Option<PreTokenizerWrapper>,
    pub(crate) model: WordModel,
}

/// What makes tokens of a word.
pub(crate) enum WordModel {
    Bpe(Bpe),
    Library(Box<ModelWrapper>),
}

impl Pipeline {
    /// The tokens of `text`, without those added around a whole text.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, specials: Specials) -> Result<Vec<u32>> {
        self.walk(vocabulary, PreTokenizedString::from(text), specials)
    }

    /// The tokens of `text`, cut beforehand: only the control tokens in `pieces` are parsed.
    pub(crate) fn encode_cut(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        pieces: &[Piece],
    ) -> Result<Vec<u32>> {
        let mut parts = PreTokenizedString::from(text);
        parts.split(|_, part| slice(part, pieces.to_vec())).map_err(component)?;
        self.walk(vocabulary, parts, Specials::AsText)
    }

    fn walk(
        &self,
        vocabulary: &Vocabulary,
        mut pieces: PreTokenizedString,
        specials: Specials,
    ) -> Result<Vec<u32>> {
        let which = match specials {
            Specials::Parse => 0,
            Specials::AsText => 1,
        };
        pieces.split(|_, part| cut(&self.added.raw[which], part)).map_err(component)?;
        pieces
            .split(|_, mut part| {
                if let Some(normaliser) = &self.normaliser {
                    normaliser.normalize(&mut part)?;
                }
                cut(&self.added.normalised[which], part)
            })
            .map_err(component)?;
        if let Some(pre_tokeniser) = &self.pre_tokeniser {
            pre_tokeniser.pre_tokenize(&mut pieces).map_err(component)?;
        }
        pieces.tokenize(|part| self.tokenise(vocabulary, part.get())).map_err(component)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None).map_err(component)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn tokenise(&self, vocabulary: &Vocabulary, word: &str) -> tokenizers::Result<Vec<Token>> {
        match &self.model {
            // Only ids are asked for in the end, not texts and places.
            WordModel::Bpe(model) => {
                let ids = model.encode(vocabulary, word)?.into_iter();
                Ok(ids.map(|id| Token::new(id, String::new(), (0, 0))).collect())
            }
            WordModel::Library(model) => model.tokenize(word),
        }
    }
}

type Parts = Vec<(NormalizedString, Option<Vec<Token>>)>;

fn cut(matcher: &Matcher, part: NormalizedString) -> tokenizers::Result<Parts> {
    let pieces = matcher.cut(part.get());
    slice(part, pieces)
}

fn slice(part: NormalizedString, pieces: Vec<Piece>) -> tokenizers::Result<Parts> {
    if let [piece] = pieces.as_slice()
        && piece.token.is_none()
    {
        return Ok(vec![(part, None)]);
    }
    pieces
        .into_iter()
        .map(|piece| {
            let length = piece.range.len();
            let slice =
                part.slice(NormalizedRange::Normalized(piece.range)).ok_or("a token cuts a character")?;
            let tokens = piece.token.map(|id| vec![Token::new(id, String::new(), (0, length))]);
            Ok((slice, tokens))
        })
        .collect()
}

/// The library's error as ours; ours comes back out when it was only passing through.
pub(crate) fn component(error: tokenizers::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::Component { message: error.to_string() },
    }
}
