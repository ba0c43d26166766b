//! The usual mistakes: each is refused with the file's name and what to do.

use super::{fixture, folder, ingle};
use std::path::Path;

/// Asserts that the program refuses with `code`, in one line that names everything in `said`.
fn refuses(args: &[&str], code: i32, said: &[&str]) {
    let ended = ingle(args);
    assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.err);
    assert_eq!(ended.out, "", "{args:?}");
    for part in said {
        assert!(ended.err.contains(part), "{args:?} does not say `{part}`: {}", ended.err);
    }
    assert!(ended.err.starts_with("error: "), "{args:?}: {}", ended.err);
    assert!(!ended.err.contains("panicked"), "{args:?}: {}", ended.err);
    if code == 1 {
        assert_eq!(ended.err.lines().count(), 1, "{args:?}: {}", ended.err);
    }
}

/// Every command that opens a model must refuse it.
fn every_command_refuses(model: &Path, said: &[&str]) {
    let model = model.to_str().unwrap();
    refuses(&["run", model, "Hello"], 1, said);
    refuses(&["show", model], 1, said);
    refuses(&["logits", model, "--tokens", "1", "-o", "/nonexistent/out"], 1, said);
}

#[test]
fn missing_files() {
    refuses(&["run", "./no-such-model.gguf"], 1, &["./no-such-model.gguf", "check the path"]);
    refuses(&["run", "no-such-model.gguf", "Hello"], 1, &["no-such-model.gguf", "check the path"]);
    refuses(&["show", "/no/such/folder"], 1, &["/no/such/folder", "check the path"]);
    refuses(&["tokenize", "nothing", "x"], 1, &["nothing", "ember"]);
}

#[test]
fn models_that_would_have_to_be_downloaded() {
    for name in ["qwen3:4b", "Qwen/Qwen3-4B", "llama3.2"] {
        refuses(&["run", name], 1, &[name, "ingle pull", "path"]);
        refuses(&["show", name], 1, &[name, "ingle pull"]);
    }
}

#[test]
fn wrong_options() {
    refuses(&["run", "--temprature", "1", "Hello"], 2, &["--temprature", "--temperature"]);
    refuses(&["run", "Hello", "--temperature", "hot"], 2, &["--temperature", "hot"]);
    refuses(&["run", "Hello", "--temperature", "-1"], 1, &["temperature", "0 or more"]);
    refuses(&["run", "Hello", "--top-p", "1.5"], 1, &["top_p", "0 to 1"]);
    refuses(&["run", "Hello", "--threads", "0"], 2, &["--threads", "1 to"]);
    refuses(
        &["run", "Hello", "--isa", "mmx"],
        2,
        &["mmx", "known", "scalar, neon, neon-dotprod, neon-i8mm, avx2, avxvnni, avx512vnni, avx512"],
    );
    refuses(&["run", "Hello", "--reference", "--threads", "2"], 2, &["--reference", "--threads"]);
    refuses(&["run", "Hello", "--reference", "--isa", "scalar"], 2, &["--reference", "--isa"]);
    refuses(&["run", "Hello", "--stop", ""], 2, &["--stop", "empty"]);
    refuses(&["run", "Hello", "--max-tokens", "-1"], 2, &["above 0"]);
    refuses(&["run", "Hello", "--top-k", "-1"], 2, &["from 0"]);
    refuses(&["tokenize", "ember", "--decode", "1;2"], 2, &["separated by commas"]);
    refuses(&["run", "Hello", "--raw", "--system", "x"], 2, &["--raw", "--system"]);
    refuses(&["run", "Hello", "--max-tokens", "0"], 2, &["--max-tokens"]);
    refuses(&["frobnicate"], 2, &["frobnicate"]);
    refuses(&["tokenize", "ember", "--decode", "99999"], 1, &["99999"]);
}

#[test]
fn programs_get_errors_as_json() {
    for args in [&["run", "./no-such.gguf", "x"][..], &["show", "/no/such"], &["tokenize", "nothing", "x"]] {
        let ended = ingle(&[args, &["--json"]].concat());
        assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""), "{args:?}");
        let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert!(document["error"].as_str().unwrap().contains("no"), "{document}");
    }
}

#[test]
fn prompts_without_quotes() {
    refuses(&["run", "what", "is", "ingle", "?"], 2, &["quotes", "ingle run \"what is ingle ?\""]);
    refuses(&["run", "what", "is"], 1, &["quotes"]);
}

#[test]
fn escape_sequences_in_arguments_are_not_repeated() {
    for args in [["run", "./no-\x1b[2J.gguf"], ["show", "\x1b[2J:x"], ["run", "--\x1b[2J"]] {
        let ended = ingle(&args);
        assert!(
            ended.code != Some(0) && !ended.err.contains('\x1b') && !ended.err.is_empty(),
            "{}",
            ended.err
        );
    }
}

#[test]
fn nothing_to_answer() {
    refuses(&["run"], 2, &["PROMPT"]);
    refuses(&["run", ""], 2, &["prompt is empty"]);
    refuses(&["run", "ember", " "], 2, &["prompt is empty"]);
    let ended = ingle(&["run", "--json", "ember"]);
    assert!(ended.code == Some(2) && ended.out.contains("PROMPT"), "{}", ended.out);
}

#[test]
fn prompts_that_do_not_fit() {
    let long = "word ".repeat(3000);
    refuses(&["run", "-q", "ember", &long], 1, &["tokens", "--context", "2048"]);
    refuses(&["run", "-q", "ember", "Hello there", "--context", "4"], 1, &["context", "4"]);
}

#[test]
fn folders_without_a_model() {
    let empty = folder("mistakes-empty");
    every_command_refuses(&empty, &["mistakes-empty", "config.json"]);

    let half = folder("mistakes-half");
    std::fs::copy(Path::new(&fixture("qwen3")).join("config.json"), half.join("config.json")).unwrap();
    every_command_refuses(&half, &["mistakes-half", "safetensors"]);
}

#[test]
fn damaged_files() {
    let folder = folder("mistakes-damaged");
    let whole = std::fs::read(fixture("gguf/qwen3.gguf")).unwrap();
    for (name, bytes) in [
        ("half.gguf", &whole[..whole.len() / 2]),
        ("header.gguf", &whole[..100]),
        ("magic.gguf", &whole[..4]),
        ("empty.gguf", &whole[..0]),
        ("text.gguf", b"<!doctype html><title>404</title>".as_slice()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        every_command_refuses(&path, &[name, "fetch"]);
    }
}

#[test]
fn an_architecture_nobody_here_knows() {
    let folder = folder("mistakes-architecture");
    let mut bytes = std::fs::read(fixture("gguf/qwen3.gguf")).unwrap();
    let key = b"general.architecture";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    let value = at + key.len() + 4 + 8; // after the key come its type and the text's length
    assert_eq!(&bytes[value..value + 5], b"qwen3");
    bytes[value..value + 5].copy_from_slice(b"zorg9");
    let path = folder.join("zorg.gguf");
    std::fs::write(&path, bytes).unwrap();
    let model = path.to_str().unwrap();
    let said = ["zorg.gguf", "zorg9", "cannot run yet; this version runs: qwen2, qwen3"];
    refuses(&["run", model, "Hello"], 1, &said);
    refuses(&["logits", model, "--tokens", "1", "-o", "/nonexistent/out"], 1, &said);
    let shown = super::succeeds(&["show", model, "--tensors"]).out;
    for part in ["zorg9", "cannot run yet", "F32", "output_norm.weight", "vocabulary"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("KV cache"), "{shown}");
    let document = super::json(&["show", model, "--json"]);
    assert_eq!(
        (&document["architecture"], &document["network"]),
        (&"zorg9".into(), &serde_json::Value::Null)
    );
}

#[test]
fn a_file_with_only_a_tokenizer() {
    let mut bytes = std::fs::read(fixture("gguf/qwen3.gguf")).unwrap();
    bytes[8..16].fill(0); // the number of tensors
    let path = folder("mistakes-vocabulary").join("vocabulary.gguf");
    std::fs::write(&path, bytes).unwrap();
    let model = path.to_str().unwrap();
    refuses(&["run", model, "Hello"], 1, &["vocabulary.gguf", "only a tokenizer"]);
    refuses(&["logits", model, "--tokens", "1", "-o", "/nonexistent/out"], 1, &["only a tokenizer"]);
    let shown = super::succeeds(&["show", model]).out;
    assert!(shown.contains("only a tokenizer") && shown.contains("end of text"), "{shown}");
}

#[test]
fn single_files_of_a_folder() {
    let file = Path::new(&fixture("qwen3")).join("model.safetensors");
    every_command_refuses(&file, &["model.safetensors", "folder"]);
}

#[test]
fn standard_input_that_is_no_text() {
    let ended = super::ingle_with_input(&["run", "Summarise"], b"abc\xff\xfe");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("byte 3 "), "{}", ended.err);
}
