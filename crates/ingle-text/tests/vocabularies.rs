//! Tokenizers against published vectors, against their twins in the other format, and against bad input.

mod common;

use common::{awkward, fixture, from_folder, from_gguf, shared};
use ingle_model::Source;
use ingle_text::{Specials, TemplateSources, Tokenizer};

/// Inputs and expected ids of one vocabulary.
fn vectors(path: &std::path::Path) -> Vec<(String, Vec<u32>)> {
    let read = |end: &str| std::fs::read_to_string(format!("{}{end}", path.display())).unwrap();
    let inputs = read(".inp");
    let mut inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    if inputs.last() == Some(&"") {
        inputs.pop();
    }
    let outputs = read(".out");
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    inputs.iter().map(|input| input.to_string()).zip(outputs.lines().map(ids)).collect()
}

fn check_vectors(name: &str, count: usize) {
    let Some(path) = shared(&format!("vocabs/ggml-vocab-{name}.gguf")) else { return };
    let tokenizer = from_gguf(&path);
    let vectors = vectors(&path);
    assert_eq!(vectors.len(), count);
    let mut wrong = Vec::new();
    for (text, expected) in vectors {
        let found = tokenizer.encode(&text, Specials::AsText).unwrap();
        if found != expected {
            let spell = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Vec<_>>();
            wrong.push(format!("{text:?}\n  {:?}\n  {:?}", spell(&found), spell(&expected)));
        }
        if name != "bert-bge" && tokenizer.bos() != Some(0) {
            let back = tokenizer.decode(&found).unwrap();
            assert_eq!(back, text, "{name} does not decode what it encodes");
        }
    }
    assert!(wrong.is_empty(), "{name}: {} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn qwen2_vectors() {
    check_vectors("qwen2", 46);
}

#[test]
fn qwen35_vectors() {
    check_vectors("qwen35", 50);
}

#[test]
fn deepseek_llm_vectors() {
    check_vectors("deepseek-llm", 46);
}

#[test]
fn gpt2_vectors() {
    check_vectors("gpt-2", 46);
}

#[test]
fn gemma4_vectors() {
    check_vectors("gemma-4", 46);
}

#[test]
fn sentencepiece_vectors() {
    check_vectors("llama-spm", 46);
}

#[test]
fn wordpiece_vectors() {
    check_vectors("bert-bge", 46);
}

fn assert_twins(name: &str, one: &Tokenizer, other: &Tokenizer, texts: &[String]) {
    assert_eq!(one.vocab_size(), other.vocab_size(), "{name}");
    for id in 0..one.vocab_size() as u32 {
        assert_eq!(one.token_text(id), other.token_text(id), "{name}: token {id}");
        assert_eq!(one.token_bytes(id), other.token_bytes(id), "{name}: token {id}");
        assert_eq!(one.is_special(id), other.is_special(id), "{name}: token {id}");
    }
    assert_eq!((one.eos(), one.pad()), (other.eos(), other.pad()), "{name}");
    assert_eq!(one.end_of_generation(), other.end_of_generation(), "{name}");
    for text in texts {
        for specials in [Specials::Parse, Specials::AsText] {
            let ids = one.encode(text, specials).unwrap();
            assert_eq!(ids, other.encode(text, specials).unwrap(), "{name}: {text:?} {specials:?}");
            assert_eq!(one.decode(&ids).unwrap(), *text, "{name}");
        }
        // The DeepSeek folders ask for a BOS that their conversions do not.
        if one.add_bos() == other.add_bos() {
            assert_eq!(
                one.encode_with_bos(text, Specials::AsText).unwrap(),
                other.encode_with_bos(text, Specials::AsText).unwrap(),
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn a_gguf_file_and_its_folder_have_one_tokenizer() {
    let Some(goldens) = shared("goldens") else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(&goldens).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("tokenizer.json").exists() {
            continue;
        }
        let tokenizer = from_folder(&folder);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let gguf = goldens.join("gguf").join(format!("{name}.gguf"));
        if gguf.exists() {
            // The folders' normaliser is empty, qwen2's in GGUF composes: these texts are composed.
            assert_twins(&name, &from_gguf(&gguf), &tokenizer, &awkward());
            seen += 1;
        }
    }
    assert!(seen >= 13, "{seen}");
}

#[test]
fn ember_has_one_tokenizer_in_all_its_files() {
    let Some(ember) = shared("ember") else { return };
    let folder = from_folder(&ember.join("model"));
    let mut texts = awkward();
    texts.extend(vec!["I like the quick brown fox. What is 2 + 3?".to_owned()]);
    for file in ["ember-q8_0.gguf", "ember-q4_k_m.gguf", "ember-draft-q8_0.gguf"] {
        let gguf = from_gguf(&ember.join(file));
        assert_twins(file, &gguf, &folder, &texts);
        // Both compose before encoding, as Qwen's tokenizers do.
        let (split, composed) = ("e\u{301}a\u{300}", "éà");
        for tokenizer in [&gguf, &folder] {
            assert_eq!(
                tokenizer.encode(split, Specials::AsText).unwrap(),
                tokenizer.encode(composed, Specials::AsText).unwrap()
            );
        }
    }
    let ends: Vec<_> = folder.end_of_generation().iter().map(|&id| folder.token_text(id).unwrap()).collect();
    assert_eq!(ends, ["<|endoftext|>", "<|im_end|>"]);
    assert_eq!(folder.eot(), folder.id_of("<|im_end|>"));
}

#[test]
fn an_opened_model_has_its_tokenizer_and_template_in_either_layout() {
    let Some(ember) = shared("ember") else { return };
    let mut templates = Vec::new();
    for path in ["ember-q8_0.gguf", "model"] {
        let source = Source::open(&ember.join(path)).unwrap();
        assert_eq!(Tokenizer::from_source(&source).unwrap().vocab_size(), 2048);
        templates.push(TemplateSources::from_source(&source).unwrap().default.unwrap());
    }
    // The converter drops the final line break of the folder's chat_template.jinja.
    assert_eq!(templates[0].trim_end(), templates[1].trim_end());
}

#[test]
fn harmony_answers_do_not_end_with_a_message() {
    let tokenizer = from_folder(&fixture("gpt_oss"));
    let ends: Vec<_> =
        tokenizer.end_of_generation().iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert_eq!(ends, ["<|return|>", "<|endoftext|>", "<|call|>"]);
}

#[test]
fn tokens_of_a_folder_in_the_repository_are_the_published_ones() {
    let tokenizer = from_folder(&fixture("ember"));
    let texts = |text: &str| -> Vec<String> {
        let ids = tokenizer.encode(text, Specials::Parse).unwrap();
        ids.iter().map(|&id| tokenizer.token_text(id).unwrap().to_owned()).collect()
    };
    assert_eq!(texts("<|im_start|>user\n12 é"), ["<|im_start|>", "user", "Ċ", "1", "2", "Ġ", "Ã©"]);
    assert_eq!(texts("<think>\n\n</think>"), ["<think>", "ĊĊ", "</think>"]);
    for text in awkward() {
        let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn bos_is_added_where_the_model_asks_and_only_once() {
    let Some(path) = shared("goldens/gguf/gemma3_text.gguf") else { return };
    let tokenizer = from_gguf(&path);
    let bos = tokenizer.bos().unwrap();
    assert!(tokenizer.add_bos());
    let once = tokenizer.encode_with_bos("hi", Specials::Parse).unwrap();
    assert_eq!(once[0], bos);
    assert_eq!(tokenizer.encode_with_bos("<bos>hi", Specials::Parse).unwrap(), once);
    // Written by a person it is text, and the real one still comes first.
    let text = tokenizer.encode_with_bos("<bos>hi", Specials::AsText).unwrap();
    assert_eq!(text[0], bos);
    assert!(!text[1..].contains(&bos));
}

#[test]
fn bert_texts_are_framed() {
    let Some(path) = shared("vocabs/ggml-vocab-bert-bge.gguf") else { return };
    let tokenizer = from_gguf(&path);
    let ids = tokenizer.encode_with_bos("Hello world", Specials::AsText).unwrap();
    let texts: Vec<_> = ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert_eq!(texts, ["[CLS]", "▁hello", "▁world", "[SEP]"]);
    assert_eq!(tokenizer.decode(&ids[1..3]).unwrap(), "hello world");
}
