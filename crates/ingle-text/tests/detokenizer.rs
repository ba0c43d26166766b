//! Streaming against decoding at once.

mod common;

use common::{awkward, fixture, from_folder, from_gguf, shared};
use ingle_text::{Detokenizer, Specials, Tokenizer};

fn stream(mut detokenizer: Detokenizer, ids: &[u32]) -> String {
    let mut text = String::new();
    for &id in ids {
        text.push_str(detokenizer.push(id).unwrap());
    }
    text.push_str(detokenizer.finish());
    text
}

fn check(name: &str, tokenizer: &Tokenizer) {
    // Every byte token and control token comes up: ids from all over the vocabulary, in no order.
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % tokenizer.vocab_size() as u64) as u32
    };
    for round in 0..300 {
        let ids: Vec<u32> =
            (0..round % 40).map(|_| if round % 2 == 0 { next() } else { next() % 300 }).collect();
        let all: Vec<u8> = ids
            .iter()
            .filter_map(|&id| tokenizer.token_bytes(id % tokenizer.vocab_size() as u32))
            .flatten()
            .copied()
            .collect();
        let ids: Vec<u32> = ids.iter().map(|id| id % tokenizer.vocab_size() as u32).collect();
        assert_eq!(
            stream(Detokenizer::continuing(tokenizer), &ids),
            String::from_utf8_lossy(&all),
            "{name} {ids:?}"
        );
        assert_eq!(
            stream(Detokenizer::new(tokenizer), &ids),
            tokenizer.decode(&ids).unwrap(),
            "{name} {ids:?}"
        );
    }
    for text in awkward() {
        let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
        assert_eq!(stream(Detokenizer::new(tokenizer), &ids), tokenizer.decode(&ids).unwrap());
    }
}

#[test]
fn a_stream_joins_to_the_lossy_text_of_all_bytes() {
    for file in ["llama-spm", "qwen2", "gemma-4", "bert-bge"] {
        if let Some(path) = shared(&format!("vocabs/ggml-vocab-{file}.gguf")) {
            check(file, &from_gguf(&path));
        }
    }
    for name in ["qwen3", "ember"] {
        check(name, &from_folder(&fixture(name)));
    }
}

#[test]
fn characters_come_whole_and_as_soon_as_they_are() {
    // This vocabulary has every byte as a token, and hardly anything else.
    let tokenizer = from_folder(&fixture("qwen3"));
    let text = "aé日😀";
    let ids = tokenizer.encode(text, Specials::AsText).unwrap();
    assert_eq!(ids.len(), 1 + 2 + 3 + 4);
    let mut detokenizer = Detokenizer::new(&tokenizer);
    let given: Vec<String> = ids.iter().map(|&id| detokenizer.push(id).unwrap().to_owned()).collect();
    assert_eq!(given, ["a", "", "é", "", "", "日", "", "", "", "😀"]);
    assert!(!detokenizer.is_waiting());
    // Stopped in the middle of a character.
    detokenizer.push(ids[1]).unwrap();
    assert!(detokenizer.is_waiting());
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!(detokenizer.finish(), "");
    assert!(detokenizer.push(u32::MAX).is_err());
}

#[test]
fn the_space_sentencepiece_adds_is_taken_back_once() {
    let Some(path) = shared("vocabs/ggml-vocab-llama-spm.gguf") else { return };
    let tokenizer = from_gguf(&path);
    let ids = tokenizer.encode_with_bos("Hello world", Specials::AsText).unwrap();
    assert_eq!(stream(Detokenizer::new(&tokenizer), &ids), "<s>Hello world");
    assert_eq!(stream(Detokenizer::new(&tokenizer), &ids[1..]), "Hello world");
    assert_eq!(stream(Detokenizer::continuing(&tokenizer), &ids[1..]), " Hello world");
    let spaced = tokenizer.encode("  two", Specials::AsText).unwrap();
    assert_eq!(stream(Detokenizer::new(&tokenizer), &spaced), "  two");
}
