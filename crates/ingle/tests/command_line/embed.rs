//! `ingle embed` against the embeddings of sentence-transformers.

use super::{fixture, folder, ingle, ingle_with_input, json, succeeds};
use ingle_model::gguf::{Entry, Writer};
use ingle_model::metadata::IntegerWidth;
use ingle_model::{Format, Metadata, Source, Value as Stored};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MODELS: [&str; 4] = ["bert_mean", "bert_cls", "qwen3_embedding", "embeddinggemma"];

/// A text with its embedding, and what it was before it was divided by its length.
struct Golden {
    text: String,
    prompt_name: Option<String>,
    tokens: u64,
    embedding: Vec<f32>,
    unnormalised: Vec<f32>,
}

fn goldens(model: &str) -> Vec<Golden> {
    let folder = PathBuf::from(fixture(model));
    let meta: Value = serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |key: String| -> Option<Vec<f32>> {
        let words = file.tensor(&key).ok()?.data().chunks_exact(4);
        Some(words.map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect())
    };
    let texts = meta["texts"].as_array().unwrap().iter().enumerate();
    texts
        .map(|(at, text)| Golden {
            text: text["text"].as_str().unwrap().to_owned(),
            prompt_name: text["prompt_name"].as_str().map(str::to_owned),
            tokens: text["tokens"].as_u64().unwrap(),
            embedding: floats(format!("t{at}.embedding")).unwrap(),
            unnormalised: floats(format!("t{at}.dense")).or(floats(format!("t{at}.pooled"))).unwrap(),
        })
        .collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Embeds a golden text with these options.
fn embedded(model: &str, golden: &Golden, extra: &[&str]) -> Value {
    let mut args = vec!["embed", model, &golden.text, "--json"];
    if let Some(name) = &golden.prompt_name {
        args.extend(["--prompt-name", name]);
    }
    args.extend(extra);
    json(&args)
}

#[test]
fn reference_embeddings_equal_the_reference_library() {
    for model in MODELS {
        let mut largest = 0.0f32;
        for golden in goldens(model) {
            let document = embedded(&fixture(model), &golden, &["--reference"]);
            assert_eq!(document["embeddings"][0]["tokens"], golden.tokens, "{model} {}", golden.text);
            assert_eq!(document["width"], golden.embedding.len());
            assert_eq!(document["notices"], json!([]), "{model}");
            let ours = floats(&document["embeddings"][0]["embedding"]);
            largest = largest.max(largest_difference(&ours, &golden.embedding));
            assert!(largest < 1e-5, "{model} {}: {largest}", golden.text);

            let document = embedded(&fixture(model), &golden, &["--reference", "--no-normalise"]);
            let ours = floats(&document["embeddings"][0]["embedding"]);
            let difference = largest_difference(&ours, &golden.unnormalised);
            assert!(difference < 1e-4, "{model} {}: {difference} before normalising", golden.text);
        }
        println!("{model}: largest difference {largest:e}");
    }
}

#[test]
fn production_embeddings_point_the_same_way() {
    for model in MODELS {
        for golden in goldens(model) {
            let document = embedded(&fixture(model), &golden, &[]);
            let ours = floats(&document["embeddings"][0]["embedding"]);
            let cosine: f32 = ours.iter().zip(&golden.embedding).map(|(a, b)| a * b).sum();
            let difference = largest_difference(&ours, &golden.embedding);
            println!("{model}: cosine 1 - {:e}, largest difference {difference:e}", 1.0 - cosine);
            assert!(cosine > 0.999_99 && difference < 1e-3, "{model} {}: {cosine} {difference}", golden.text);
        }
    }
}

/// The files that newer versions of sentence-transformers write beside the same weights.
#[test]
fn newer_spellings_mean_the_same() {
    let copy = folder("embed-newer");
    for name in
        ["model.safetensors", "tokenizer.json", "2_Dense/model.safetensors", "3_Dense/model.safetensors"]
    {
        std::fs::create_dir_all(copy.join(name).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(&fixture("embeddinggemma")).join(name), copy.join(name)).unwrap();
    }
    for name in [
        "config.json",
        "modules.json",
        "tokenizer_config.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "3_Dense/config.json",
    ] {
        std::fs::create_dir_all(copy.join(name).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(&fixture("embeddinggemma_st6")).join(name), copy.join(name)).unwrap();
    }
    for golden in goldens("embeddinggemma") {
        let document = embedded(copy.to_str().unwrap(), &golden, &["--reference"]);
        let ours = floats(&document["embeddings"][0]["embedding"]);
        assert!(largest_difference(&ours, &golden.embedding) < 1e-5);
    }
}

#[test]
fn texts_come_from_arguments_a_file_or_standard_input_and_every_format_says_the_same() {
    let model = fixture("bert_mean");
    let texts: Vec<String> = goldens("bert_mean").into_iter().map(|golden| golden.text).collect();
    let lines = texts.join("\n") + "\n";
    let file = folder("embed-formats").join("lines.txt");
    std::fs::write(&file, &lines).unwrap();
    let from_file = ["embed", &model, "--file", file.to_str().unwrap()];
    let with = |format: &str| succeeds(&[&from_file[..], &["--format", format]].concat()).out;

    let document: Value = serde_json::from_str(&with("json")).unwrap();
    let vectors: Vec<Vec<f32>> =
        document["embeddings"].as_array().unwrap().iter().map(|one| floats(&one["embedding"])).collect();
    assert_eq!(vectors.len(), 3);
    let words = |line: &str, separator| -> Vec<f32> {
        line.split(separator).map(|word| word.parse().unwrap()).collect()
    };
    assert!(with("csv").lines().map(|line| words(line, ',')).eq(vectors.clone()));
    assert!(with("text").lines().map(|line| words(line, ' ')).eq(vectors.clone()));
    let jsonl = with("jsonl");
    let objects: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().map(|object| floats(&object["embedding"])).eq(vectors.clone()));
    assert_eq!(objects[2]["index"], 2);
    let mut args: Vec<&str> = vec!["embed", &model, "--json"];
    args.extend(texts.iter().map(String::as_str));
    assert_eq!(json(&args)["embeddings"], document["embeddings"]);
    let piped = ingle_with_input(&["embed", &model, "--json"], lines.as_bytes());
    assert_eq!(serde_json::from_str::<Value>(&piped.out).unwrap()["embeddings"], document["embeddings"]);

    let output = super::command(&[&from_file[..], &["--format", "f32"]].concat()).output().unwrap();
    let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    assert!(output.status.success() && output.stdout == bytes);
}

#[test]
fn texts_together_are_as_texts_alone() {
    let model = fixture("bert_cls");
    let many: Vec<String> = (0..80).map(|at| format!("the tests {} sing in the morning", at * at)).collect();
    let lines = many.join("\n");
    let together = ingle_with_input(&["embed", &model, "--reference", "--json"], lines.as_bytes());
    let together: Value = serde_json::from_str(&together.out).unwrap();
    for at in [0, 17, 79] {
        let alone = json(&["embed", &model, "--reference", "--json", &many[at]]);
        assert_eq!(alone["embeddings"][0], together["embeddings"][at], "{at}");
    }
}

#[test]
fn similarities_are_the_cosines_of_the_reference_library() {
    let model = fixture("bert_mean");
    let path = Path::new(&model).join("meta.json");
    let meta: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let goldens = goldens("bert_mean");
    let mut args = vec!["embed", &model, "--similarity", "--reference"];
    args.extend(goldens.iter().map(|golden| golden.text.as_str()));
    let table = succeeds(&args).out;
    assert_eq!(table.lines().count(), 3);
    assert!(table.lines().next().unwrap().ends_with("Hello world!"), "{table}");
    args.push("--json");
    let rows = json(&args)["similarity"].clone();
    for (ours, exact) in rows.as_array().unwrap().iter().zip(meta["cosine"].as_array().unwrap()) {
        assert!(largest_difference(&floats(ours), &floats(exact)) < 1e-5, "{rows}");
    }
    assert!(table.contains(" 0.7185"), "{table}");
}

#[test]
fn fewer_dimensions_are_the_first_ones_normalised_again() {
    let golden = &goldens("embeddinggemma")[0];
    let document = embedded(&fixture("embeddinggemma"), golden, &["--reference", "--dimensions", "24"]);
    let ours = floats(&document["embeddings"][0]["embedding"]);
    let first = &golden.embedding[..24];
    let length = first.iter().map(|value| value * value).sum::<f32>().sqrt();
    let exact: Vec<f32> = first.iter().map(|value| value / length).collect();
    assert!(largest_difference(&ours, &exact) < 1e-5);
    let refused = ingle(&["embed", &fixture("embeddinggemma"), "x", "--dimensions", "73"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("72") && refused.err.contains("73"), "{}", refused.err);
}

#[test]
fn a_text_that_is_too_long_is_refused_with_its_counts_or_cut_with_a_notice() {
    let model = fixture("bert_mean");
    let long = "the tests sing ".repeat(60);
    let refused = ingle(&["embed", &model, "short", &long]);
    assert_eq!(refused.code, Some(1));
    for part in ["text 2", "182 tokens", "128", "--truncate"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let cut = json(&["embed", &model, &long, "--truncate", "--json"]);
    assert_eq!(
        (&cut["embeddings"][0]["tokens"], &cut["embeddings"][0]["left_out"]),
        (&json!(128), &json!(54))
    );
    assert!(cut["notices"][0].as_str().unwrap().contains("lost its end"), "{cut}");
    // 42 times three words between [CLS] and [SEP]
    let fits = json(&["embed", &model, &"the tests sing ".repeat(42), "--json"]);
    assert_eq!(fits["embeddings"][0]["tokens"], 128);
    let (a, b) = (floats(&cut["embeddings"][0]["embedding"]), floats(&fits["embeddings"][0]["embedding"]));
    assert!(largest_difference(&a, &b) < 1e-6, "what is kept is the beginning and the separator");
}

#[test]
fn prompts_are_the_models_own_or_given() {
    let model = fixture("qwen3_embedding");
    let golden = &goldens("qwen3_embedding")[2];
    let given =
        json(&["embed", &model, &golden.text, "--prompt", "Instruct: find the tests\nQuery:", "--json"]);
    let named = embedded(&model, golden, &[]);
    assert_eq!(given["embeddings"], named["embeddings"]);
    let refused = ingle(&["embed", &model, "x", "--prompt-name", "question"]);
    assert_eq!(refused.code, Some(1));
    for part in ["question", "document", "query"] {
        assert!(refused.err.contains(part), "{}", refused.err);
    }
}

#[test]
fn models_for_text_and_models_for_embeddings_are_told_apart() {
    for args in [
        vec!["run", &fixture("bert_mean"), "Hello"],
        vec!["logits", &fixture("bert_mean"), "--tokens", "2,3", "-o", "/nonexistent/out"],
        vec!["run", &fixture("qwen3_embedding"), "Hello"],
    ] {
        let ended = ingle(&args);
        assert_eq!(ended.code, Some(1), "{args:?}");
        assert!(ended.err.contains("makes embeddings") && ended.err.contains("ingle embed"), "{}", ended.err);
    }
    let text = fixture("qwen3");
    let refused = ingle(&["embed", &text, "Hello"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--pooling") && refused.err.contains(&text), "{}", refused.err);
    // longer than a step: parts of a text whose positions look back only
    let long = "one two three ".repeat(200);
    for row in ["mean", "first", "last"] {
        let whole = json(&["embed", &text, &long, "--pooling", row, "--json", "--truncate", "--reference"]);
        assert!(whole["embeddings"][0]["tokens"].as_u64().unwrap() > 512);
    }
    let shown = succeeds(&["show", &fixture("embeddinggemma")]).out;
    assert!(shown.contains("projected to 200, then 72") && shown.contains("ingle embed"), "{shown}");
}

/// A copy of a model with one document changed.
fn changed(model: &str, document: &str, change: impl Fn(&mut Value)) -> PathBuf {
    let copy = folder(&format!("embed-changed-{}", document.replace('/', "-")));
    let from = PathBuf::from(fixture(model));
    for name in
        ["config.json", "model.safetensors", "modules.json", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(from.join(name), copy.join(name)).unwrap();
    }
    for inner in ["1_Pooling", "2_Dense", "3_Dense"].iter().filter(|inner| from.join(inner).exists()) {
        std::fs::create_dir(copy.join(inner)).unwrap();
        for entry in std::fs::read_dir(from.join(inner)).unwrap() {
            let name = entry.unwrap().file_name();
            std::fs::copy(from.join(inner).join(&name), copy.join(inner).join(&name)).unwrap();
        }
    }
    let mut json: Value = serde_json::from_slice(&std::fs::read(copy.join(document)).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(copy.join(document), json.to_string()).unwrap();
    copy
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change, &[&str]); 9] = [
        (
            "bert_mean",
            "config.json",
            |json| json["architectures"] = json!(["NomicBertModel"]),
            &["NomicBertModel"],
        ),
        ("bert_mean", "config.json", |json| json["hidden_act"] = json!("silu"), &["hidden_act", "silu"]),
        (
            "bert_mean",
            "1_Pooling/config.json",
            |json| {
                json["pooling_mode_mean_tokens"] = json!(false);
                json["pooling_mode_weightedmean_tokens"] = json!(true);
            },
            &["1_Pooling/config.json", "weightedmean"],
        ),
        (
            "bert_mean",
            "1_Pooling/config.json",
            |json| json["pooling_mode_cls_token"] = json!(true),
            &["cls, mean"],
        ),
        ("bert_mean", "modules.json", |json| json[2]["type"] = json!("x.LSTM"), &["modules.json", "LSTM"]),
        ("bert_mean", "modules.json", |json| json[1]["path"] = json!("../bert_cls"), &["../bert_cls"]),
        (
            "embeddinggemma",
            "2_Dense/config.json",
            |json| json["activation_function"] = json!("torch.nn.modules.activation.Tanh"),
            &["2_Dense/config.json", "Tanh"],
        ),
        ("embeddinggemma", "2_Dense/config.json", |json| json["bias"] = json!(true), &["bias"]),
        (
            "embeddinggemma",
            "2_Dense/config.json",
            |json| json["out_features"] = json!(199),
            &["2_Dense/linear.weight"],
        ),
    ];
    for (model, document, change, said) in cases {
        let copy = changed(model, document, change);
        let ended = ingle(&["embed", copy.to_str().unwrap(), "x"]);
        assert_eq!(ended.code, Some(1), "{document}");
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        for part in said {
            assert!(ended.err.contains(part), "{part}: {}", ended.err);
        }
    }
}

#[test]
fn mistakes_are_told() {
    let model = fixture("bert_mean");
    let refuses = |args: &[&str], code: i32, said: &str| {
        let ended = ingle(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{args:?}: {}", ended.err);
    };
    refuses(&["embed", &model], 2, "no text");
    refuses(&["embed", &model, "--file", "/no/such/file"], 1, "/no/such/file");
    refuses(&["embed", &model, "x", "--file", "y"], 2, "--file");
    refuses(&["embed", &model, "x", "--dimensions", "0"], 2, "above 0");
    refuses(&["embed", &model, "x", "--format", "xml"], 2, "jsonl");
    refuses(&["embed", &model, "x", "--prompt", "a", "--prompt-name", "b"], 2, "--prompt-name");
    refuses(&["embed", "all-minilm", "x"], 1, "ingle pull");
    refuses(&["embed", "ember", "x"], 1, "--pooling");
    let error = ingle(&["embed", &model, &"word ".repeat(400), "--json"]);
    assert_eq!(error.code, Some(1));
    assert!(serde_json::from_str::<Value>(&error.out).unwrap()["error"].as_str().unwrap().contains("text 1"));
}

/// A GGUF file of a BERT checkpoint, as the usual converter writes it.
fn bert_gguf(model: &str, pooling: u64) -> PathBuf {
    let folder_path = PathBuf::from(fixture(model));
    let source = Source::open(&folder_path).unwrap();
    let config = &source.config;
    let number = |key: &str| Stored::Unsigned(config[key].as_u64().unwrap(), IntegerWidth::W32);
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", Stored::String("bert".into()));
    for (key, name) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
    ] {
        metadata.insert(format!("bert.{key}"), number(name));
    }
    metadata.insert("bert.attention.layer_norm_epsilon", Stored::F32(1e-12));
    metadata.insert("bert.attention.causal", Stored::Bool(false));
    metadata.insert("bert.pooling_type", Stored::Unsigned(pooling, IntegerWidth::W32));
    let tokenizer: Value = serde_json::from_slice(&source.tokenizer_json().unwrap().unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); vocabulary.len()];
    for (text, id) in vocabulary {
        let written = match text.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if text.starts_with('[') && text.ends_with(']') && text.len() > 2 => text.clone(),
            None => format!("\u{2581}{text}"),
        };
        tokens[id.as_u64().unwrap() as usize] = written;
    }
    let kinds = (0..tokens.len()).map(|id| if id < 5 { 3 } else { 1 }).collect();
    metadata.insert("tokenizer.ggml.model", Stored::String("bert".into()));
    metadata.insert("tokenizer.ggml.pre", Stored::String("jina-v2-en".into()));
    metadata.insert("tokenizer.ggml.tokens", Stored::Strings(tokens.into_iter().collect()));
    metadata.insert("tokenizer.ggml.token_type", Stored::Signeds(kinds, IntegerWidth::W32));
    for (name, id) in [("unknown", 1), ("seperator", 3), ("padding", 0), ("cls", 2), ("mask", 4)] {
        metadata.insert(format!("tokenizer.ggml.{name}_token_id"), Stored::Unsigned(id, IntegerWidth::W32));
    }
    let names = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("encoder.layer.", "blk."),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    let tensors: Vec<_> = source
        .tensors()
        .iter()
        .filter(|tensor| !tensor.name.contains("pooler") && !tensor.name.contains("position_ids"))
        .collect();
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|tensor| {
            let name = names.iter().fold(tensor.name.clone(), |name, (hub, gguf)| name.replace(hub, gguf));
            Entry { name, shape: tensor.shape.clone(), format: tensor.format }
        })
        .collect();
    assert!(entries.iter().all(|entry| matches!(entry.format, Format::F32 | Format::F16)));
    let mut writer = Writer::new(Vec::new(), Path::new(model), 3, &metadata, &entries).unwrap();
    tensors.iter().for_each(|tensor| writer.tensor(source.bytes(tensor)).unwrap());
    let path = folder(&format!("embed-gguf-{model}")).join("model.gguf");
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    path
}

#[test]
fn gguf_files_give_the_same_embeddings() {
    for (model, pooling) in [("bert_mean", 1), ("bert_cls", 2)] {
        let path = bert_gguf(model, pooling);
        for golden in goldens(model) {
            let document = embedded(path.to_str().unwrap(), &golden, &["--reference"]);
            assert_eq!(document["notices"], json!([]), "{model}");
            assert_eq!(document["embeddings"][0]["tokens"], golden.tokens, "{model} {}", golden.text);
            let ours = floats(&document["embeddings"][0]["embedding"]);
            let difference = largest_difference(&ours, &golden.embedding);
            assert!(difference < 1e-5, "{model} {}: {difference}", golden.text);
        }
    }
}
