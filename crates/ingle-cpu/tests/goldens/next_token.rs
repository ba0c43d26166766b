//! Blocks that predict further tokens, against the same arithmetic in other clothes.

use super::block_files::Draft;
use super::{fixture, largest_difference, nmse};
use ingle_cpu::kernels::Kernels;
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{
    Batch, Executor, ExecutorError, Hidden, LogitRows, SequenceId, Slice, StepOutput,
};
use ingle_model::{Source, Value, families};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MODELS: [&str; 2] = ["deepseek_v3", "qwen3_next"];
const CONTEXT: usize = 128;

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("blocks");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn with_block(model: &str) -> Draft {
    let mut draft = Draft::read(&fixture(&format!("gguf/{model}.gguf")));
    draft.add_block();
    draft
}

fn reference(file: &Path) -> Reference {
    let source = Arc::new(Source::open(file).unwrap());
    Reference::load(families::describe(&source).unwrap(), source).unwrap()
}

fn production(file: &Path) -> Production {
    let source = Arc::new(Source::open(file).unwrap());
    let cpu = Cpu::with(2, Kernels::best());
    Production::load(families::describe(&source).unwrap(), source, cpu, &mut |_| {}).unwrap()
}

fn some_tokens(count: u32) -> Vec<u32> {
    (0..count).map(|at| (at * 7919 + 13) % 256).collect()
}

/// Logits of every token, and the normed hidden rows.
fn feed(
    executor: &mut dyn Executor,
    sequence: SequenceId,
    tokens: &[u32],
    beside: &[f32],
) -> Result<(Vec<f32>, Vec<f32>), ExecutorError> {
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::Final, beside }, &mut output)?;
    Ok((output.logits, output.hidden.swap_remove(0)))
}

fn whole(executor: &mut dyn Executor, tokens: &[u32], beside: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let sequence = executor.open(CONTEXT).unwrap();
    feed(executor, sequence, tokens, beside).unwrap()
}

/// `x / rms(x) * weight`, in double precision.
fn normed(x: &[f32], weight: &[f32]) -> Vec<f64> {
    let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    let factor = 1.0 / (squares / x.len() as f64 + 1e-6).sqrt();
    x.iter().zip(weight).map(|(&x, &weight)| f64::from(x) * factor * f64::from(weight)).collect()
}

/// The block is a network of one layer whose first input is the joined rows: a file that has these rows for its embedding
/// says the same.
#[test]
fn a_block_says_what_its_layer_alone_says_of_the_joined_rows() {
    for model in MODELS {
        let mut draft = with_block(model);
        let path = file(&format!("{model}-joined.gguf"));
        draft.write(&path);
        let (width, layers) = (draft.count("embedding_length"), draft.count("block_count") - 1);
        let tokens = some_tokens(41);
        let mut trunk = reference(&path);
        let (_, hidden) = whole(&mut trunk, &tokens[..40], &[]);
        let mut block = trunk.next_token().unwrap().unwrap();
        let (said, _) = whole(block.as_mut(), &tokens[1..], &hidden);

        let own = |name: &str| format!("blk.{layers}.nextn.{name}.weight");
        let weights = ["enorm", "hnorm", "eh_proj", "shared_head_norm"];
        let [of_embedding, of_hidden, join, last] = weights.map(|name| draft.values(&own(name)).clone());
        let embedding = draft.values("token_embd.weight").clone();
        let mut joined = vec![0.0; embedding.len()];
        for (row, &token) in tokens[1..].iter().enumerate() {
            let token = &embedding[token as usize * width..][..width];
            let both =
                [normed(token, &of_embedding), normed(&hidden[row * width..][..width], &of_hidden)].concat();
            for (at, weights) in join.chunks_exact(2 * width).enumerate() {
                joined[row * width + at] =
                    weights.iter().zip(&both).map(|(&a, b)| f64::from(a) * b).sum::<f64>() as f32;
            }
        }
        *draft.values("token_embd.weight") = joined;
        *draft.values("output_norm.weight") = last;
        draft.tensors.retain(|(entry, _)| {
            !entry.name.starts_with("blk.") || entry.name.starts_with(&format!("blk.{layers}."))
        });
        draft.tensors.retain(|(entry, _)| !entry.name.contains("nextn."));
        for (entry, _) in &mut draft.tensors {
            entry.name = entry.name.replace(&format!("blk.{layers}."), "blk.0.");
        }
        draft.set("block_count", 1);
        draft.set("nextn_predict_layers", 0);
        if model == "deepseek_v3" {
            draft.set("leading_dense_block_count", 0);
        } else {
            draft.metadata.insert("qwen3next.attention.recurrent_layers", Value::Bools(vec![false]));
            draft.set("full_attention_interval", 1);
        }
        let path = file(&format!("{model}-alone.gguf"));
        draft.write(&path);
        let rows: Vec<u32> = (0..40).collect();
        let (alone, _) = whole(&mut reference(&path), &rows, &[]);
        let difference = largest_difference(&said, &alone);
        let largest = alone.iter().fold(0.0, |largest: f32, logit| largest.max(logit.abs()));
        println!("{model}: {difference:e} of {largest}");
        assert!(difference < 1e-4 * largest, "{model}: {difference} of {largest}");
    }
}

#[test]
fn the_production_block_says_what_the_reference_says() {
    for model in MODELS {
        let path = file(&format!("{model}-both.gguf"));
        with_block(model).write(&path);
        let tokens = some_tokens(41);
        let (mut plain, fast) = (reference(&path), production(&path));
        let (_, hidden) = whole(&mut plain, &tokens[..40], &[]);
        let (expected, _) = whole(plain.next_token().unwrap().unwrap().as_mut(), &tokens[1..], &hidden);
        let mut block = fast.next_token().unwrap().unwrap();
        let (said, _) = whole(block.as_mut(), &tokens[1..], &hidden);
        let error = nmse(&said, &expected);
        println!("{model}: {error:e}");
        assert!(error < 1e-4, "{model}: {error}");
        // in pieces, and taken back
        let sequence = block.open(CONTEXT).unwrap();
        let width = block.spec().hidden;
        feed(block.as_mut(), sequence, &tokens[1..21], &hidden[..20 * width]).unwrap();
        feed(block.as_mut(), sequence, &[9, 9], &hidden[..2 * width]).unwrap();
        assert_eq!(block.truncate(sequence, 20).unwrap(), 20);
        let (rest, _) = feed(block.as_mut(), sequence, &tokens[21..], &hidden[20 * width..]).unwrap();
        assert!(nmse(&rest, &said[said.len() / 2..]) < 1e-5, "{model}");
        // the head is the model's: it is not there twice
        let head = fast.spec().vocabulary * width;
        assert!(block.weight_bytes() + (head as u64) < fast.weight_bytes(), "{model}");
    }
}

#[test]
fn rows_beside_tokens_have_to_be_as_many() {
    let path = file("refused.gguf");
    with_block("deepseek_v3").write(&path);
    let mut trunk = production(&path);
    let mut block = trunk.next_token().unwrap().unwrap();
    let width = trunk.spec().hidden;
    let refuses = |executor: &mut dyn Executor, beside: usize| {
        let sequence = executor.open(CONTEXT).unwrap();
        let refused = feed(executor, sequence, &[1, 2], &vec![0.0; beside]);
        assert!(matches!(refused, Err(ExecutorError::Beside { .. })), "{:?}", refused.err());
    };
    refuses(&mut trunk, width);
    refuses(block.as_mut(), 0);
    refuses(block.as_mut(), width);
}

#[test]
fn a_file_may_leave_the_norm_before_the_head_to_the_model() {
    let mut draft = with_block("qwen3_next");
    let norm = draft.values("output_norm.weight").clone();
    *draft.values("blk.4.nextn.shared_head_norm.weight") = norm;
    let (with, without) = (file("with-norm.gguf"), file("without-norm.gguf"));
    draft.write(&with);
    draft.tensors.retain(|(entry, _)| !entry.name.contains("shared_head_norm"));
    draft.write(&without);
    let says = |path: &Path| {
        let mut block = reference(path).next_token().unwrap().unwrap();
        let beside = vec![0.5; block.spec().hidden];
        whole(block.as_mut(), &[7], &beside).0
    };
    assert_eq!(says(&with), says(&without));
}

#[test]
fn a_model_without_a_block_has_none() {
    assert!(reference(&fixture("gguf/qwen3.gguf")).next_token().unwrap().is_none());
    assert!(production(&fixture("gguf/deepseek_v3.gguf")).next_token().unwrap().is_none());
}
