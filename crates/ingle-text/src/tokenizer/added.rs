//! Tokens found in text as a whole, before any model splits it: control tokens and user-defined ones.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::error::{Error, Result};

/// A token to find in text.
#[derive(Clone, Debug)]
pub(crate) struct AddedToken {
    /// Its id.
    pub(crate) id: u32,
    /// The text to find.
    pub(crate) text: String,
    /// Whether white space before it belongs to it.
    pub(crate) takes_left: bool,
    /// Whether white space after it belongs to it.
    pub(crate) takes_right: bool,
    /// Whether it is only found between characters that are no part of a word.
    pub(crate) whole_word: bool,
}

impl AddedToken {
    /// A token found wherever its text is.
    pub(crate) fn plain(id: u32, text: impl Into<String>) -> AddedToken {
        AddedToken { id, text: text.into(), takes_left: false, takes_right: false, whole_word: false }
    }
}

/// A stretch of text: a token, or text between tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The token, `None` for text.
    pub(crate) token: Option<u32>,
    /// Where, in bytes.
    pub(crate) range: Range<usize>,
}

/// Finds the leftmost token, and the longest where several start.
pub(crate) struct Matcher {
    automaton: Option<AhoCorasick>,
    tokens: Vec<AddedToken>,
    /// Bytes of the longest token.
    longest: usize,
    /// Bytes that begin tokens.
    firsts: Vec<u8>,
}

impl Matcher {
    /// A matcher for `tokens`; those with empty texts are left out.
    pub(crate) fn new(tokens: impl IntoIterator<Item = AddedToken>) -> Result<Matcher> {
        let tokens: Vec<AddedToken> = tokens.into_iter().filter(|token| !token.text.is_empty()).collect();
        let longest = tokens.iter().map(|token| token.text.len()).max().unwrap_or(0);
        let mut firsts: Vec<u8> = tokens.iter().filter_map(|token| token.text.bytes().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        if tokens.is_empty() {
            return Ok(Matcher { automaton: None, tokens, longest, firsts });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // Memory in proportion to the texts; a full DFA could be many times the vocabulary.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(tokens.iter().map(|token| &token.text))
            .map_err(|error| Error::Component { message: error.to_string() })?;
        Ok(Matcher { automaton: Some(automaton), tokens, longest, firsts })
    }

    /// Cuts `text` at its tokens; the pieces cover all of it in order and none is empty.
    pub(crate) fn cut(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut done = 0;
        if let Some(automaton) = &self.automaton {
            for found in automaton.find_iter(text) {
                let Some(token) = self.tokens.get(found.pattern().as_usize()) else { continue };
                let (mut start, mut end) = (found.start(), found.end());
                if start < done || (token.whole_word && inside_word(text, start, end)) {
                    continue;
                }
                if token.takes_left {
                    start = done + text[done..start].trim_end().len();
                }
                if token.takes_right {
                    end = text.len() - text[end..].trim_start().len();
                }
                if done < start {
                    pieces.push(Piece { token: None, range: done..start });
                }
                pieces.push(Piece { token: Some(token.id), range: start..end });
                done = end;
            }
        }
        if done < text.len() {
            pieces.push(Piece { token: None, range: done..text.len() });
        }
        pieces
    }

    /// `text` with `sentinel` after the first character of every token in it, and of the beginning of one at its end;
    /// `None` when there is nothing to break.
    pub(crate) fn broken(&self, text: &str, sentinel: char) -> Option<String> {
        let automaton = self.automaton.as_ref()?;
        let mut out = String::new();
        let mut done = 0;
        let mut from = 0;
        // From the second character of each find on, as tokens may overlap.
        while let Some(found) = automaton.find(aho_corasick::Input::new(text).range(from..)) {
            from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[done..from]);
            out.push(sentinel);
            done = from;
        }
        // Templates put texts together, with or without the white space at their ends.
        let written = text.trim_end();
        let mut start = written.floor_char_boundary(written.len().saturating_sub(self.longest));
        while let Some(character) = written[start..].chars().next() {
            let next = start + character.len_utf8();
            if next > done
                && self.firsts.binary_search(&written.as_bytes()[start]).is_ok()
                && self.tokens.iter().any(|token| token.text.starts_with(&written[start..]))
            {
                out.push_str(&text[done..next]);
                out.push(sentinel);
                done = next;
            }
            start = next;
        }
        if done == 0 {
            return None;
        }
        out.push_str(&text[done..]);
        Some(out)
    }
}

fn inside_word(text: &str, start: usize, end: usize) -> bool {
    let word = |character: char| character.is_alphanumeric() || character == '_';
    text[..start].chars().next_back().is_some_and(word) || text[end..].chars().next().is_some_and(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tokens: Vec<AddedToken>, text: &str) -> Vec<(Option<u32>, String)> {
        let matcher = Matcher::new(tokens).unwrap();
        matcher.cut(text).into_iter().map(|piece| (piece.token, text[piece.range].to_owned())).collect()
    }

    #[test]
    fn the_longest_token_wins_and_everything_is_covered() {
        let tokens =
            vec![AddedToken::plain(1, "<a>"), AddedToken::plain(2, "<a>b"), AddedToken::plain(3, "")];
        let expected = [(None, "x "), (Some(2), "<a>b"), (Some(1), "<a>"), (None, "y")];
        assert_eq!(cut(tokens, "x <a>b<a>y"), expected.map(|(id, text)| (id, text.to_owned())));
    }

    #[test]
    fn white_space_goes_to_the_token_that_takes_it() {
        let mut token = AddedToken::plain(1, "<m>");
        token.takes_left = true;
        token.takes_right = true;
        let expected = [(None, "a"), (Some(1), "  <m> "), (Some(1), "<m>\n"), (None, "b")];
        assert_eq!(cut(vec![token], "a  <m> <m>\nb"), expected.map(|(id, text)| (id, text.to_owned())));
    }

    #[test]
    fn no_token_survives_breaking() {
        let tokens = ["<a>", ">b", "<end>"].map(|text| AddedToken::plain(0, text));
        let matcher = Matcher::new(tokens).unwrap();
        let broken = |text: &str| matcher.broken(text, '#');
        assert_eq!(broken("<a>b <a> x").as_deref(), Some("<#a>#b <#a> x"));
        // The beginning of a token at the end may be completed by what follows.
        assert_eq!(broken("x <en \n").as_deref(), Some("x <#en \n"));
        assert_eq!(broken("<").as_deref(), Some("<#"));
        for harmless in ["", "a<b", "<an> x", "< a >.", "é"] {
            assert_eq!(broken(harmless), None, "{harmless}");
        }
    }

    #[test]
    fn a_whole_word_token_is_not_found_inside_a_word() {
        let mut token = AddedToken::plain(1, "cat");
        token.whole_word = true;
        let expected = [(None, "concat "), (Some(1), "cat"), (None, "!")];
        assert_eq!(cut(vec![token], "concat cat!"), expected.map(|(id, text)| (id, text.to_owned())));
    }
}
