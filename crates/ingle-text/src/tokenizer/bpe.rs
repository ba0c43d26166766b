//! Byte-pair encoding: merge rules over a vocabulary, checked once and then applied by ids.
//!
//! Written here and not built from the `tokenizers` library, which gives the same tokens (a test compares them) but
//! wants a copy of every token's and every rule's text to build from and keeps the vocabulary twice: a hundred
//! megabytes and half a second for the largest vocabularies.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result, excerpt};

/// What a BPE model does besides applying its merges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The token for what has no other.
    pub(crate) unknown: Option<u32>,
    /// Whether a run of unknown characters is one token.
    pub(crate) fuse_unknown: bool,
    /// Whether unknown characters become `<0xNN>` tokens.
    pub(crate) byte_fallback: bool,
    /// Whether a word that is itself a token is that token, whatever the merges say.
    pub(crate) whole_words_first: bool,
    /// Prefix of pieces that do not begin a word; empty for none.
    pub(crate) continuing_prefix: String,
    /// Suffix of pieces that end a word; empty for none.
    pub(crate) word_suffix: String,
}

/// The model. It has no texts of its own: every call is given the vocabulary it was made with.
pub(crate) struct Bpe {
    /// By id, whether the token is one that text may become.
    pieces: Vec<bool>,
    /// In the order of their fields, no pair twice.
    rules: Vec<Rule>,
    /// By id, where the rules begin whose left half it is; one more at the end.
    starts: Vec<u32>,
    /// By byte, its `<0xNN>` token, for models that write unknown characters so.
    bytes: Option<Vec<Option<u32>>>,
    options: Options,
}

/// Two neighbours that become one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    left: u32,
    right: u32,
    /// Its place in the list: the lowest is applied first.
    rank: u32,
    made: u32,
}

/// A piece of a word that may still be joined with its neighbours, which are places in the same list or [`NONE`].
struct Symbol {
    id: u32,
    before: u32,
    after: u32,
    /// Whether it is part of the one on its left now.
    joined: bool,
}

const NONE: u32 = u32::MAX;

/// A merge rule as written in one string, halves separated by the first space that is not itself a half.
pub(crate) fn parse_merge(index: usize, rule: &str) -> Result<(&str, &str)> {
    // The first character always belongs to the left half: a half may be a space, it is never empty.
    let start = rule.chars().next().map_or(0, char::len_utf8);
    match rule[start..].split_once(' ') {
        Some((rest, right)) if !right.is_empty() => Ok((&rule[..start + rest.len()], right)),
        _ => Err(Error::BadMerge {
            index,
            rule: excerpt(rule),
            reason: "is not two pieces with a space between",
        }),
    }
}

impl Bpe {
    /// The model that makes the tokens of `vocabulary` for which `pieces` holds true, by `merges`, the first of which
    /// go before the others.
    pub(crate) fn new<'a>(
        vocabulary: &Vocabulary,
        pieces: Vec<bool>,
        merges: impl ExactSizeIterator<Item = Result<(&'a str, &'a str)>>,
        options: Options,
    ) -> Result<Bpe> {
        let mut bpe =
            Bpe { pieces, rules: Vec::with_capacity(merges.len()), starts: Vec::new(), bytes: None, options };
        let mut joined = String::new();
        for (index, merge) in merges.enumerate() {
            let (left, right) = merge?;
            let bad = |reason| Error::BadMerge { index, rule: excerpt(&format!("{left} {right}")), reason };
            let Some(rest) = right.strip_prefix(bpe.options.continuing_prefix.as_str()) else {
                return Err(bad("has a right half without the prefix of continuing pieces"));
            };
            joined.clear();
            joined.push_str(left);
            joined.push_str(rest);
            let piece = |text: &str| bpe.piece(vocabulary, text);
            let (Some(left), Some(right)) = (piece(left), piece(right)) else {
                return Err(bad("joins a piece that is not in the vocabulary"));
            };
            let made = piece(&joined).ok_or_else(|| bad("makes a piece that is not in the vocabulary"))?;
            let rank = u32::try_from(index).map_err(|_| bad("is one of too many"))?;
            bpe.rules.push(Rule { left, right, rank, made });
        }
        bpe.rules.sort_unstable();
        // Of several rules for one pair the last is meant.
        bpe.rules.dedup_by(|later, earlier| {
            let same = (later.left, later.right) == (earlier.left, earlier.right);
            if same {
                *earlier = *later;
            }
            same
        });
        bpe.starts.reserve_exact(bpe.pieces.len() + 1);
        for id in 0..=bpe.pieces.len() {
            let mut start = bpe.starts.last().map_or(0, |&start| start as usize);
            start += bpe.rules[start..].iter().take_while(|rule| (rule.left as usize) < id).count();
            bpe.starts.push(start as u32);
        }
        if bpe.options.byte_fallback {
            let token = |byte: u8| bpe.piece(vocabulary, &format!("<{byte:#04X}>"));
            bpe.bytes = Some((0..=u8::MAX).map(token).collect());
        }
        Ok(bpe)
    }

    /// The tokens of one word.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, word: &str) -> Result<Vec<u32>> {
        if self.options.whole_words_first
            && let Some(id) = self.piece(vocabulary, word)
        {
            return Ok(vec![id]);
        }
        // There are no more symbols than bytes, affixes included.
        let Options { continuing_prefix: prefix, word_suffix: suffix, .. } = &self.options;
        if word.len().saturating_mul(1 + prefix.len()).saturating_add(suffix.len()) >= NONE as usize {
            return Err(Error::Component { message: "a word of 4 GiB".into() });
        }
        let mut symbols = self.symbols(vocabulary, word)?;
        self.join(&mut symbols);
        Ok(symbols.into_iter().filter(|symbol| !symbol.joined).map(|symbol| symbol.id).collect())
    }

    /// The token of a piece of text.
    fn piece(&self, vocabulary: &Vocabulary, text: &str) -> Option<u32> {
        vocabulary.id_of(text).filter(|&id| self.pieces[id as usize])
    }

    /// The rule for two neighbours.
    fn rule(&self, left: u32, right: u32) -> Option<&Rule> {
        let [start, end] = [left as usize, left as usize + 1].map(|at| self.starts[at] as usize);
        let rules = &self.rules[start..end];
        rules.binary_search_by_key(&right, |rule| rule.right).ok().map(|at| &rules[at])
    }

    /// One symbol per character, or per byte or run of those without a token.
    fn symbols(&self, vocabulary: &Vocabulary, word: &str) -> Result<Vec<Symbol>> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut add = |id: u32| {
            let at = symbols.len() as u32;
            if let Some(last) = symbols.last_mut() {
                last.after = at;
            }
            symbols.push(Symbol {
                id,
                before: at.checked_sub(1).unwrap_or(NONE),
                after: NONE,
                joined: false,
            });
        };
        let Options { continuing_prefix: prefix, word_suffix: suffix, .. } = &self.options;
        let mut spelled = String::new();
        // An unknown token not added yet: more may belong to it. As in the library, bytes go before it.
        let mut waiting = None;
        for (at, character) in word.char_indices() {
            let end = at + character.len_utf8();
            let mut text = &word[at..end];
            let (continues, ends) = (at > 0 && !prefix.is_empty(), end == word.len() && !suffix.is_empty());
            if continues || ends {
                spelled.clear();
                spelled.push_str(if continues { prefix } else { "" });
                spelled.push_str(text);
                spelled.push_str(if ends { suffix } else { "" });
                text = &spelled;
            }
            if let Some(id) = self.piece(vocabulary, text) {
                waiting.take().into_iter().chain([id]).for_each(&mut add);
            } else if let Some(ids) = self.byte_tokens(text) {
                ids.into_iter().for_each(&mut add);
            } else if let Some(unknown) = self.options.unknown {
                let before = waiting.replace(unknown);
                before.filter(|_| !self.options.fuse_unknown).into_iter().for_each(&mut add);
            } else {
                return Err(Error::Unencodable { text: excerpt(word) });
            }
        }
        waiting.into_iter().for_each(&mut add);
        Ok(symbols)
    }

    /// The tokens of the bytes of `text`, when the model writes unknown characters so and has all of them.
    fn byte_tokens(&self, text: &str) -> Option<Vec<u32>> {
        let tokens = self.bytes.as_ref()?;
        text.bytes().map(|byte| tokens[usize::from(byte)]).collect()
    }

    /// Joins neighbours, the lowest rank first and of one rank the leftmost, until no rule applies.
    fn join(&self, symbols: &mut [Symbol]) {
        // Rank above place, in one number: texts that are not cut into words fill this queue with millions of them.
        let found = |symbols: &[Symbol], left: u32, right: u32| {
            let rule = self.rule(symbols[left as usize].id, symbols[right as usize].id)?;
            Some(Reverse(u64::from(rule.rank) << 32 | u64::from(left)))
        };
        let pairs: Vec<_> =
            (1..symbols.len() as u32).filter_map(|right| found(symbols, right - 1, right)).collect();
        let mut queue = BinaryHeap::from(pairs);
        while let Some(Reverse(next)) = queue.pop() {
            let (rank, at) = ((next >> 32) as u32, next as u32);
            let left = &symbols[at as usize];
            if left.joined || left.after == NONE {
                continue;
            }
            let (before, right) = (left.before, &symbols[left.after as usize]);
            // What was found there may have been joined with something else since.
            let Some(rule) = self.rule(left.id, right.id).filter(|rule| rule.rank == rank) else { continue };
            let (right, after) = (left.after, right.after);
            symbols[right as usize].joined = true;
            symbols[at as usize].id = rule.made;
            symbols[at as usize].after = after;
            if before != NONE {
                queue.extend(found(symbols, before, at));
            }
            if after != NONE {
                symbols[after as usize].before = at;
                queue.extend(found(symbols, at, after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::{Spelling, TokenKind};
    use super::*;

    fn vocabulary(tokens: &[&str]) -> Vocabulary {
        let kinds = vec![TokenKind::Normal; tokens.len()];
        Vocabulary::new(tokens.iter().collect(), kinds, &Spelling::Plain).unwrap()
    }

    fn build(tokens: &[&str], merges: &[(&str, &str)], options: Options) -> Result<Bpe> {
        let merges = merges.iter().copied().map(Ok);
        Bpe::new(&vocabulary(tokens), vec![true; tokens.len()], merges, options)
    }

    #[test]
    fn merges_are_split_at_the_space_between() {
        assert_eq!(parse_merge(0, "Ġ t").unwrap(), ("Ġ", "t"));
        assert_eq!(parse_merge(0, "  a").unwrap(), (" ", "a"));
        for wrong in ["", "a", "a ", " ", "ab"] {
            assert!(matches!(parse_merge(7, wrong), Err(Error::BadMerge { index: 7, .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_merge_of_unknown_pieces_is_refused() {
        let missing_half = build(&["a", "ab"], &[("a", "b")], Options::default());
        assert!(matches!(missing_half, Err(Error::BadMerge { index: 0, .. })));
        // Its result is longer than every token there is.
        let missing_result = build(&["a", "b"], &[("a", "b")], Options::default());
        assert!(matches!(missing_result, Err(Error::BadMerge { index: 0, .. })));
        let options = Options { continuing_prefix: "##".into(), ..Options::default() };
        assert!(matches!(build(&["a", "b"], &[("a", "b")], options), Err(Error::BadMerge { .. })));
    }

    /// Random vocabularies over few letters, where rules overlap and repeat, against the library's model of the same.
    #[test]
    fn the_tokens_are_those_of_the_library() {
        use tokenizers::Model as _;
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let letters = ["a", "b", "c", "é", "日", "x"];
        for round in 0..400 {
            let (prefix, suffix) = [("", ""), ("##", ""), ("", "</w>")][random(3)];
            let mut tokens: Vec<String> = vec!["<unk>".into()];
            for letter in &letters[..3 + random(3)] {
                for (before, after) in [("", ""), (prefix, ""), ("", suffix), (prefix, suffix)] {
                    let token = format!("{before}{letter}{after}");
                    if !tokens.contains(&token) {
                        tokens.push(token);
                    }
                }
            }
            for byte in "日x".bytes().skip(random(2)) {
                tokens.push(format!("<{byte:#04X}>"));
            }
            let mut merges: Vec<(String, String)> = Vec::new();
            for _ in 0..random(60) {
                let (left, right) =
                    (tokens[random(tokens.len())].clone(), tokens[random(tokens.len())].clone());
                let Some(rest) = right.strip_prefix(prefix) else { continue };
                let made = format!("{left}{rest}");
                if !tokens.contains(&made) {
                    tokens.push(made);
                }
                merges.push((left, right));
            }
            let unknown = random(3) > 0;
            let (fuse, fallback, whole) = (random(2) > 0, random(2) > 0, random(2) > 0);
            let mut builder = tokenizers::models::bpe::BPE::builder()
                .vocab_and_merges(
                    (0..)
                        .zip(&tokens)
                        .map(|(id, token)| (token.clone(), id))
                        .collect::<ahash::AHashMap<_, _>>(),
                    merges.clone(),
                )
                .fuse_unk(fuse)
                .byte_fallback(fallback)
                .ignore_merges(whole);
            if unknown {
                builder = builder.unk_token("<unk>".into());
            }
            if !prefix.is_empty() {
                builder = builder.continuing_subword_prefix(prefix.into());
            }
            if !suffix.is_empty() {
                builder = builder.end_of_word_suffix(suffix.into());
            }
            let library = builder.build().unwrap();
            let options = Options {
                unknown: unknown.then_some(0),
                fuse_unknown: fuse,
                byte_fallback: fallback,
                whole_words_first: whole,
                continuing_prefix: prefix.into(),
                word_suffix: suffix.into(),
            };
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let merges: Vec<(&str, &str)> =
                merges.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
            let ours = build(&tokens, &merges, options.clone()).unwrap();
            let vocabulary = vocabulary(&tokens);
            for _ in 0..50 {
                let word: String = (0..random(24)).map(|_| letters[random(letters.len())]).collect();
                let expected = library.tokenize(&word).unwrap();
                match ours.encode(&vocabulary, &word) {
                    Ok(ids) => {
                        let expected: Vec<u32> = expected.iter().map(|token| token.id).collect();
                        assert_eq!(
                            ids, expected,
                            "round {round}: {word:?} {tokens:?} {merges:?} {options:?}"
                        );
                    }
                    // What the library leaves out without a word.
                    Err(Error::Unencodable { .. }) => {
                        assert!(!unknown && expected.last().is_none_or(|token| token.offsets.1 < word.len()));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
