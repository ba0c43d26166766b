//! SentencePiece BPE: pieces merged by score, bytes where no piece fits.
//!
//! Written here and not built from the `tokenizers` library, whose BPE wants merge rules. Rules made from the scores
//! are close but not the same: SentencePiece joins any two neighbours whose text is a piece (also when one of them is
//! no piece itself), takes the leftmost of equal scores, never joins across a user-defined piece, and takes unused
//! pieces apart again at the end.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::Specials;
use super::added::{AddedToken, Matcher, Piece};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::error::{Error, Result, excerpt};

/// Stands for a space inside pieces.
pub(crate) const SPACE: char = '\u{2581}';

/// The model.
pub(crate) struct SentencePiece {
    /// By token id.
    scores: Vec<f32>,
    /// Ids of the byte tokens, when all 256 are there.
    bytes: Option<Vec<u32>>,
    unknown: Option<u32>,
    adds_space: bool,
    control: Matcher,
    user_defined: Matcher,
    longest: usize,
    has_unused: bool,
}

/// A run of text that may still be joined with its neighbours. An empty run was joined into the one on its left.
struct Symbol {
    range: Range<usize>,
    before: Option<usize>,
    after: Option<usize>,
    frozen: bool,
}

/// Two neighbours whose joined text is a piece.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both when the pair was found; it is stale when they have grown since.
    length: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}
impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Pair {}

impl SentencePiece {
    /// The model of `vocabulary` with one score per token.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        scores: &[f32],
        unknown: Option<u32>,
        adds_space: bool,
    ) -> Result<SentencePiece> {
        let mut bytes = vec![None; 256];
        let mut longest = 0;
        let mut has_unused = false;
        let (mut control, mut user_defined) = (Vec::new(), Vec::new());
        for ((id, text, kind), score) in vocabulary.iter().zip(scores) {
            if score.is_nan() {
                return Err(Error::BadToken {
                    id,
                    text: excerpt(text),
                    reason: "has a score that is not a number",
                });
            }
            match kind {
                TokenKind::Control | TokenKind::Unknown => control.push(AddedToken::plain(id, text)),
                TokenKind::UserDefined => user_defined.push(AddedToken::plain(id, text)),
                TokenKind::Byte => {
                    let byte = vocabulary.bytes(id).and_then(|bytes| bytes.first());
                    if let Some(slot) = byte.and_then(|&byte| bytes.get_mut(usize::from(byte))) {
                        *slot = Some(id);
                    }
                }
                TokenKind::Unused => has_unused = true,
                TokenKind::Normal => {}
            }
            longest = longest.max(text.len());
        }
        Ok(SentencePiece {
            scores: scores.to_vec(),
            bytes: bytes.into_iter().collect(),
            unknown,
            adds_space,
            control: Matcher::new(control)?,
            user_defined: Matcher::new(user_defined)?,
            longest,
            has_unused,
        })
    }

    /// The tokens of `text`, without those added around a whole text. A space is put before the text, and before
    /// what follows a control token, when the model was trained that way.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, specials: Specials) -> Result<Vec<u32>> {
        match specials {
            Specials::AsText => {
                let mut ids = Vec::new();
                self.encode_text(vocabulary, text, &mut ids)?;
                Ok(ids)
            }
            Specials::Parse => self.encode_cut(vocabulary, text, &self.control.cut(text)),
        }
    }

    /// The tokens of `text`, cut beforehand: only the control tokens in `pieces` are parsed.
    pub(crate) fn encode_cut(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        pieces: &[Piece],
    ) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in pieces {
            match piece.token {
                Some(id) => ids.push(id),
                None => {
                    self.encode_text(vocabulary, text.get(piece.range.clone()).unwrap_or_default(), &mut ids)?
                }
            }
        }
        Ok(ids)
    }

    fn encode_text(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 3);
        if self.adds_space {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|character| if character == ' ' { SPACE } else { character }));
        let text = escaped.as_str();

        let mut symbols = self.symbols(text);
        let mut halves = HashMap::new();
        self.join(vocabulary, text, &mut symbols, &mut halves);

        let mut previous_unknown = false;
        let mut todo = Vec::new();
        for symbol in symbols.iter().filter(|symbol| !symbol.range.is_empty()) {
            todo.push(symbol.range.clone());
            while let Some(range) = todo.pop() {
                let piece = &text[range.clone()];
                match self.piece(vocabulary, piece) {
                    Some((_, TokenKind::Unused)) if halves.contains_key(&(range.start, range.end)) => {
                        let middle = halves[&(range.start, range.end)];
                        todo.push(middle..range.end);
                        todo.push(range.start..middle);
                    }
                    Some((id, _)) => {
                        ids.push(id);
                        previous_unknown = false;
                    }
                    None => match (&self.bytes, self.unknown) {
                        (Some(bytes), _) => ids.extend(piece.bytes().map(|byte| bytes[usize::from(byte)])),
                        // A run of unknown characters is one token.
                        (None, Some(_)) if previous_unknown => {}
                        (None, Some(unknown)) => {
                            ids.push(unknown);
                            previous_unknown = true;
                        }
                        (None, None) => return Err(Error::Unencodable { text: excerpt(piece) }),
                    },
                }
            }
        }
        Ok(())
    }

    /// One symbol per character and per user-defined piece.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut add = |range: Range<usize>, frozen: bool| {
            let at = symbols.len();
            if let Some(last) = symbols.last_mut() {
                last.after = Some(at);
            }
            symbols.push(Symbol { range, before: at.checked_sub(1), after: None, frozen });
        };
        for piece in self.user_defined.cut(text) {
            if piece.token.is_some() {
                add(piece.range, true);
                continue;
            }
            for (at, character) in text[piece.range.clone()].char_indices() {
                let start = piece.range.start + at;
                add(start..start + character.len_utf8(), false);
            }
        }
        symbols
    }

    /// Joins neighbours, best score first, until no two make a piece. `halves` gets, for every joined piece that is
    /// unused, where it was joined.
    fn join(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        symbols: &mut [Symbol],
        halves: &mut HashMap<(usize, usize), usize>,
    ) {
        let pair = |symbols: &[Symbol], left: usize, right: usize| -> Option<Pair> {
            let (a, b) = (&symbols[left], &symbols[right]);
            let range = a.range.start..b.range.end;
            if a.frozen || b.frozen || range.len() > self.longest {
                return None;
            }
            let length = range.len();
            let (id, _) = self.piece(vocabulary, &text[range])?;
            Some(Pair { score: *self.scores.get(id as usize)?, left, right, length })
        };
        let found: Vec<Pair> =
            (1..symbols.len()).filter_map(|right| pair(symbols, right - 1, right)).collect();
        let mut queue = BinaryHeap::from(found);
        while let Some(Pair { left, right, length, .. }) = queue.pop() {
            let (a, b) = (&symbols[left].range, &symbols[right].range);
            if a.is_empty() || b.is_empty() || a.len() + b.len() != length {
                continue;
            }
            let (start, middle, end) = (a.start, b.start, b.end);
            if self.has_unused
                && matches!(self.piece(vocabulary, &text[start..end]), Some((_, TokenKind::Unused)))
            {
                halves.insert((start, end), middle);
            }
            let after = symbols[right].after;
            symbols[left].range = start..end;
            symbols[left].after = after;
            symbols[right].range = end..end;
            if let Some(after) = after {
                symbols[after].before = Some(left);
                queue.extend(pair(symbols, left, after));
            }
            if let Some(before) = symbols[left].before {
                queue.extend(pair(symbols, before, left));
            }
        }
    }

    /// The id of a piece of text; control, unknown and byte tokens are not text.
    fn piece(&self, vocabulary: &Vocabulary, text: &str) -> Option<(u32, TokenKind)> {
        let id = vocabulary.id_of(text)?;
        match vocabulary.kind(id)? {
            TokenKind::Control | TokenKind::Unknown | TokenKind::Byte => None,
            kind => Some((id, kind)),
        }
    }
}
