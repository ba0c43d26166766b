//! Any bytes as a tokenizer, from a GGUF header or as tokenizer.json (after a NUL byte: tokenizer_config.json): one that
//! is built encodes and decodes within its vocabulary.
#![no_main]

use ingle_model::gguf::read_header;
use ingle_text::{Specials, Tokenizer};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const TEXTS: [&str; 5] = [
    "",
    "Hello, world!  It's 12345\n\n",
    " \u{a0}\t naïve café 日本語 👩‍👩‍👧 ｆ",
    "<|im_start|>user<s></s>[UNK]",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
];
/// Characters of the input's end that are also encoded.
const TAIL: usize = 200;
const IDS_DECODED: u32 = 500;

fuzz_target!(|bytes: &[u8]| {
    let Some(tokenizer) = build(bytes) else { return };
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]);
    for text in TEXTS.into_iter().chain([&*tail]) {
        for specials in [Specials::Parse, Specials::AsText] {
            let _ = tokenizer.encode(text, specials);
            let Ok(ids) = tokenizer.encode_with_bos(text, specials) else { continue };
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            tokenizer.decode(&ids).expect("ids of the vocabulary are decoded");
        }
    }
    let size = tokenizer.vocab_size() as u32;
    for id in (0..size.min(IDS_DECODED)).chain([size.wrapping_sub(1)]).filter(|&id| id < size) {
        tokenizer.decode(&[id]).expect("ids of the vocabulary are decoded");
        assert!(tokenizer.token_kind(id).is_some() && tokenizer.token_bytes(id).is_some());
    }
    assert!(tokenizer.decode(&[size]).is_err() && tokenizer.decode(&[u32::MAX]).is_err());
    for id in [tokenizer.bos(), tokenizer.eos(), tokenizer.eot(), tokenizer.pad(), tokenizer.unknown()] {
        assert!(id.is_none_or(|id| id < size));
    }
    assert!(tokenizer.end_of_generation().iter().all(|&id| id < size));
});

fn build(bytes: &[u8]) -> Option<Tokenizer> {
    if bytes.starts_with(b"GGUF") {
        let header = read_header(Path::new("input.gguf"), bytes).ok()?;
        return Tokenizer::from_metadata(&header.metadata).ok();
    }
    match bytes.iter().position(|&byte| byte == 0) {
        Some(nul) => Tokenizer::from_json(&bytes[..nul], Some(&bytes[nul + 1..])).ok(),
        None => Tokenizer::from_json(bytes, None).ok(),
    }
}
