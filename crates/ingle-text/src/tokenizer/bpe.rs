//! Byte-pair encoding models: vocabulary and merge rules checked, then built by the `tokenizers` library.

use ahash::AHashMap;
use tokenizers::models::bpe::BPE;

use super::pipeline::component;
use crate::error::{Error, Result, excerpt};

/// What a BPE model does besides applying its merges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The token for what has no other.
    pub(crate) unknown: Option<String>,
    /// Whether a run of unknown characters is one token.
    pub(crate) fuse_unknown: bool,
    /// Whether unknown characters become `<0xNN>` tokens.
    pub(crate) byte_fallback: bool,
    /// Whether a word that is itself a token is that token, whatever the merges say.
    pub(crate) whole_words_first: bool,
    /// Prefix of pieces that do not begin a word.
    pub(crate) continuing_prefix: Option<String>,
    /// Suffix of pieces that end a word.
    pub(crate) word_suffix: Option<String>,
}

/// A merge rule as written in one string, halves separated by the first space that is not itself a half.
pub(crate) fn parse_merge(index: usize, rule: &str) -> Result<(String, String)> {
    // The first character always belongs to the left half: a half may be a space, it is never empty.
    let start = rule.chars().next().map_or(0, char::len_utf8);
    match rule[start..].split_once(' ') {
        Some((rest, right)) if !right.is_empty() => {
            Ok((rule[..start + rest.len()].to_owned(), right.to_owned()))
        }
        _ => Err(Error::BadMerge {
            index,
            rule: excerpt(rule),
            reason: "is not two pieces with a space between",
        }),
    }
}

/// The model of `vocabulary` and `merges`.
///
/// Everything is checked before the library sees it: it panics on a rule whose result is longer than any token.
pub(crate) fn build(
    vocabulary: AHashMap<String, u32>,
    merges: Vec<(String, String)>,
    options: Options,
) -> Result<BPE> {
    let prefix = options.continuing_prefix.as_deref().unwrap_or_default();
    let mut joined = String::new();
    for (index, (left, right)) in merges.iter().enumerate() {
        let bad = |reason| Error::BadMerge { index, rule: excerpt(&format!("{left} {right}")), reason };
        let Some(rest) = right.strip_prefix(prefix) else {
            return Err(bad("has a right half without the prefix of continuing pieces"));
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(rest);
        if !vocabulary.contains_key(left) || !vocabulary.contains_key(right) {
            return Err(bad("joins a piece that is not in the vocabulary"));
        }
        if !vocabulary.contains_key(joined.as_str()) {
            return Err(bad("makes a piece that is not in the vocabulary"));
        }
    }
    if let Some(unknown) = &options.unknown
        && !vocabulary.contains_key(unknown)
    {
        return Err(Error::Component {
            message: format!("the unknown token {unknown:?} is not in the vocabulary"),
        });
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .fuse_unk(options.fuse_unknown)
        .byte_fallback(options.byte_fallback)
        .ignore_merges(options.whole_words_first);
    if let Some(unknown) = options.unknown {
        builder = builder.unk_token(unknown);
    }
    if let Some(prefix) = options.continuing_prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = options.word_suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    builder.build().map_err(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[&str]) -> AHashMap<String, u32> {
        (0..).zip(tokens).map(|(id, token)| (token.to_string(), id)).collect()
    }

    fn rule(left: &str, right: &str) -> Vec<(String, String)> {
        vec![(left.to_owned(), right.to_owned())]
    }

    #[test]
    fn merges_are_split_at_the_space_between() {
        assert_eq!(parse_merge(0, "Ġ t").unwrap(), ("Ġ".into(), "t".into()));
        assert_eq!(parse_merge(0, "  a").unwrap(), (" ".into(), "a".into()));
        for wrong in ["", "a", "a ", " ", "ab"] {
            assert!(matches!(parse_merge(7, wrong), Err(Error::BadMerge { index: 7, .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_merge_of_unknown_pieces_is_refused() {
        let missing_half = build(vocabulary(&["a", "ab"]), rule("a", "b"), Options::default());
        assert!(matches!(missing_half, Err(Error::BadMerge { index: 0, .. })));
        // Its result is longer than every token there is.
        let missing_result = build(vocabulary(&["a", "b"]), rule("a", "b"), Options::default());
        assert!(matches!(missing_result, Err(Error::BadMerge { index: 0, .. })));
        let options = Options { continuing_prefix: Some("##".into()), ..Options::default() };
        assert!(matches!(
            build(vocabulary(&["a", "b"]), rule("a", "b"), options),
            Err(Error::BadMerge { .. })
        ));
    }
}
