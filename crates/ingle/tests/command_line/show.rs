//! `ingle show` and `ingle tokenize`.

use super::{fixture, folder, ingle_with_input, json, succeeds};
use std::path::{Path, PathBuf};

#[test]
fn a_model_is_described_the_same_from_both_layouts() {
    let folder = json(&["show", &fixture("qwen3"), "--json"]);
    let gguf = json(&["show", &fixture("gguf/qwen3.gguf"), "--json"]);
    for key in ["parameters", "active_parameters", "unused_tensors"] {
        assert_eq!(folder[key], gguf[key], "{key}");
    }
    assert_eq!(folder["network"], gguf["network"]);
    assert_eq!(folder["parameters"], 148_096);
    assert_eq!(folder["network"]["groups"][0]["kv_heads"], 2);
    assert_eq!(folder["formats"][0]["format"], "BF16");
    assert_eq!(gguf["text"]["vocabulary"], folder["text"]["vocabulary"]);
}

#[test]
fn memory_grows_with_the_context() {
    let at = |context: &str| json(&["show", "ember", "--json", "--context", context])["memory"][0].clone();
    // 4 layers, keys and values, 2 heads of 64 values, 2 bytes each
    assert_eq!(at("1000")["kv_bytes"], 1000 * 4 * 2 * 2 * (64 * 2 + 2), "numbers and the scale of each row");
    assert_eq!(at("1000")["weight_bytes"], at("1")["weight_bytes"]);
    let beyond = succeeds(&["show", "ember", "--context", "1000000"]);
    assert!(beyond.out.contains("more than the model was made for"), "{}", beyond.out);
}

#[test]
fn people_see_what_programs_see() {
    let text = succeeds(&["show", "ember", "--tensors"]).out;
    for part in
        ["3,672,832", "3.67 M", "qwen3", "Q8_0", "QK-norm", "apache-2.0", "output_norm.weight", "<|im_end|>"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\x1b'), "no colour into a pipe");
    let tensors = json(&["show", "ember", "--tensors", "--json"]);
    assert_eq!(tensors["tensors"].as_array().unwrap().len(), 46);
}

#[test]
fn a_rotation_that_no_layer_uses_is_not_the_indexers() {
    let windowed = succeeds(&["show", &fixture("gguf/gemma3_text.gguf")]).out;
    assert!(windowed.contains("linear scaling by 8, not used by any layer"), "{windowed}");
    assert!(!windowed.contains("indexer"), "{windowed}");
    let sparse = succeeds(&["show", &fixture("deepseek_v32")]).out;
    assert!(sparse.contains("from 4096 tokens, for the indexer"), "{sparse}");
}

#[test]
fn text_goes_to_ids_and_back() {
    let ids = succeeds(&["tokenize", "ember", "Hello there, né!", "--ids"]).out;
    let back = succeeds(&["tokenize", "ember", "--decode", ids.trim()]).out;
    assert_eq!(back, "Hello there, né!\n");
    let spaced = ids.trim().replace(',', ", ");
    assert_eq!(succeeds(&["tokenize", "ember", "--decode", &spaced]).out, back);
    let piped = ingle_with_input(&["tokenize", "ember", "--ids"], "Hello there, né!".as_bytes());
    assert_eq!(piped.out, ids);
    let document = json(&["tokenize", "ember", "Hello there, né!", "--json"]);
    let pieces: Vec<&str> =
        document["pieces"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert_eq!(pieces.concat(), "Hello there, né!");
    assert_eq!(document["count"], pieces.len());
}

#[test]
fn control_tokens_are_text_unless_asked_for() {
    let ids = |extra: &[&str]| {
        let args = [&["tokenize", "ember", "<|im_end|>", "--json"], extra].concat();
        json(&args)["ids"].as_array().unwrap().clone()
    };
    assert_eq!(ids(&["--special"]), [2041]);
    assert!(ids(&[]).len() > 1);
}

/// A copy of a folder model that may be spoilt.
fn copy(name: &str) -> PathBuf {
    let folder = folder(name);
    for file in std::fs::read_dir(fixture("qwen3")).unwrap().map(Result::unwrap) {
        if file.file_name() != "golden.safetensors" {
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
    folder
}

fn shown(folder: &Path) -> String {
    succeeds(&["show", folder.to_str().unwrap()]).out
}

#[test]
fn tensors_without_a_place_are_counted_and_named() {
    let folder = copy("show-unused");
    assert!(!shown(&folder).contains("no place in the network"));
    let file = folder.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = whole.tensors();
    let extra = tensors[0].1.clone();
    tensors.extend(["a", "b", "c", "d"].map(|name| (format!("model.layers.0.extra.{name}"), extra.clone())));
    std::fs::write(&file, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let shown = shown(&folder);
    let line = shown.lines().find(|line| line.contains("no place in the network")).unwrap();
    assert!(line.starts_with("4 tensors") && line.contains("model.layers.0.extra.b"), "{line}");
}

#[test]
fn a_tokenizer_or_template_that_cannot_be_used_is_said_to_be() {
    let folder = copy("show-text");
    assert!(!shown(&folder).contains("unusable"));
    for (template, reason) in
        [("{% if %}", "chat template"), ("{{ raise_exception('only cats') }}", "only cats")]
    {
        std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
        let shown = shown(&folder);
        let line = shown.lines().find(|line| line.starts_with("text: unusable: ")).unwrap();
        assert!(line.contains(reason), "{line}");
    }
    std::fs::remove_file(folder.join("chat_template.jinja")).unwrap();
    std::fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    assert!(shown(&folder).contains("text: unusable: cannot use the tokenizer"));
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    assert!(shown(&folder).contains("no tokenizer.json; fetch it"));
}
