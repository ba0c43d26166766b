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
}

impl Matcher {
    /// A matcher for `tokens`; those with empty texts are left out.
    pub(crate) fn new(tokens: impl IntoIterator<Item = AddedToken>) -> Result<Matcher> {
        let tokens: Vec<AddedToken> = tokens.into_iter().filter(|token| !token.text.is_empty()).collect();
        if tokens.is_empty() {
            return Ok(Matcher { automaton: None, tokens });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // Memory in proportion to the texts; a full DFA could be many times the vocabulary.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(tokens.iter().map(|token| &token.text))
            .map_err(|error| Error::Component { message: error.to_string() })?;
        Ok(Matcher { automaton: Some(automaton), tokens })
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
    fn a_whole_word_token_is_not_found_inside_a_word() {
        let mut token = AddedToken::plain(1, "cat");
        token.whole_word = true;
        let expected = [(None, "concat "), (Some(1), "cat"), (None, "!")];
        assert_eq!(cut(vec![token], "concat cat!"), expected.map(|(id, text)| (id, text.to_owned())));
    }
}
