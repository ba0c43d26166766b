//! The measuring itself: what is run, what is counted, and what stops it.

use super::*;
use ingle_cpu::kernels::Kernels;
use ingle_cpu::{Cpu, Production};
use ingle_model::spec::{Bound, Cost};
use ingle_model::{Source, families};
use std::path::Path;
use std::sync::Arc;

fn ember() -> Production {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q4_k_m.gguf");
    let source = Arc::new(Source::open(&path).unwrap());
    let spec = families::describe(&source).unwrap();
    Production::load(spec, source, Cpu::new(1), &mut |_| {}).unwrap()
}

#[test]
fn every_repeat_is_measured_beside_its_limit() {
    let mut executor = ember();
    let limits =
        Limits::new(Cpu::with(1, Kernels::best()), step_bytes(executor.spec(), KvBytes::F16)).unwrap();
    let mut bench = Bench::new(&mut executor, &limits, KvBytes::F16, 300);
    let prefill = Case { work: Work::Prefill { tokens: 150 }, depth: 100 };
    let decode = Case { work: Work::Decode { tokens: 5, batch: 3 }, depth: 100 };
    for case in [prefill, decode] {
        let mut tokens = 0;
        let figure = bench
            .measure(case, 2, &mut |done| {
                tokens += done;
                Flow::Continue
            })
            .unwrap();
        assert_eq!((figure.repeats.len(), figure.threads, figure.case), (2, 1, case));
        assert!(tokens >= 2 * case.tokens(), "{tokens}");
        let rate = figure.tokens_per_second();
        assert!(0.0 < rate.least && rate.least <= rate.median && rate.median <= rate.most);
        // well below 1 on a quiet machine; on a busy one a sample can suffer where the work did not
        assert!((0.001..2.0).contains(&figure.reached()), "{figure:?}");
    }
    let lengths = |bench: &Bench| -> Vec<usize> {
        bench.sequences.iter().map(|&sequence| bench.executor.length(sequence)).collect()
    };
    assert_eq!(lengths(&bench), [105, 105, 105], "the depth and what was decoded after it");
    drop(bench);
    assert_eq!(executor.kv_bytes(), 0, "sequences are closed");
}

#[test]
fn a_stop_gives_what_was_measured_before() {
    let mut executor = ember();
    let limits = Limits::new(Cpu::with(1, Kernels::best()), 0).unwrap();
    let mut bench = Bench::new(&mut executor, &limits, KvBytes::F16, 64);
    let case = Case { work: Work::Decode { tokens: 4, batch: 1 }, depth: 0 };
    let mut steps = 0;
    let figure = bench.measure(case, 5, &mut |_| {
        steps += 1;
        if steps == 10 { Flow::Stop } else { Flow::Continue }
    });
    assert_eq!(figure.unwrap().repeats.len(), 2);
    let beyond = Case { depth: 80, ..case };
    assert!(matches!(bench.measure(beyond, 1, &mut |_| Flow::Continue), Err(ExecutorError::Context { .. })));
}

#[test]
fn a_run_costs_what_its_steps_cost() {
    let executor = ember();
    let spec = executor.spec();
    let whole = |loads: &[ingle_model::spec::Load]| {
        loads.iter().map(|load| spec.step_cost(load, KvBytes::F16)).fold(Cost::default(), |a, b| a + b)
    };
    let close = |a: f64, b: f64| (a - b).abs() <= 0.02 * b;
    for case in [
        Case { work: Work::Prefill { tokens: 200 }, depth: 7 },
        Case { work: Work::Decode { tokens: 100, batch: 4 }, depth: 0 },
        Case { work: Work::Decode { tokens: 100, batch: 1 }, depth: 1500 },
    ] {
        let (counted, exact) = (case.cost(spec, KvBytes::F16), whole(&case.steps(spec)));
        assert!(close(counted.weight_bytes, exact.weight_bytes), "{case:?}");
        assert!(close(counted.kv_bytes, exact.kv_bytes), "{case:?}");
        assert!(close(counted.operations, exact.operations), "{case:?}");
        assert!(close(counted.integer_operations, exact.integer_operations), "{case:?}");
        assert!(close(counted.word_operations, exact.word_operations), "{case:?}");
    }
    // all matrices of the file are quantised: only norms are done in floats
    let token = Case { work: Work::Decode { tokens: 1, batch: 1 }, depth: 0 }.cost(spec, KvBytes::F16);
    let share = token.float_operations() / token.operations;
    assert!((1e-5..0.01).contains(&share), "{share}");
    assert!((token.weight_bytes / 2.394e6 - 1.0).abs() < 0.1, "{}", token.weight_bytes);
    // a prompt goes through in steps, the last of which wants logits
    let steps = Case { work: Work::Prefill { tokens: 600 }, depth: 0 }.steps(spec);
    assert_eq!(steps.iter().map(|load| load.tokens).sum::<u64>(), 600);
    assert!(steps.iter().all(|load| load.tokens <= prefill_rows(spec) as u64));
    assert_eq!(steps.iter().rev().map(|load| load.logits).take(2).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn figures_are_medians_and_each_repeat_has_its_own_limit() {
    let cost = Cost {
        weight_bytes: 100.0,
        kv_bytes: 0.0,
        operations: 20.0,
        integer_operations: 20.0,
        word_operations: 0.0,
    };
    let repeat =
        |seconds, bytes| Repeat { seconds, rates: Rates { bytes, integers: 1e9, words: 1e9, floats: 1e9 } };
    let case = Case { work: Work::Decode { tokens: 5, batch: 2 }, depth: 0 };
    // the memory was twice as fast during the second run, and so was the run
    let repeats = vec![repeat(4.0, 50.0), repeat(2.0, 100.0), repeat(5.0, 40.0)];
    let figure = Figure { case, threads: 1, cost, repeats };
    assert_eq!(figure.tokens_per_second(), Spread { median: 2.5, least: 2.0, most: 5.0 });
    assert_eq!(figure.limit(), Spread { median: 5.0, least: 4.0, most: 10.0 });
    assert_eq!((figure.reached(), figure.bound()), (0.5, Bound::Memory));
    assert_eq!(figure.cost_per_token().weight_bytes, 10.0);
    let none = Figure { repeats: Vec::new(), ..figure };
    assert_eq!((none.tokens_per_second(), none.reached()), (Spread::default(), 0.0));
    assert_eq!(on_average(&[repeat(1.0, 10.0).rates, repeat(1.0, 30.0).rates]).bytes, 15.0);
}
