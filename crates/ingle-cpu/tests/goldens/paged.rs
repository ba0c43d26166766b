//! Experts that come and go give what experts that stay give, bit for bit.

use super::{Golden, argmax, fixture};
use ingle_cpu::{Cpu, Production};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::{Source, families};
use std::sync::Arc;

/// Logits of a prompt at once, again in pieces of three, and of tokens that follow one by one.
fn logits(executor: &mut Production, tokens: &[u32]) -> Vec<f32> {
    let (mut all, mut output) = (Vec::new(), StepOutput::default());
    let mut feed = |executor: &mut Production, sequence, tokens: &[u32]| {
        let slices = [Slice { sequence, tokens, logits: LogitRows::All }];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
        all.extend_from_slice(&output.logits);
        argmax(&output.logits[output.logits.len() - executor.spec().vocabulary..])
    };
    for pieces in [tokens.len(), 3] {
        let sequence = executor.open(tokens.len() + 8).unwrap();
        let mut next = 0;
        for tokens in tokens.chunks(pieces) {
            next = feed(executor, sequence, tokens);
        }
        for _ in 0..8 {
            next = feed(executor, sequence, &[next]);
        }
        executor.close(sequence);
    }
    all
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn a_few_slots_give_the_logits_of_all_experts() {
    let models = [
        ("gpt_oss", "gpt_oss"),
        ("gpt_oss", "gguf/gpt_oss.gguf"),
        ("qwen3_moe", "qwen3_moe"),
        ("qwen3_moe", "gguf/qwen3_moe.gguf"),
        ("qwen3_5_moe", "qwen3_5_moe"),
        ("gemma4_moe", "gemma4_moe"),
        ("deepseek_v3_fp8", "deepseek_v3_fp8"),
    ];
    for (family, model) in models {
        let open = || Arc::new(Source::open(&fixture(model)).unwrap());
        let tokens = Golden::read(family).ids("b.input_ids");
        let source = open();
        let spec = families::describe(&source).unwrap();
        let expert_bytes = spec.expert_bytes();
        let mut whole = Production::load(spec.clone(), source, Cpu::new(2), &mut |_| {}).unwrap();
        let (held, all) = whole.experts_held();
        assert_eq!(held, all, "{model}");
        let expected = logits(&mut whole, &tokens);
        let mut fewest = all;
        for share in [0.0, 0.4, 0.8] {
            let memory = (expert_bytes as f64 * share) as u64;
            let mut paged =
                Production::load_paged(spec.clone(), open(), Cpu::new(2), memory, &mut |_| {}).unwrap();
            let (held, _) = paged.experts_held();
            fewest = fewest.min(held);
            assert!(bits(&logits(&mut paged, &tokens)) == bits(&expected), "{model}, {held} of {all} held");
            if held < all {
                assert!(paged.weight_bytes() < whole.weight_bytes(), "{model}, {held} of {all} held");
            }
        }
        assert!(fewest < all, "{model}: {fewest} of {all} held at least");
        // room for all of them is no reason to page
        let paged = Production::load_paged(spec, open(), Cpu::new(2), expert_bytes, &mut |_| {}).unwrap();
        assert_eq!(paged.experts_held(), (all, all), "{model}");
    }
}
