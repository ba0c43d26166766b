//! The figures for programs. `docs/bench.md` explains every field; names and units stay as they are.

use super::Report;
use ingle_engine::ExecutorKind;
use ingle_engine::bench::{Figure, Work};
use ingle_model::spec::Bound;
use serde_json::{Value, json};

/// The whole report.
pub(super) fn document(report: &Report) -> Value {
    json!({
        "model": report.model,
        "parameters": report.parameters,
        "weight_bytes": report.weight_bytes,
        "executor": match report.executor {
            ExecutorKind::Production => "production",
            ExecutorKind::Reference => "reference",
        },
        "isa": report.isa,
        "processor": report.processor,
        "load_average": report.disturbance.load_average,
        "other_programs_processors": report.disturbance.others,
        "stolen_processors": report.disturbance.stolen,
        "quiet": report.disturbance.is_quiet(),
        "interrupted": report.interrupted,
        "figures": report.figures.iter().map(figure).collect::<Vec<_>>(),
        "notices": report.notices,
    })
}

fn figure(figure: &Figure) -> Value {
    let (work, tokens, batch) = match figure.case.work {
        Work::Prefill { tokens } => ("prefill", tokens, 1),
        Work::Decode { tokens, batch } => ("decode", tokens, batch),
    };
    let (rate, limit) = (figure.tokens_per_second(), figure.limit());
    let (cost, machine) = (figure.cost_per_token(), figure.machine());
    json!({
        "work": work,
        "tokens": tokens,
        "batch": batch,
        "depth": figure.case.depth,
        "threads": figure.threads,
        "tokens_per_second": rate.median,
        "worst_tokens_per_second": rate.least,
        "best_tokens_per_second": rate.most,
        "all_tokens_per_second": figure.rates(),
        "limit_tokens_per_second": limit.median,
        "least_limit_tokens_per_second": limit.least,
        "most_limit_tokens_per_second": limit.most,
        "limited_by": match figure.bound() {
            Bound::Memory => "memory",
            Bound::Arithmetic => "arithmetic",
        },
        "reached_percent": 100.0 * figure.reached(),
        "weight_bytes_per_token": cost.weight_bytes,
        "kv_bytes_per_token": cost.kv_bytes,
        "integer_multiply_adds_per_token": cost.integer_operations / 2.0,
        "word_multiply_adds_per_token": cost.word_operations / 2.0,
        "float_multiply_adds_per_token": cost.float_operations() / 2.0,
        "read_bytes_per_second": machine.bytes,
        "integer_multiply_adds_per_second": machine.integers,
        "word_multiply_adds_per_second": machine.words,
        "float_multiply_adds_per_second": machine.floats,
    })
}
