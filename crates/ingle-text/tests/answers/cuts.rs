//! However an answer is cut into pieces, it reads the same.

use super::dialects::cases;
use super::{merged, read, tools};
use crate::common::{fixture, from_folder};
use ingle_text::{AnswerReader, Detokenizer, Dialect, Ending, Piece, Specials};

#[test]
fn every_cut_reads_like_the_whole() {
    for case in cases() {
        for ending in [Ending::Turn, Ending::Cut] {
            let whole = read(case.dialect, case.in_reasoning, &[&case.text], ending);
            for (at, _) in case.text.char_indices() {
                let (one, two) = case.text.split_at(at);
                assert_eq!(
                    read(case.dialect, case.in_reasoning, &[one, two], ending),
                    whole,
                    "{one} | {two}"
                );
            }
            let letters: Vec<String> = case.text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(read(case.dialect, case.in_reasoning, &letters, ending), whole, "{}", case.text);
            let threes: Vec<String> = letters.chunks(3).map(|chunk| chunk.concat()).collect();
            let threes: Vec<&str> = threes.iter().map(String::as_str).collect();
            assert_eq!(read(case.dialect, case.in_reasoning, &threes, ending), whole, "{}", case.text);
        }
    }
}

/// Byte by byte through the detokenizer: a vocabulary of bytes cuts inside characters and markers.
#[test]
fn every_byte_apart_reads_like_the_whole() {
    let tokenizer = from_folder(&fixture("qwen3"));
    for case in cases() {
        let whole = read(case.dialect, case.in_reasoning, &[&case.text], Ending::Turn);
        let dialect = Dialect::named(case.dialect, None).unwrap();
        let mut reader = AnswerReader::new(&dialect, &tools(), case.in_reasoning, false);
        let mut detokenizer = Detokenizer::continuing(&tokenizer);
        let mut pieces = Vec::new();
        let mut ids = Vec::new();
        for byte in case.text.chars() {
            // one character at a time, so that no merge joins its bytes with others
            ids.extend(tokenizer.encode(&byte.to_string(), Specials::AsText).unwrap());
        }
        assert!(ids.len() + 16 >= case.text.len(), "most bytes are tokens of their own");
        for id in ids {
            reader.push(detokenizer.push(id).unwrap(), &mut pieces);
        }
        reader.push(detokenizer.finish(), &mut pieces);
        reader.finish(Ending::Turn, &mut pieces);
        let sources: String = pieces.iter().map(Piece::source).collect();
        assert_eq!(sources, case.text);
        assert_eq!(merged(pieces), whole);
    }
}

/// An answer cut off anywhere loses nothing, and calls that are not over are none.
#[test]
fn an_answer_may_end_anywhere() {
    for case in cases() {
        for (at, _) in case.text.char_indices() {
            let pieces = read(case.dialect, case.in_reasoning, &[&case.text[..at]], Ending::Cut);
            let calls = pieces.iter().filter(|piece| matches!(piece, Piece::Call { .. })).count();
            let whole = read(case.dialect, case.in_reasoning, &[&case.text], Ending::Turn);
            let all = whole.iter().filter(|piece| matches!(piece, Piece::Call { .. })).count();
            assert!(calls <= all, "{}", &case.text[..at]);
        }
    }
}
