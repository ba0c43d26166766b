//! Networks and files that no golden covers, production against reference.

use super::{fixture, in_chunks, largest_difference, median_error, nmse, production};
use ingle_cpu::kernels::Kernels;
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::format::{dequantise, quantise};
use ingle_model::gguf::{Entry, WriteOptions, write_files};
use ingle_model::{Format, Source, families};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn logits(executor: &mut dyn Executor, tokens: &[u32]) -> Vec<f32> {
    let sequence = executor.open(tokens.len()).unwrap();
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    executor.close(sequence);
    output.logits
}

/// Logits of the reference and of the production executor.
fn both(path: &Path, tokens: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let source = Arc::new(Source::open(path).unwrap());
    let spec = families::describe(&source).unwrap();
    let cpu = Cpu::with(2, Kernels::best());
    let mut production = Production::load(spec.clone(), source.clone(), cpu, &mut |_| {}).unwrap();
    let mut reference = Reference::load(spec, source).unwrap();
    (logits(&mut reference, tokens), logits(&mut production, tokens))
}

fn some_tokens(count: usize, vocabulary: u32) -> Vec<u32> {
    (0..count as u32).map(|at| (at * 7919 + 13) % vocabulary).collect()
}

#[test]
fn a_fused_query_key_value_tensor_is_read_as_its_three_parts() {
    let original = Source::open(&fixture("gguf/qwen2.gguf")).unwrap();
    let mut entries = Vec::new();
    let mut data: Vec<Vec<u8>> = Vec::new();
    for tensor in original.tensors() {
        let part = |name: &str| tensor.name.replace("attn_q.", &format!("attn_{name}."));
        if tensor.name.contains("attn_k.") || tensor.name.contains("attn_v.") {
            continue;
        }
        let mut entry = Entry::from(tensor);
        let mut bytes = original.bytes(tensor).to_vec();
        if tensor.name.contains("attn_q.") {
            for name in ["k", "v"] {
                let other = original.require(&part(name)).unwrap();
                entry.shape[0] += other.shape[0];
                bytes.extend_from_slice(original.bytes(other));
            }
            entry.name = part("qkv");
        }
        entries.push(entry);
        data.push(bytes);
    }
    let path = folder("fused").join("fused.gguf");
    let bytes = |at: usize| Ok(Cow::Borrowed(data[at].as_slice()));
    write_files(&path, &original.metadata, &entries, WriteOptions::default(), bytes).unwrap();

    let tokens = some_tokens(20, 272);
    let (separate, _) = both(&fixture("gguf/qwen2.gguf"), &tokens);
    let (fused, production) = both(&path, &tokens);
    assert_eq!(separate, fused);
    assert!(nmse(&production, &fused) < 1e-5);
}

#[test]
fn every_format_that_can_be_written_runs() {
    let ember = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
    let original = Source::open(&ember).unwrap();
    let tokens = some_tokens(40, 2000);
    for format in
        Format::ALL.iter().copied().filter(|format| format.can_quantise() && format.ggml_type().is_some())
    {
        if !matches!(format.name().as_bytes()[0], b'F' | b'B' | b'Q' | b'M' | b'T') || format == Format::F64 {
            continue; // integers
        }
        let mut entries: Vec<Entry> = original.tensors().iter().map(Entry::from).collect();
        let mut data = Vec::new();
        for (entry, tensor) in entries.iter_mut().zip(original.tensors()) {
            let raw = original.bytes(tensor);
            if tensor.shape.len() < 2 {
                data.push(raw.to_vec());
                continue;
            }
            let mut values = vec![0.0; tensor.shape.iter().product()];
            dequantise(tensor.format, raw, &mut values).unwrap();
            let mut packed = vec![0; format.row_bytes(tensor.shape[1]).unwrap() * tensor.shape[0]];
            quantise(format, &values, &mut packed).unwrap();
            entry.format = format;
            data.push(packed);
        }
        let path = folder("formats").join(format!("ember-{format}.gguf"));
        let bytes = |at: usize| Ok(Cow::Borrowed(data[at].as_slice()));
        write_files(&path, &original.metadata, &entries, WriteOptions::default(), bytes).unwrap();
        let (reference, production) = both(&path, &tokens);
        let error = nmse(&production, &reference);
        println!("{format}: NMSE {error:.1e}");
        assert!(error < 1e-3, "{format}: {error}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn windows_and_stretched_contexts_are_the_same_in_both_executors() {
    let plain = fixture("qwen2");
    let config = std::fs::read_to_string(plain.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let tokens = some_tokens(150, 272);
    let (unchanged, _) = both(&plain, &tokens);
    let variants = [
        (
            "window",
            vec![
                ("use_sliding_window", true.into()),
                ("sliding_window", 70.into()),
                ("max_window_layers", 1.into()),
            ],
        ),
        (
            "yarn",
            vec![(
                "rope_scaling",
                serde_json::json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
            )],
        ),
        ("linear", vec![("rope_scaling", serde_json::json!({"rope_type": "linear", "factor": 4.0}))]),
    ];
    for (name, changes) in variants {
        let mut config = config.clone();
        for (key, value) in changes {
            config[key] = value;
        }
        let folder = folder(name);
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        std::fs::copy(plain.join("model.safetensors"), folder.join("model.safetensors")).unwrap();
        let (reference, production) = both(&folder, &tokens);
        assert!(nmse(&production, &reference) < 1e-5, "{name}");
        assert!(largest_difference(&unchanged, &reference) > 0.05, "{name} changes something");
        if name == "window" {
            let vocabulary = reference.len() / tokens.len();
            let inside = 70 * vocabulary;
            assert_eq!(unchanged[..inside], reference[..inside], "nothing changes before the window is full");
        }
    }
}

/// Windows of 7 positions in pages of 64: most pages are given back, whoever still attends to them.
#[test]
fn what_an_earlier_layer_caches_is_there_after_many_pages_and_after_a_step_back() {
    let tokens = some_tokens(300, 272);
    let (expected, _) = both(&fixture("gemma4_e"), &tokens);
    let vocabulary = expected.len() / tokens.len();
    let mut executor = production("gemma4_e", Kernels::best().isa(), 2).unwrap();
    let error = median_error(&in_chunks(&mut executor, &tokens, &[61, 1, 90]), &expected, vocabulary);
    assert!(error < 1e-5, "{error}");

    let sequence = executor.open(tokens.len()).unwrap();
    let mut output = StepOutput::default();
    let mut step = |executor: &mut Production, tokens: &[u32]| {
        let slices = [Slice { sequence, tokens, logits: LogitRows::All }];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
        output.logits.clone()
    };
    step(&mut executor, &tokens[..280]);
    step(&mut executor, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(executor.truncate(sequence, 280).unwrap(), 280);
    let again = step(&mut executor, &tokens[280..]);
    let error = median_error(&again, &expected[280 * vocabulary..], vocabulary);
    assert!(error < 1e-5, "after the step back: {error}");
    // one full layer with 2 heads of 48, two windowed ones with 2 heads of 24 and three pages; the others cache nothing
    let row = |width: usize| (2 * 2 * (width + 1) * size_of::<u16>()) as u64; // numbers and their scale
    assert_eq!(executor.kv_bytes(), 320 * row(48) + 2 * 192 * row(24));
}
