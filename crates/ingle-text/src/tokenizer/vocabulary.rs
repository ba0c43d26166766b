//! The tokens of a model: text, exact bytes and kind of each id.

use std::collections::HashMap;

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
    texts: String,
    text_ends: Vec<usize>,
    bytes: Vec<u8>,
    byte_ends: Vec<usize>,
    kinds: Vec<TokenKind>,
    ids: HashMap<Box<str>, u32>,
}

impl Vocabulary {
    /// A vocabulary of `tokens` in id order. Empty texts are holes: they have an id and stand for nothing.
    pub(crate) fn new<'a>(
        tokens: impl ExactSizeIterator<Item = (&'a str, TokenKind)>,
        spelling: &Spelling,
    ) -> Result<Vocabulary> {
        let count = tokens.len();
        if count > MAX_TOKENS {
            return Err(Error::IdOutOfRange {
                what: "the last token".into(),
                id: count as u64,
                size: MAX_TOKENS,
            });
        }
        let mut vocabulary = Vocabulary {
            texts: String::new(),
            text_ends: Vec::with_capacity(count),
            bytes: Vec::new(),
            byte_ends: Vec::with_capacity(count),
            kinds: Vec::with_capacity(count),
            ids: HashMap::with_capacity(count),
        };
        let byte_of_char = byte_level_table();
        for (id, (text, kind)) in (0u32..).zip(tokens) {
            if !text.is_empty()
                && let Some(first) = vocabulary.ids.insert(text.into(), id)
            {
                return Err(Error::DuplicateToken { text: excerpt(text), first, second: id });
            }
            vocabulary.texts.push_str(text);
            vocabulary.text_ends.push(vocabulary.texts.len());
            let bytes = &mut vocabulary.bytes;
            match kind {
                TokenKind::Byte => match byte_of_text(text) {
                    Some(byte) => bytes.push(byte),
                    None => {
                        return Err(Error::BadToken {
                            id,
                            text: excerpt(text),
                            reason: "is a byte token but is not written <0xNN>",
                        });
                    }
                },
                TokenKind::Normal | TokenKind::Unused => spell(text, spelling, &byte_of_char, bytes),
                TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown => match spelling {
                    // SentencePiece escapes the spaces of user-defined pieces like those of any other.
                    Spelling::Spaces(_) if kind == TokenKind::UserDefined => {
                        spell(text, spelling, &byte_of_char, bytes);
                    }
                    _ => bytes.extend_from_slice(text.as_bytes()),
                },
            }
            vocabulary.byte_ends.push(vocabulary.bytes.len());
            vocabulary.kinds.push(kind);
        }
        Ok(vocabulary)
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(span(&self.text_ends, id)?)
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(span(&self.byte_ends, id)?)
    }

    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(crate) fn id_of(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Ids and texts in id order, holes included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        (0u32..).zip(&self.kinds).filter_map(|(id, &kind)| Some((id, self.text(id)?, kind)))
    }
}

fn span(ends: &[usize], id: u32) -> Option<std::ops::Range<usize>> {
    let id = id as usize;
    let end = *ends.get(id)?;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    Some(start..end)
}

fn spell(text: &str, spelling: &Spelling, byte_of_char: &HashMap<char, u8>, bytes: &mut Vec<u8>) {
    match spelling {
        Spelling::ByteLevel => {
            let start = bytes.len();
            for character in text.chars() {
                match byte_of_char.get(&character) {
                    Some(&byte) => bytes.push(byte),
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
            bytes.extend_from_slice(text.replace(*space, " ").as_bytes());
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

fn byte_level_table() -> HashMap<char, u8> {
    (0..=255u8).map(|byte| (byte_level_chars()[byte as usize], byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_has_256_distinct_letters() {
        assert_eq!(byte_level_table().len(), 256);
        assert_eq!(byte_level_chars()[b' ' as usize], 'Ġ');
        assert_eq!(byte_level_chars()[b'\n' as usize], 'Ċ');
    }

    #[test]
    fn a_text_used_twice_is_refused_with_both_ids() {
        let tokens = [("a", TokenKind::Normal), ("b", TokenKind::Normal), ("a", TokenKind::Control)];
        match Vocabulary::new(tokens.into_iter(), &Spelling::Plain) {
            Err(Error::DuplicateToken { first: 0, second: 2, .. }) => {}
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn holes_have_ids_and_no_bytes() {
        let tokens = [("", TokenKind::Unused), ("", TokenKind::Unused), ("x", TokenKind::Normal)];
        let vocabulary = Vocabulary::new(tokens.into_iter(), &Spelling::Plain).unwrap();
        assert_eq!(vocabulary.bytes(1), Some(&b""[..]));
        assert_eq!(vocabulary.bytes(2), Some(&b"x"[..]));
        assert_eq!(vocabulary.bytes(3), None);
        assert_eq!(vocabulary.id_of(""), None);
    }

    #[test]
    fn byte_tokens_are_read_strictly() {
        assert_eq!(byte_of_text("<0x0A>"), Some(10));
        for wrong in ["<0x0>", "<0x+A>", "<0x0AA>", "0x0A", "<0xGG>"] {
            assert_eq!(byte_of_text(wrong), None, "{wrong}");
        }
    }
}
