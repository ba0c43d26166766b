//! Networks that make embeddings: every hidden row of three texts.

use super::{Golden, fixture, largest_difference, nmse, production, reference};
use ingle_cpu::Reference;
use ingle_cpu::kernels::Isa;
use ingle_model::executor::{Batch, Executor, ExecutorError, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::gguf::{Entry, Writer};
use ingle_model::metadata::{IntegerWidth, Value};
use ingle_model::spec::Pooling;
use ingle_model::{Format, Metadata, Source, families};
use std::path::Path;
use std::sync::Arc;

const MODELS: [&str; 4] = ["bert_mean", "bert_cls", "qwen3_embedding", "embeddinggemma"];
const TEXTS: [&str; 3] = ["t0", "t1", "t2"];

/// The final rows of texts that go through together, and all stages' rows where `hidden` says so.
fn rows(executor: &mut dyn Executor, texts: &[Vec<u32>], hidden: Hidden) -> Vec<Vec<f32>> {
    let sequences: Vec<_> = texts.iter().map(|text| executor.open(text.len()).unwrap()).collect();
    let slice = |(&sequence, tokens)| Slice { sequence, tokens, logits: LogitRows::None };
    let slices: Vec<Slice> = sequences.iter().zip(texts.iter().map(Vec::as_slice)).map(slice).collect();
    let mut output = StepOutput::default();
    executor.step(&Batch { slices: &slices, hidden, beside: &[] }, &mut output).unwrap();
    assert!(output.logits.is_empty());
    sequences.into_iter().for_each(|sequence| executor.close(sequence));
    output.hidden
}

#[test]
fn reference_rows_equal_the_reference_library_at_every_layer() {
    for model in MODELS {
        let golden = Golden::read(model);
        let mut executor = reference(model);
        assert!(executor.spec().pooling.is_some() && executor.spec().head.is_none(), "{model}");
        let mut largest = 0.0f32;
        for text in TEXTS {
            let stages = rows(&mut executor, &[golden.ids(&format!("{text}.input_ids"))], Hidden::All);
            let layers = executor.spec().layers.len();
            assert_eq!(stages.len(), layers + 2);
            for (at, stage) in stages.iter().enumerate() {
                let key = match at {
                    0 => format!("{text}.embed"),
                    at if at <= layers => format!("{text}.layer.{}", at - 1),
                    _ => format!("{text}.last_hidden"),
                };
                let difference = largest_difference(stage, &golden.floats(&key));
                assert!(difference < 1e-4, "{model} {key}: {difference}");
                largest = largest.max(difference);
            }
        }
        println!("{model}: largest difference of a hidden value {largest:e}");
    }
}

#[test]
fn production_rows_stay_close_alone_and_together() {
    for isa in Isa::ALL {
        for model in MODELS {
            let golden = Golden::read(model);
            let Some(mut executor) = production(model, isa, 2) else { continue };
            let texts = TEXTS.map(|text| golden.ids(&format!("{text}.input_ids")));
            let exact: Vec<f32> =
                TEXTS.iter().flat_map(|text| golden.floats(&format!("{text}.last_hidden"))).collect();
            let together = rows(&mut executor, &texts, Hidden::Final);
            assert_eq!(together.len(), 1);
            let error = nmse(&together[0], &exact);
            println!("{model} {}: NMSE {error:e}", isa.name());
            assert!(error < 1e-3, "{model} {isa:?}: {error}");
            let alone =
                texts.iter().map(|text| rows(&mut executor, std::slice::from_ref(text), Hidden::Final));
            let alone: Vec<f32> = alone.flat_map(|mut rows| rows.remove(0)).collect();
            assert!(nmse(&alone, &exact) < 1e-3 && nmse(&alone, &together[0]) < 1e-6, "{model} {isa:?}");
            assert_eq!(executor.kv_bytes(), 0);
        }
    }
}

#[test]
fn what_an_encoder_cannot_do_is_an_error_of_its_own() {
    let executors: [Box<dyn Executor>; 2] =
        [Box::new(reference("bert_cls")), Box::new(production("bert_cls", Isa::Scalar, 1).unwrap())];
    for mut executor in executors {
        let sequence = executor.open(200).unwrap();
        let mut output = StepOutput::default();
        let mut step = |executor: &mut dyn Executor, tokens: &[u32], logits| {
            let slices = [Slice { sequence, tokens, logits }];
            executor.step(&Batch { slices: &slices, hidden: Hidden::Final, beside: &[] }, &mut output)
        };
        let logits = step(&mut *executor, &[2, 3], LogitRows::Last);
        assert!(matches!(logits, Err(ExecutorError::NoHead)), "{logits:?}");
        let long = step(&mut *executor, &[5; 129], LogitRows::None);
        assert!(matches!(long, Err(ExecutorError::Context { context: 128, wanted: 129 })), "{long:?}");
        step(&mut *executor, &[2, 9, 3], LogitRows::None).unwrap();
        let more = step(&mut *executor, &[9], LogitRows::None);
        assert!(matches!(more, Err(ExecutorError::WholeSequence { held: 3 })), "{more:?}");
        assert_eq!(executor.truncate(sequence, 0).unwrap(), 0);
        step(&mut *executor, &[2, 9, 3], LogitRows::None).unwrap();
    }
}

/// Rows look as far as the window says, on both sides and no further.
#[test]
fn a_window_reaches_both_ways() {
    let mut executor = reference("embeddinggemma");
    let spec = executor.spec();
    let windows: Vec<usize> = spec
        .layers
        .iter()
        .filter_map(|layer| match &layer.mixer {
            ingle_model::spec::Mixer::Attention(attention) => attention.window,
            _ => None,
        })
        .collect();
    assert_eq!(windows, [5, 5, 5], "half of 8 on either side, and the row itself");
    let base: Vec<u32> = (0..20).collect();
    let mut changed = base.clone();
    changed[10] = 99;
    let (base, changed) =
        (rows(&mut executor, &[base], Hidden::All), rows(&mut executor, &[changed], Hidden::All));
    let width = executor.spec().hidden;
    let differs: Vec<usize> = (0..20)
        .filter(|row| base[1][row * width..(row + 1) * width] != changed[1][row * width..(row + 1) * width])
        .collect();
    assert_eq!(differs, (6..=14).collect::<Vec<_>>());
}

/// A GGUF file of the small EmbeddingGemma checkpoint, as the usual converter writes it: norms as `1 + w`, the matrices
/// after pooling as `dense_2` and `dense_3`, or left out.
fn gemma_gguf(dense: bool) -> Arc<Source> {
    let source = Source::open(&fixture("embeddinggemma")).unwrap();
    let mut metadata = Metadata::default();
    let count = |number: u64| Value::Unsigned(number, IntegerWidth::W32);
    metadata.insert("general.architecture", Value::String("gemma-embedding".into()));
    for (key, value) in [
        ("block_count", count(4)),
        ("context_length", count(2048)),
        ("embedding_length", count(72)),
        ("feed_forward_length", count(104)),
        ("attention.head_count", count(3)),
        ("attention.head_count_kv", count(1)),
        ("attention.key_length", count(40)),
        ("attention.value_length", count(40)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("attention.scale", Value::F32(1.0 / 40f32.sqrt())),
        ("attention.sliding_window", count(8)),
        ("attention.sliding_window_pattern", Value::Bools(vec![true, true, false, true])),
        ("rope.freq_base", Value::F32(1e6)),
        ("rope.freq_base_swa", Value::F32(1e4)),
        ("pooling_type", count(1)),
    ] {
        metadata.insert(format!("gemma-embedding.{key}"), value);
    }
    let names = [
        ("layers.", "blk."),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("embed_tokens", "token_embd"),
        ("2_Dense/linear", "dense_2"),
        ("3_Dense/linear", "dense_3"),
    ];
    let tensors: Vec<_> =
        source.tensors().iter().filter(|tensor| dense || !tensor.name.contains("Dense")).collect();
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|tensor| {
            let name = names.iter().fold(tensor.name.clone(), |name, (hub, gguf)| name.replace(hub, gguf));
            let name = if name == "norm.weight" { "output_norm.weight".into() } else { name };
            Entry { name, shape: tensor.shape.clone(), format: Format::F32 }
        })
        .collect();
    let mut writer = Writer::new(Vec::new(), Path::new("gemma"), 3, &metadata, &entries).unwrap();
    for tensor in tensors {
        let offset = if tensor.shape.len() == 1 { 1.0 } else { 0.0 };
        let words =
            source.bytes(tensor).chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
        let bytes: Vec<u8> = words.flat_map(|value| (value + offset).to_le_bytes()).collect();
        writer.tensor(&bytes).unwrap();
    }
    Arc::new(Source::from_bytes("gemma", writer.finish().unwrap().leak()).unwrap())
}

#[test]
fn a_gguf_file_of_embeddinggemma_gives_the_same_rows() {
    let source = gemma_gguf(true);
    let spec = families::describe(&source).unwrap();
    assert_eq!((&spec.notices, &spec.unused), (&vec![], &vec![]));
    let folder = families::describe(&Source::open(&fixture("embeddinggemma")).unwrap()).unwrap();
    let pooling = Pooling { longest: None, ..folder.pooling.unwrap() };
    assert_eq!(spec.pooling, Some(pooling));
    let golden = Golden::read("embeddinggemma");
    let mut executor = Reference::load(spec, source).unwrap();
    for text in TEXTS {
        let ours = rows(&mut executor, &[golden.ids(&format!("{text}.input_ids"))], Hidden::Final);
        let difference = largest_difference(&ours[0], &golden.floats(&format!("{text}.last_hidden")));
        assert!(difference < 1e-4, "{text}: {difference}");
    }
    let without = families::describe(&gemma_gguf(false)).unwrap();
    assert!(without.pooling.unwrap().projections.is_empty());
    assert!(without.notices.iter().any(|notice| notice.contains("dense_2")), "{:?}", without.notices);
}
