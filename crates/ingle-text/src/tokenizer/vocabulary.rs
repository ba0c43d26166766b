//! The tokens of a model: text, exact bytes and kind of each id.

use ahash::RandomState;
use ingle_model::StringList;

use crate::error::{Error, Result, excerpt};

/// The most tokens a vocabulary may have. The largest published one has 262 144; ids in JSON files are free numbers,
/// and memory is only set aside for those below this bound.
pub(crate) const MAX_TOKENS: usize = 1 << 22;

/// What a token is for, in the terms of the GGUF format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of ordinary text.
    Normal,
    /// Stands for text the vocabulary cannot express.
    Unknown,
    /// Structure of the conversation (`<|im_start|>`): never parsed out of text that people wrote.
    Control,
    /// Added whole to the vocabulary (`<think>`): parsed wherever it is written.
    UserDefined,
    /// A place in the vocabulary without a meaning.
    Unused,
    /// One byte (`<0x0A>`), for text no piece covers.
    Byte,
}

impl TokenKind {
    /// The kind with this number in `tokenizer.ggml.token_type`; numbers nobody has defined are ordinary text.
    pub(crate) fn from_gguf(number: i64) -> TokenKind {
        match number {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }
}

/// How the text of an ordinary token spells the bytes it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// One character per byte, in GPT-2's table.
    ByteLevel,
    /// This character is a space (`▁`).
    Spaces(char),
    /// WordPiece as in GGUF: `▁` begins a word, everything else continues one.
    PhantomSpaces,
    /// WordPiece as in tokenizer.json: this prefix continues a word, everything else begins one.
    Continuation(String),
    /// This suffix ends a word.
    WordEnd(String),
    /// The text itself.
    Plain,
}

/// Texts, bytes and kinds by id, and ids by text.
pub(crate) struct Vocabulary {
    texts: StringList,
    /// The bytes of all tokens, and for each the byte after its last.
    bytes: Vec<u8>,
    byte_ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    ids: Ids,
}

/// Ids by text: a hash table that holds ids alone, because the texts are there already.
struct Ids {
    /// An id, with bits of its text's hash above it, in the first free slot from that hash on. A power of two of them,
    /// not all taken.
    slots: Vec<u32>,
    hasher: RandomState,
}

/// No id of a vocabulary has all of its bits set.
const FREE: u32 = u32::MAX;
const ID_BITS: u32 = MAX_TOKENS.ilog2() + 1;
const ID_MASK: u32 = (1 << ID_BITS) - 1;

impl Ids {
    /// Room for `count` texts.
    fn new(count: usize) -> Ids {
        Ids { slots: vec![FREE; (count + count / 3 + 1).next_power_of_two()], hasher: RandomState::new() }
    }

    /// The slot that has the id of `text`, or the free one where it belongs, and the bits to go above the id.
    fn find(&self, texts: &StringList, text: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(text);
        let above = ((hash >> 32) as u32) & !ID_MASK;
        let last = self.slots.len() - 1;
        let mut at = hash as usize & last;
        loop {
            let slot = self.slots[at];
            // Most other texts are told apart by those bits, without looking at them.
            let same = slot & !ID_MASK == above && texts.get((slot & ID_MASK) as usize) == Some(text);
            if slot == FREE || same {
                return (at, above);
            }
            at = (at + 1) & last;
        }
    }

    fn get(&self, texts: &StringList, text: &str) -> Option<u32> {
        let (at, _) = self.find(texts, text);
        let slot = self.slots[at];
        (slot != FREE).then_some(slot & ID_MASK)
    }

    /// Adds an id below [`MAX_TOKENS`]; returns the one that `text` has already, which it keeps.
    fn insert(&mut self, texts: &StringList, text: &str, id: u32) -> Option<u32> {
        let (at, above) = self.find(texts, text);
        let slot = &mut self.slots[at];
        if *slot != FREE {
            return Some(*slot & ID_MASK);
        }
        *slot = above | id;
        None
    }
}

impl Vocabulary {
    /// A vocabulary of `texts` in id order, each of the kind at its place. Empty texts are holes: they have an id and
    /// stand for nothing.
    pub(crate) fn new(texts: StringList, kinds: Vec<TokenKind>, spelling: &Spelling) -> Result<Vocabulary> {
        let count = texts.len();
        if count > MAX_TOKENS {
            return Err(Error::IdOutOfRange {
                what: "the last token".into(),
                id: count as u64,
                size: MAX_TOKENS,
            });
        }
        let mut ids = Ids::new(count);
        let (mut bytes, mut byte_ends) = (Vec::new(), Vec::with_capacity(count));
        let byte_of_char = byte_level_table();
        for (id, (text, &kind)) in (0u32..).zip(texts.iter().zip(&kinds)) {
            if !text.is_empty()
                && let Some(first) = ids.insert(&texts, text, id)
            {
                return Err(Error::DuplicateToken { text: excerpt(text), first, second: id });
            }
            let bad = |reason| Error::BadToken { id, text: excerpt(text), reason };
            match kind {
                TokenKind::Byte => match byte_of_text(text) {
                    Some(byte) => bytes.push(byte),
                    None => return Err(bad("is a byte token but is not written <0xNN>")),
                },
                TokenKind::Normal | TokenKind::Unused => spell(text, spelling, &byte_of_char, &mut bytes),
                TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown => match spelling {
                    // SentencePiece escapes the spaces of user-defined pieces like those of any other.
                    Spelling::Spaces(_) if kind == TokenKind::UserDefined => {
                        spell(text, spelling, &byte_of_char, &mut bytes);
                    }
                    _ => bytes.extend_from_slice(text.as_bytes()),
                },
            }
            byte_ends.push(u32::try_from(bytes.len()).map_err(|_| bad("ends beyond 4 GiB of tokens"))?);
        }
        bytes.shrink_to_fit();
        Ok(Vocabulary { texts, bytes, byte_ends, kinds, ids })
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.byte_ends.get(id)? as usize;
        let start = if id == 0 { 0 } else { self.byte_ends[id - 1] as usize };
        self.bytes.get(start..end)
    }

    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(crate) fn id_of(&self, text: &str) -> Option<u32> {
        self.ids.get(&self.texts, text)
    }

    /// Ids and texts in id order, holes included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        (0u32..).zip(self.texts.iter().zip(&self.kinds)).map(|(id, (text, &kind))| (id, text, kind))
    }
}

fn spell(text: &str, spelling: &Spelling, byte_of_char: &ByteOfChar, bytes: &mut Vec<u8>) {
    match spelling {
        Spelling::ByteLevel => {
            let start = bytes.len();
            for character in text.chars() {
                match byte_of_char.get(character as usize).copied().flatten() {
                    Some(byte) => bytes.push(byte),
                    None => {
                        // Not written in the byte alphabet: an added token that a converter called ordinary.
                        bytes.truncate(start);
                        bytes.extend_from_slice(text.as_bytes());
                        return;
                    }
                }
            }
        }
        Spelling::Spaces(space) => {
            let mut words = text.split(*space);
            bytes.extend_from_slice(words.next().unwrap_or_default().as_bytes());
            for word in words {
                bytes.push(b' ');
                bytes.extend_from_slice(word.as_bytes());
            }
        }
        Spelling::PhantomSpaces => match text.strip_prefix('\u{2581}') {
            Some(word) => {
                bytes.push(b' ');
                bytes.extend_from_slice(word.as_bytes());
            }
            None => bytes.extend_from_slice(text.as_bytes()),
        },
        Spelling::Continuation(prefix) => match text.strip_prefix(prefix.as_str()) {
            Some(rest) => bytes.extend_from_slice(rest.as_bytes()),
            None => {
                bytes.push(b' ');
                bytes.extend_from_slice(text.as_bytes());
            }
        },
        Spelling::WordEnd(suffix) => match text.strip_suffix(suffix.as_str()) {
            Some(word) => {
                bytes.extend_from_slice(word.as_bytes());
                bytes.push(b' ');
            }
            None => bytes.extend_from_slice(text.as_bytes()),
        },
        Spelling::Plain => bytes.extend_from_slice(text.as_bytes()),
    }
}

/// The byte a text of the form `<0x0A>` names.
pub(crate) fn byte_of_text(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's byte alphabet: printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards.
pub(crate) fn byte_level_chars() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        chars[byte as usize] = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                let character = char::from_u32(next).unwrap_or('\0');
                next += 1;
                character
            }
        };
    }
    chars
}

/// The byte a character of GPT-2's alphabet stands for, by the character's number; all are below this one.
type ByteOfChar = [Option<u8>; 0x144];

fn byte_level_table() -> ByteOfChar {
    let mut table = [None; 0x144];
    for (byte, character) in (0..=255u8).zip(byte_level_chars()) {
        table[character as usize] = Some(byte);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_has_256_distinct_letters() {
        assert_eq!(byte_level_table().iter().flatten().count(), 256);
        assert_eq!(byte_level_chars()[b' ' as usize], 'Ġ');
        assert_eq!(byte_level_chars()[b'\n' as usize], 'Ċ');
    }

    #[test]
    fn a_text_used_twice_is_refused_with_both_ids() {
        let kinds = vec![TokenKind::Normal, TokenKind::Normal, TokenKind::Control];
        match Vocabulary::new(["a", "b", "a"].into_iter().collect(), kinds, &Spelling::Plain) {
            Err(Error::DuplicateToken { first: 0, second: 2, .. }) => {}
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn holes_have_ids_and_no_bytes() {
        let kinds = vec![TokenKind::Unused, TokenKind::Unused, TokenKind::Normal];
        let texts = ["", "", "x"].into_iter().collect();
        let vocabulary = Vocabulary::new(texts, kinds, &Spelling::Plain).unwrap();
        assert_eq!(vocabulary.bytes(1), Some(&b""[..]));
        assert_eq!(vocabulary.bytes(2), Some(&b"x"[..]));
        assert_eq!(vocabulary.bytes(3), None);
        assert_eq!((vocabulary.id_of(""), vocabulary.id_of("x")), (None, Some(2)));
    }

    #[test]
    fn byte_tokens_are_read_strictly() {
        assert_eq!(byte_of_text("<0x0A>"), Some(10));
        for wrong in ["<0x0>", "<0x+A>", "<0x0AA>", "0x0A", "<0xGG>"] {
            assert_eq!(byte_of_text(wrong), None, "{wrong}");
        }
    }
}
