//! A sequence gives the same bits whatever is computed beside it, in whatever pieces, and from another's beginning on.

use super::{Golden, fixture};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::{Source, families};
use std::sync::Arc;

const CONTEXT: usize = 96;

/// Logits of the last of the tokens that each sequence takes.
pub(super) fn feed(executor: &mut dyn Executor, slices: &[(SequenceId, &[u32])]) -> Vec<Vec<u32>> {
    let slices: Vec<Slice> = slices
        .iter()
        .map(|&(sequence, tokens)| Slice { sequence, tokens, logits: LogitRows::Last })
        .collect();
    let mut output = StepOutput::default();
    executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    let rows = output.logits.chunks_exact(executor.spec().vocabulary);
    rows.map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect()
}

pub(super) fn load(model: &str) -> Production {
    let source = Arc::new(Source::open(&fixture(model)).unwrap());
    let spec = families::describe(&source).unwrap();
    Production::load(spec, source, Cpu::new(2), &mut |_| {}).unwrap()
}

/// Those whose attention chooses its form by the number of rows (latent attention) are not among them.
pub(super) const MODELS: [(&str, &str); 9] = [
    ("qwen2", "qwen2"),
    ("qwen3", "gguf/qwen3.gguf"),
    ("qwen3_moe", "gguf/qwen3_moe.gguf"),
    ("gpt_oss", "gguf/gpt_oss.gguf"),
    ("gpt_oss", "gpt_oss"),
    ("gemma3_text", "gguf/gemma3_text.gguf"),
    ("gemma4_moe", "gemma4_moe"),
    ("qwen3_next", "gguf/qwen3_next.gguf"),
    ("qwen3_5_moe", "gguf/qwen3_5_moe.gguf"),
];

#[test]
fn what_is_computed_beside_a_sequence_does_not_show_in_it() {
    for (family, model) in MODELS {
        let tokens = Golden::read(family).ids("b.input_ids");
        let (prompt, rest) = tokens.split_at(tokens.len() - 4);
        let mut executor = load(model);
        let alone = executor.open(CONTEXT).unwrap();
        let mut expected = feed(&mut executor, &[(alone, prompt)]);
        for token in rest {
            expected.extend(feed(&mut executor, &[(alone, std::slice::from_ref(token))]));
        }
        let mut others: Vec<SequenceId> = Vec::new();
        let own = executor.open(CONTEXT).unwrap();
        let mut ours = Vec::new();
        // the prompt in pieces, and at every step one more sequence beside it
        let pieces = prompt.chunks(5).chain(rest.chunks(1));
        for (step, piece) in pieces.enumerate() {
            others.push(executor.open(CONTEXT).unwrap());
            let beside = &tokens[..1 + step % 3];
            let mut slices: Vec<(SequenceId, &[u32])> = others.iter().map(|&other| (other, beside)).collect();
            slices.insert(step % 2, (own, piece));
            ours.push(feed(&mut executor, &slices).swap_remove(step % 2));
        }
        assert!(ours[ours.len() - 5..] == expected, "{model}");
    }
}

fn a_fork_goes_on(executor: &mut dyn Executor, tokens: &[u32], model: &str) {
    let (prompt, rest) = tokens.split_at(tokens.len() - 4);
    let alone = executor.open(CONTEXT).unwrap();
    feed(executor, &[(alone, prompt)]);
    let expected = feed(executor, &[(alone, rest)]);

    let parent = executor.open(CONTEXT).unwrap();
    feed(executor, &[(parent, prompt)]);
    let (fork, length) = executor.fork(parent, prompt.len(), CONTEXT).unwrap();
    assert_eq!((length, executor.length(fork)), (prompt.len(), prompt.len()), "{model}");
    feed(executor, &[(parent, &tokens[..7])]);
    assert!(feed(executor, &[(fork, rest)]) == expected, "{model}: a fork");
    // from an earlier place, as far as the network can go back
    let (earlier, length) = executor.fork(parent, prompt.len() - 1, CONTEXT).unwrap();
    assert!(length < prompt.len(), "{model}");
    executor.close(parent);
    feed(executor, &[(earlier, &prompt[length..])]);
    assert!(feed(executor, &[(earlier, rest)]) == expected, "{model}: a fork from {length} on");
    // every sequence has a position more than it began with, so none is what another is
    for sequence in [alone, fork, earlier] {
        executor.close(sequence);
    }
    assert_eq!(executor.kv_bytes(), 0, "{model}");
}

#[test]
fn a_fork_goes_on_as_if_it_had_begun_by_itself() {
    for (family, model) in MODELS.into_iter().chain([("deepseek_v32", "deepseek_v32")]) {
        let tokens = Golden::read(family).ids("b.input_ids");
        a_fork_goes_on(&mut load(model), &tokens, model);
    }
    for model in ["qwen3", "gpt_oss", "deepseek_v32", "qwen3_next"] {
        let source = Arc::new(Source::open(&fixture(model)).unwrap());
        let mut reference = Reference::load(families::describe(&source).unwrap(), source).unwrap();
        a_fork_goes_on(&mut reference, &Golden::read(model).ids("b.input_ids"), model);
    }
}

#[test]
fn what_sequences_share_counts_once() {
    let mut executor = load("gguf/qwen3.gguf");
    let tokens = [1u32; 80];
    let parent = executor.open(CONTEXT).unwrap();
    feed(&mut executor, &[(parent, &tokens)]);
    let one = executor.kv_bytes();
    let (fork, _) = executor.fork(parent, 70, CONTEXT).unwrap();
    assert_eq!(executor.kv_bytes(), one);
    feed(&mut executor, &[(fork, &tokens[..1])]);
    assert_eq!(executor.kv_bytes(), one + one / 2, "one page of two is written");
    executor.close(parent);
    assert_eq!(executor.kv_bytes(), one);
}
