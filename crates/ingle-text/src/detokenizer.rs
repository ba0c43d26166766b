//! Tokens to text while they come: never half a character, never later than it must be.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Turns a stream of tokens into text.
///
/// Many tokens end in the middle of a character. What is certain is given out at once; the bytes of an unfinished
/// character wait for the next token. Bytes that cannot become a character are U+FFFD as soon as that is certain, one
/// for each stretch that [`String::from_utf8_lossy`] would replace: all that was given out, joined, is what it makes of
/// all bytes.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// Bytes not given out: the beginning of a character.
    waiting: Vec<u8>,
    /// What the last call gave out, kept so that steady use does not allocate.
    text: String,
    /// Whether the next text begins with a space that is not the text's own.
    strip: bool,
}

impl Detokenizer {
    /// For tokens from the beginning of a text: where encoding puts a space before the text, it is taken back.
    pub fn new(tokenizer: &Tokenizer) -> Detokenizer {
        Detokenizer { strip: tokenizer.strips_space(), ..Detokenizer::continuing(tokenizer) }
    }

    /// For tokens that continue a text, such as an answer after a prompt: every space is the text's own.
    pub fn continuing(tokenizer: &Tokenizer) -> Detokenizer {
        Detokenizer { tokenizer: tokenizer.clone(), waiting: Vec::new(), text: String::new(), strip: false }
    }

    /// The text that token `id` makes certain, often empty. Control tokens are their text.
    ///
    /// # Errors
    /// [`UnknownToken`](crate::Error::UnknownToken) for an id outside the vocabulary; nothing has changed then.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        let bytes = self.tokenizer.stripped_bytes(id, &mut self.strip)?;
        self.waiting.extend_from_slice(bytes);
        self.text.clear();
        let used = certain(&self.waiting, &mut self.text);
        self.waiting.drain(..used);
        Ok(&self.text)
    }

    /// What is left when no more tokens come: U+FFFD when a character was left unfinished. The detokenizer is then as
    /// it is in the middle of a text.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.waiting.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.waiting.clear();
        }
        &self.text
    }

    /// Whether bytes of an unfinished character are waiting.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Writes what is certain of `bytes` to `text` and returns the number of bytes it took: all but the beginning of a
/// character that more bytes could complete.
fn certain(bytes: &[u8], text: &mut String) -> usize {
    let mut used = 0;
    loop {
        match std::str::from_utf8(&bytes[used..]) {
            Ok(rest) => {
                text.push_str(rest);
                return bytes.len();
            }
            Err(error) => {
                let valid = used + error.valid_up_to();
                // The bytes before the error were just found valid: nothing is replaced here.
                text.push_str(&String::from_utf8_lossy(&bytes[used..valid]));
                match error.error_len() {
                    Some(wrong) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        used = valid + wrong;
                    }
                    None => return valid,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` and returns what each gave out, and the rest.
    fn feed(pieces: &[&[u8]]) -> Vec<String> {
        let mut waiting = Vec::new();
        let mut out = Vec::new();
        for piece in pieces {
            waiting.extend_from_slice(piece);
            let mut text = String::new();
            let used = certain(&waiting, &mut text);
            waiting.drain(..used);
            out.push(text);
        }
        out.push(String::from_utf8_lossy(&waiting).into_owned());
        out
    }

    #[test]
    fn a_character_is_given_out_with_its_last_byte() {
        assert_eq!(feed(&[b"a\xf0\x9f", b"\x98", b"\x80b"]), ["a", "", "😀b", ""]);
    }

    #[test]
    fn what_cannot_become_a_character_does_not_wait() {
        // 0xFF never begins one; 0xE2 0x28 is none, the bracket is a character again.
        assert_eq!(feed(&[b"\xff", b"\xe2", b"(", b"\x80"]), ["\u{fffd}", "", "\u{fffd}(", "\u{fffd}", ""]);
        // 0xED 0xA0 would be half of a surrogate pair, 0xF4 0x90 beyond the last character.
        assert_eq!(
            feed(&[b"\xed", b"\xa0", b"\xf4", b"\x90"]),
            ["", "\u{fffd}\u{fffd}", "", "\u{fffd}\u{fffd}", ""]
        );
        assert_eq!(feed(&[b"\xe2\x82"]), ["", "\u{fffd}"]);
    }

    #[test]
    fn any_cut_of_any_bytes_joins_to_the_lossy_text() {
        // Bytes that begin, continue and break characters, in an order from a plain generator.
        let alphabet =
            [b'a', b' ', 0x80, 0xbf, 0xa0, 0x9f, 0xc2, 0xc0, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0xf5, 0x90, 0xff];
        let mut state = 1u64;
        let mut next = |bound: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % bound
        };
        for _ in 0..5000 {
            let bytes: Vec<u8> = (0..next(24)).map(|_| alphabet[next(alphabet.len())]).collect();
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + next(rest.len().min(4)));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(feed(&pieces).concat(), String::from_utf8_lossy(&bytes), "{bytes:x?}");
        }
    }
}
