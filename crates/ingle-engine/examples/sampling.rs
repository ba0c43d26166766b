//! sampling [VOCABULARY...] : microseconds per token of the sampler, by rule

use ingle_engine::sampling::{Sampler, SamplingOptions, logprobs};
use std::time::Instant;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    for size in if sizes.is_empty() { vec![151_936, 262_144] } else { sizes } {
        // logits as a model gives them: about a normal distribution, and some that stand out
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0
        };
        let row: Vec<f32> = (0..size)
            .map(|id| (0..6).map(|_| random()).sum::<f32>() * 3.0 + if id % 9973 == 0 { 16.0 } else { 0.0 })
            .collect();
        let history: Vec<u32> = (0..1000).map(|_| (random() * size as f32) as u32).collect();
        let plain = SamplingOptions { seed: Some(1), ..SamplingOptions::default() };
        let usual =
            SamplingOptions { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..plain.clone() };
        let rules = [
            ("greedy", SamplingOptions { temperature: 0.0, ..plain.clone() }),
            ("0.8/40/0.95/0.05", usual.clone()),
            ("the same and penalties", SamplingOptions { repetition_penalty: 1.1, ..usual }),
            ("temperature alone", plain.clone()),
            ("top-p 0.95 alone", SamplingOptions { top_p: 0.95, ..plain.clone() }),
            ("min-p 0.05 alone", SamplingOptions { min_p: 0.05, ..plain.clone() }),
            ("typical 0.95 alone", SamplingOptions { typical_p: 0.95, ..plain }),
        ];
        println!("{size} tokens");
        for (name, options) in rules {
            let mut sampler = Sampler::new(options, size).expect("options in their ranges");
            report(name, |turn| {
                sampler.sample(&row, &history, turn).expect("sound logits");
            });
        }
        report("logprobs of 20", |_| {
            logprobs(&row, 17, 20);
        });
    }
}

/// Prints the median and least time of 101 calls.
fn report(name: &str, mut call: impl FnMut(u64)) {
    let mut times: Vec<f64> = (0..101)
        .map(|turn| {
            let start = Instant::now();
            call(turn);
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("  {name:24} {:8.1} us median {:8.1} us least", times[50], times[0]);
}
