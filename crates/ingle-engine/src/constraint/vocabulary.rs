//! A model's tokens as bytes, in the form that grammars are walked over.

use super::ConstraintError;
use super::ahead::Worker;
use ingle_text::{TokenKind, Tokenizer};
use llguidance::ParserFactory;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, earley::SlicedBiasComputer};
use std::sync::Arc;

/// Longer tokens are never chosen under a grammar: a tree of bytes ends there.
const LONGEST_TOKEN: usize = 200;

/// What all constraints of a model share.
pub(crate) struct Vocabulary {
    factory: ParserFactory,
    /// Control tokens by their text, longest first.
    control: Vec<(String, u32)>,
    /// Works out what can come next.
    pub(super) worker: Worker,
}

struct Tokens(TokTrie);

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    /// The model chooses how text is cut: nothing is forced.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Vocabulary {
    /// Of a tokenizer, for rows of `rows` logits; `ends` are the tokens that end an answer. It takes some tenths of a second
    /// for the largest vocabularies.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        rows: usize,
        ends: &[u32],
    ) -> Result<Vocabulary, ConstraintError> {
        let mut control = Vec::new();
        let mut words: Vec<Vec<u8>> = (0..rows as u32)
            .map(|id| {
                let text = || tokenizer.token_text(id).unwrap_or_default();
                let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                match tokenizer.token_kind(id) {
                    Some(TokenKind::Control) => {
                        control.push((text().to_owned(), id));
                        [&[TokTrie::SPECIAL_TOKEN_MARKER], text().as_bytes()].concat()
                    }
                    Some(TokenKind::Unknown | TokenKind::Unused) | None => Vec::new(),
                    // no text has this byte, and it marks control tokens
                    _ if bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) => Vec::new(),
                    _ => bytes.to_vec(),
                }
            })
            .collect();
        words.iter_mut().filter(|word| word.len() > LONGEST_TOKEN).for_each(Vec::clear);
        // a model that never ends gets an end that it cannot choose
        words.push(Vec::new());
        let mut ends: Vec<u32> = ends.iter().copied().filter(|&end| (end as usize) < rows).collect();
        if ends.is_empty() {
            ends.push(rows as u32);
        }
        let info = TokRxInfo::new(words.len() as u32, ends[0]);
        let tokens: TokEnv = Arc::new(Tokens(TokTrie::from(&info, &words).with_eos_tokens(&ends)));
        let capabilities = InferenceCapabilities::default();
        let mut factory = ParserFactory::new(&tokens, capabilities, &SlicedBiasComputer::general_slices())
            .map_err(|error| ConstraintError::of(&error))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        control.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Ok(Vocabulary { factory, control, worker: Worker::start() })
    }

    /// What walks a grammar.
    pub(super) fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, ConstraintError> {
        let parser = self.factory.create_parser(grammar).map_err(|error| ConstraintError::of(&error))?;
        Ok(Matcher::new(Ok(parser)))
    }

    /// A text as grammars have it: control tokens that are spelled in it by their numbers, and the rest in quotes.
    pub(super) fn literal(&self, text: &str) -> String {
        self.literals(text).join(" ")
    }

    /// The same in pieces.
    pub(super) fn literals(&self, text: &str) -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut plain = String::new();
        let flush = |plain: &mut String, parts: &mut Vec<String>| {
            if !plain.is_empty() {
                parts.push(serde_json::Value::from(std::mem::take(plain)).to_string());
            }
        };
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            match self.control.iter().find(|(token, _)| !token.is_empty() && rest.starts_with(token.as_str()))
            {
                Some((token, id)) => {
                    flush(&mut plain, &mut parts);
                    parts.push(format!("<[{id}]>"));
                    rest = &rest[token.len()..];
                }
                None => {
                    plain.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        flush(&mut plain, &mut parts);
        parts
    }
}
