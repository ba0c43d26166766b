//! Tokenizers with holes: a typed error that names what is wrong, and never a panic.

mod common;

use std::time::{Duration, Instant};

use common::{fixture, from_gguf, shared};
use ingle_model::metadata::IntegerWidth;
use ingle_model::{Metadata, Value};
use ingle_text::{Error, Specials, Tokenizer};

fn strings(list: &[&str]) -> Value {
    Value::Strings(list.iter().collect())
}

fn number(number: u64) -> Value {
    Value::Unsigned(number, IntegerWidth::W32)
}

fn kinds(list: &[i64]) -> Value {
    Value::Signeds(list.to_vec(), IntegerWidth::W32)
}

/// A small byte-level BPE vocabulary that works.
fn bpe() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String("gpt-2".into()));
    metadata.insert("tokenizer.ggml.tokens", strings(&["a", "b", "ab", "<end>", "<user>"]));
    metadata.insert("tokenizer.ggml.token_type", kinds(&[1, 1, 1, 3, 4]));
    metadata.insert("tokenizer.ggml.merges", strings(&["a b"]));
    metadata.insert("tokenizer.ggml.eos_token_id", number(3));
    metadata
}

/// A small SentencePiece vocabulary that works.
fn spm() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    metadata.insert("tokenizer.ggml.tokens", strings(&["<unk>", "a", "b", "ab", "▁", "▁ab", "ba"]));
    metadata.insert("tokenizer.ggml.scores", Value::F32s(vec![0., -1., -2., -3., -4., -5., -3.]));
    metadata.insert("tokenizer.ggml.token_type", kinds(&[2, 1, 1, 1, 1, 1, 1]));
    metadata.insert("tokenizer.ggml.unknown_token_id", number(0));
    metadata
}

fn with(mut metadata: Metadata, key: &str, value: Value) -> Result<Tokenizer, Error> {
    metadata.insert(format!("tokenizer.ggml.{key}"), value);
    Tokenizer::from_metadata(&metadata)
}

fn without(metadata: &Metadata, key: &str) -> Result<Tokenizer, Error> {
    let mut rest = Metadata::default();
    for (name, value) in metadata.iter().filter(|(name, _)| *name != format!("tokenizer.ggml.{key}")) {
        rest.insert(name, value.clone());
    }
    Tokenizer::from_metadata(&rest)
}

#[test]
fn the_small_vocabularies_work() {
    let tokenizer = Tokenizer::from_metadata(&bpe()).unwrap();
    assert_eq!(tokenizer.encode("abba<end><user>", Specials::Parse).unwrap(), [2, 1, 0, 3, 4]);
    assert_eq!(tokenizer.end_of_generation(), [3]);
    let tokenizer = Tokenizer::from_metadata(&spm()).unwrap();
    assert_eq!(tokenizer.encode("ab", Specials::Parse).unwrap(), [5]);
}

#[test]
fn equal_scores_are_joined_from_the_left() {
    // "ab" and "ba" have one score: aba is ab + a.
    let tokenizer = with(spm(), "add_space_prefix", Value::Bool(false)).unwrap();
    assert_eq!(tokenizer.encode("aba", Specials::AsText).unwrap(), [3, 1]);
    assert_eq!(tokenizer.encode("bab", Specials::AsText).unwrap(), [6, 2]);
}

#[test]
fn unused_pieces_are_taken_apart_and_user_defined_ones_are_not_joined() {
    let mut metadata = spm();
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    let unused = with(metadata.clone(), "token_type", kinds(&[2, 1, 1, 5, 1, 1, 1])).unwrap();
    assert_eq!(unused.encode("ab", Specials::AsText).unwrap(), [1, 2]);
    let user_defined = with(metadata, "token_type", kinds(&[2, 4, 1, 1, 1, 1, 1])).unwrap();
    assert_eq!(user_defined.encode("ab", Specials::AsText).unwrap(), [1, 2]);
}

#[test]
fn unknown_characters_are_one_unknown_token_or_an_error() {
    let tokenizer = with(spm(), "add_space_prefix", Value::Bool(false)).unwrap();
    assert_eq!(tokenizer.encode("axyzb", Specials::AsText).unwrap(), [1, 0, 2]);
    let tokenizer = without(&spm(), "unknown_token_id").unwrap();
    assert!(matches!(tokenizer.encode("x", Specials::AsText), Err(Error::Unencodable { .. })));
    // Byte-level BPE without the byte for it: not silently left out.
    let tokenizer = Tokenizer::from_metadata(&bpe()).unwrap();
    for text in ["c", "abc", "cab", "c a"] {
        assert!(matches!(tokenizer.encode(text, Specials::AsText), Err(Error::Unencodable { .. })), "{text}");
    }
}

#[test]
fn missing_keys_are_named() {
    for (metadata, key) in
        [(bpe(), "model"), (bpe(), "tokens"), (bpe(), "merges"), (spm(), "tokens"), (spm(), "scores")]
    {
        match without(&metadata, key) {
            Err(Error::MissingKey { key: named }) => assert_eq!(named, format!("tokenizer.ggml.{key}")),
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(without(&bpe(), "token_type").is_ok());
}

#[test]
fn damage_is_named() {
    let message = |result: Result<Tokenizer, Error>| result.err().map(|error| error.to_string()).unwrap();
    for (result, parts) in [
        (with(bpe(), "model", Value::String("rwkv".into())), vec!["rwkv", "gpt2"]),
        (with(bpe(), "pre", Value::String("future".into())), vec!["future", "qwen2", "llama-bpe"]),
        (with(bpe(), "tokens", strings(&["a", "b", "ab", "a", "c"])), vec!["\"a\"", "0", "3"]),
        (with(bpe(), "tokens", strings(&[])), vec!["tokenizer.ggml.tokens"]),
        (with(bpe(), "tokens", number(1)), vec!["tokenizer.ggml.tokens"]),
        (with(bpe(), "token_type", kinds(&[1, 1])), vec!["token_type", "2", "5"]),
        (with(spm(), "scores", Value::F32s(vec![0.0])), vec!["scores", "1", "7"]),
        (with(spm(), "scores", Value::F32s(vec![f32::NAN; 7])), vec!["score"]),
        (with(bpe(), "eos_token_id", number(5)), vec!["eos", "5"]),
        (with(bpe(), "bos_token_id", number(1 << 40)), vec!["bos"]),
        (with(bpe(), "merges", strings(&["a c"])), vec!["a c"]),
        (with(bpe(), "merges", strings(&["b a"])), vec!["b a"]),
        (with(bpe(), "merges", strings(&["ab"])), vec!["ab"]),
        (with(bpe(), "merges", strings(&[""])), vec!["merge rule 0"]),
        (with(spm(), "token_type", kinds(&[2, 6, 1, 1, 1, 1, 1])), vec!["byte token"]),
    ] {
        let message = message(result);
        for part in parts {
            assert!(message.contains(part), "{part:?} not in {message:?}");
        }
    }
    // "None", as some writers put it.
    for none in [Value::Signed(-1, IntegerWidth::W32), number(u64::from(u32::MAX))] {
        assert_eq!(with(bpe(), "bos_token_id", none).unwrap().bos(), None);
    }
}

#[test]
fn damaged_json_is_an_error() {
    let good =
        r####"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}"####;
    assert!(Tokenizer::from_json(good.as_bytes(), None).is_ok());
    for bad in [
        "",
        "[]",
        "{}",
        "{\"model\": 1}",
        r#"{"model": {"type": "BPE"}}"#,
        r#"{"model": {"type": "Magic", "vocab": {}}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}}"#,
        r#"{"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}}"#,
        r#"{"model": {"type": "Unigram", "vocab": [[1, 0.0]], "unk_id": 0}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": {"type": "Nope"}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": "AAAA"}]}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "FixedLength", "length": 0}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 1}]}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 0, "content": "b"}]}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 99999999, "content": "b"}]}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "post_processor": {"type": "BertProcessing", "sep": ["x", 9], "cls": ["y", 8]}}"#,
    ] {
        assert!(Tokenizer::from_json(bad.as_bytes(), None).is_err(), "{bad}");
    }
    assert!(Tokenizer::from_json(good.as_bytes(), Some(b"{")).is_err());
    // Nested as deep as anyone likes.
    let deep = "{\"normalizer\":".repeat(100_000);
    assert!(Tokenizer::from_json(deep.as_bytes(), None).is_err());
}

#[test]
fn cut_and_flipped_files_never_panic() {
    let good = std::fs::read(fixture("qwen3").join("tokenizer.json")).unwrap();
    for cut in (0..good.len()).step_by(good.len() / 50) {
        assert!(Tokenizer::from_json(&good[..cut], None).is_err());
    }
    for at in (0..good.len()).step_by(good.len() / 200) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x11;
        if let Ok(tokenizer) = Tokenizer::from_json(&flipped, Some(&flipped)) {
            let _ = tokenizer.encode_with_bos("Hello <think> wörld 123\n", Specials::Parse);
        }
    }
}

#[test]
fn one_enormous_word_is_not_a_matter_of_minutes() {
    for file in ["llama-spm", "qwen2", "gemma-4"] {
        let Some(path) = shared(&format!("vocabs/ggml-vocab-{file}.gguf")) else { return };
        let tokenizer = from_gguf(&path);
        for text in [
            "a".repeat(200_000),
            "abcdefghij".repeat(20_000),
            " ".repeat(200_000) + "x",
            "é\n".repeat(60_000),
        ] {
            let start = Instant::now();
            let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
            assert!(start.elapsed() < Duration::from_secs(30), "{file}: {:?}", start.elapsed());
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{file}");
        }
    }
}
