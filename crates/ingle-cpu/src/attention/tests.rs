//! Windowed caches against full ones.

use super::cache::{CacheShape, LayerKv, SLACK};
use super::{Shared, Work, attend};
use crate::Cpu;
use crate::kernels::{Isa, Kernels, PAGE};
use crate::sequences::Placed;
use ingle_model::executor::SequenceId;
use ingle_model::spec::{Attention, KeyValues, KvFormat, Visibility};
use std::sync::Arc;

const WINDOWS: [usize; 4] = [1, 7, 16, 128];
const CHUNKS: [usize; 5] = [1, 3, 48, 64, 130];

fn attention(window: Option<usize>) -> Attention {
    Attention {
        heads: 6,
        kv_heads: 2,
        key_dim: 24,
        value_dim: 40,
        scale: 0.3,
        rope: None,
        visibility: Visibility::Causal,
        window,
        qk_norm: None,
        value_norm: None,
        key_values: KeyValues::Projected,
        qkv_bias: false,
        output_bias: false,
        sinks: true,
        soft_cap: Some(4.0),
        output_gate: false,
    }
}

const FORMATS: [KvFormat; 3] = KvFormat::ALL;

fn cache(attention: &Attention, window: Option<usize>) -> LayerKv {
    cache_of(attention, window, KvFormat::Bits16)
}

fn cache_of(attention: &Attention, window: Option<usize>, format: KvFormat) -> LayerKv {
    let Attention { kv_heads, key_dim, value_dim, .. } = *attention;
    LayerKv::new(CacheShape { kv_heads, key_dim, value_dim, format }, window)
}

fn page_bytes(attention: &Attention) -> u64 {
    (PAGE * attention.kv_heads * (2 * (attention.key_dim + attention.value_dim) + 4)) as u64
}

/// Numbers from -1 to 1 that depend on the position alone, so that a wrong page would show.
fn numbers(position: usize, count: usize, seed: u32) -> impl Iterator<Item = f32> {
    (0..count as u32).map(move |at| {
        let mixed = (position as u32 * 7919 + at * 104_729 + seed).wrapping_mul(2_654_435_761);
        (mixed >> 8) as f32 / 8_388_608.0 - 1.0
    })
}

/// Grows a cache by a step of `rows` rows from `first` on, and stores them.
fn fill(cpu: &Cpu, attention: &Attention, kv: &mut LayerKv, first: usize, rows: usize) {
    kv.grow(first..first + rows).unwrap();
    let all = |width: usize, seed: u32| -> Vec<f32> {
        (first..first + rows).flat_map(|position| numbers(position, width, seed)).collect()
    };
    let keys = all(attention.kv_heads * attention.key_dim, 1);
    let values = all(attention.kv_heads * attention.value_dim, 2);
    kv.store(cpu, first, &keys, &values);
}

fn attended(cpu: &Cpu, attention: &Attention, kv: &LayerKv, first: usize, rows: usize) -> Vec<f32> {
    let width = attention.heads * attention.key_dim;
    let queries: Vec<f32> = (first..first + rows).flat_map(|at| numbers(at, width, 3)).collect();
    let placed = Placed { sequence: SequenceId(0), rows: 0..rows, first };
    let sinks = sinks(attention);
    let work = |_| Work { attention, kv, placed: &placed, queries: &queries, sinks: &sinks };
    let mut out = vec![f32::NAN; rows * attention.heads * attention.value_dim];
    attend(cpu, 1, &work, &mut Shared::default(), &mut out);
    out
}

fn sinks(attention: &Attention) -> Vec<f32> {
    let all = [0.5, -0.5, 1.0, 0.0, -2.0, 3.0];
    (0..attention.heads).filter(|_| attention.sinks).map(|head| all[head % all.len()]).collect()
}

/// What [`attended`] is by definition, in 64-bit floats and with the numbers as they were before they were stored.
fn exact(attention: &Attention, first: usize, rows: usize) -> Vec<f64> {
    let Attention { heads, kv_heads, key_dim, value_dim, .. } = *attention;
    let row = |position: usize, heads: usize, width: usize, seed: u32| -> Vec<f64> {
        numbers(position, heads * width, seed).map(f64::from).collect()
    };
    let end = first + rows;
    let keys: Vec<Vec<f64>> = (0..end).map(|at| row(at, kv_heads, key_dim, 1)).collect();
    let values: Vec<Vec<f64>> = (0..end).map(|at| row(at, kv_heads, value_dim, 2)).collect();
    let sinks = sinks(attention);
    let mut out = Vec::new();
    for position in first..end {
        let queries = row(position, heads, key_dim, 3);
        for (head, query) in queries.chunks_exact(key_dim).enumerate() {
            let kv_head = head / (heads / kv_heads);
            let score = |at: usize| {
                let key = &keys[at][kv_head * key_dim..][..key_dim];
                let score: f64 =
                    query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * f64::from(attention.scale);
                attention.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let weights: Vec<(usize, f64)> =
                attention.seen(position, end).map(|at| (at, score(at).exp())).collect();
            let sink = sinks.get(head).map_or(0.0, |&sink| f64::from(sink).exp());
            let all: f64 = sink + weights.iter().map(|weight| weight.1).sum::<f64>();
            out.extend((0..value_dim).map(|at| -> f64 {
                weights
                    .iter()
                    .map(|&(from, weight)| weight / all * values[from][kv_head * value_dim + at])
                    .sum()
            }));
        }
    }
    out
}

/// Mean square of the difference as a share of the mean square.
fn relative_error(ours: &[f32], exact: &[f64]) -> f64 {
    let difference: f64 = ours.iter().zip(exact).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    difference / exact.iter().map(|x| x * x).sum::<f64>()
}

#[test]
fn attention_is_its_definition_for_any_shape() {
    let shapes = [
        (1, 1, 64, 64),
        (4, 2, 80, 80),
        (8, 2, 96, 96),
        (5, 1, 128, 128),
        (16, 2, 64, 64),
        (16, 1, 192, 128),
        (2, 1, 256, 256),
        (40, 1, 16, 40),
        (3, 3, 7, 5),
    ];
    for kernels in Isa::ALL.into_iter().filter_map(Kernels::for_isa) {
        let cpu = Cpu::with(2, kernels);
        for (at, (heads, kv_heads, key_dim, value_dim)) in shapes.into_iter().enumerate() {
            for (turn, (positions, rows)) in
                [(1, 1), (63, 2), (64, 1), (65, 3), (130, 67), (1000, 1)].into_iter().enumerate()
            {
                // the options take turns: all of them, not all combinations
                let turn = at + turn;
                let attention = Attention {
                    heads,
                    kv_heads,
                    key_dim,
                    value_dim,
                    sinks: turn % 2 == 0,
                    soft_cap: (turn % 3 == 0).then_some(2.0),
                    ..attention([None, Some(100), Some(40)][turn % 3])
                };
                let first = positions - rows;
                let expected = exact(&attention, first, rows);
                for format in FORMATS {
                    let mut kv = cache_of(&attention, attention.window, format);
                    fill(&cpu, &attention, &mut kv, 0, positions);
                    let ours = attended(&cpu, &attention, &kv, first, rows);
                    let error = relative_error(&ours, &expected);
                    let within = match format {
                        KvFormat::Bits16 => 2e-6,
                        KvFormat::Bits8 => 4e-4,
                        KvFormat::Bits4 => 1e-1,
                    };
                    let isa = kernels.isa();
                    assert!(error < within, "{isa:?} {format:?} {attention:?} {positions} {rows}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn a_window_attends_as_a_full_cache_does_at_any_chunk_size() {
    for (isa, format) in Isa::ALL.into_iter().flat_map(|isa| FORMATS.map(|format| (isa, format))) {
        let Some(kernels) = Kernels::for_isa(isa) else { continue };
        let cpu = Cpu::with(2, kernels);
        for (window, chunk) in WINDOWS.into_iter().flat_map(|window| CHUNKS.map(|chunk| (window, chunk))) {
            let attention = attention(Some(window));
            let mut windowed = cache_of(&attention, Some(window), format);
            let mut full = cache_of(&attention, None, format);
            let mut first = 0;
            while first < 420 {
                let rows = if first > 300 { 1 } else { chunk };
                fill(&cpu, &attention, &mut windowed, first, rows);
                fill(&cpu, &attention, &mut full, first, rows);
                let ours = attended(&cpu, &attention, &windowed, first, rows);
                let theirs = attended(&cpu, &attention, &full, first, rows);
                assert!(ours.iter().all(|x| x.is_finite()));
                assert_eq!(ours, theirs, "{isa:?}, window {window}, chunks of {chunk}, from {first}");
                first += rows;
            }
        }
    }
}

fn bytes(kv: &LayerKv) -> u64 {
    kv.pages().map(|page| page.bytes().len() as u64).sum()
}

#[test]
fn a_window_holds_no_more_than_itself_and_the_steps_rows() {
    let cpu = Cpu::with(1, Kernels::best());
    for (window, chunk) in WINDOWS.into_iter().flat_map(|window| CHUNKS.map(|chunk| (window, chunk))) {
        let attention = attention(Some(window));
        let mut kv = cache(&attention, Some(window));
        let mut first = 0;
        while first < 5000 {
            fill(&cpu, &attention, &mut kv, first, chunk);
            // one page more where both ends lie inside pages
            let pages = (window + SLACK + chunk).div_ceil(PAGE) + 1;
            assert!(bytes(&kv) <= pages as u64 * page_bytes(&attention), "{window} {chunk} {first}");
            first += chunk;
        }
        for position in first..first + 200 {
            fill(&cpu, &attention, &mut kv, position, 1);
        }
        let pages = ((window + SLACK + PAGE - 2) / PAGE + 1) as u64; // what so many positions can lie in
        assert!(window != 128 || pages == 4);
        assert!(bytes(&kv) <= pages * page_bytes(&attention), "window {window}: {} bytes", bytes(&kv));
    }
}

#[test]
fn a_sequence_goes_back_as_far_as_its_window_is_held() {
    let cpu = Cpu::with(1, Kernels::best());
    for window in WINDOWS {
        let attention = attention(Some(window));
        let (mut kv, mut full) = (cache(&attention, Some(window)), cache(&attention, None));
        for position in 0..1000 {
            fill(&cpu, &attention, &mut kv, position, 1);
            fill(&cpu, &attention, &mut full, position, 1);
        }
        assert_eq!(kv.earlier(1000), 1000);
        assert_eq!(kv.earlier(1000 - SLACK + 1), 1000 - SLACK + 1, "the slack is always there");
        assert_eq!(kv.earlier(500), 0, "what is gone is not promised");
        kv.shrink(1000 - SLACK + 1);
        full.shrink(1000 - SLACK + 1);
        for position in 1000 - SLACK + 1..1100 {
            fill(&cpu, &attention, &mut kv, position, 1);
            fill(&cpu, &attention, &mut full, position, 1);
            let expected = attended(&cpu, &attention, &full, position, 1);
            assert_eq!(attended(&cpu, &attention, &kv, position, 1), expected);
        }
        kv.shrink(0);
        assert_eq!(bytes(&kv), 0);
        fill(&cpu, &attention, &mut kv, 0, 3);
        let first = attended(&cpu, &attention, &full, 0, 3);
        assert_eq!(attended(&cpu, &attention, &kv, 0, 3), first);
    }
}

#[test]
fn pages_parted_among_threads_give_the_same() {
    for (window, sinks) in [(None, false), (None, true), (Some(700), true)] {
        let attention = Attention { sinks, ..attention(window) };
        let mut kv = cache(&attention, window);
        let (alone, together) = (Cpu::with(1, Kernels::best()), Cpu::with(8, Kernels::best()));
        fill(&alone, &attention, &mut kv, 0, 1500);
        for (first, rows) in [(1499, 1), (1497, 3), (1400, 9)] {
            let expected = attended(&alone, &attention, &kv, first, rows);
            let error = relative_error(&expected, &exact(&attention, first, rows));
            assert!(error < 1e-3, "{rows} rows from {first} on: {error}");
            // to the last bit: an answer must not depend on the number of threads
            assert!(
                attended(&together, &attention, &kv, first, rows) == expected,
                "{rows} rows from {first} on"
            );
        }
    }
}

#[test]
fn a_row_gives_the_same_whatever_rows_are_beside_it() {
    for (window, sinks) in [(None, true), (Some(700), false)] {
        let attention = Attention { sinks, ..attention(window) };
        let mut kv = cache(&attention, None);
        let cpu = Cpu::with(2, Kernels::best());
        fill(&cpu, &attention, &mut kv, 0, 1300);
        let width = attention.heads * attention.value_dim;
        let alone: Vec<f32> =
            (1000..1300).flat_map(|position| attended(&cpu, &attention, &kv, position, 1)).collect();
        for rows in [2, 5, 60, 300] {
            for first in (1000..1300).step_by(rows) {
                let count = rows.min(1300 - first);
                let together = attended(&cpu, &attention, &kv, first, count);
                let expected = &alone[(first - 1000) * width..][..count * width];
                assert!(together == expected, "window {window:?}: {count} rows from {first} on");
            }
        }
    }
}

#[test]
fn sequences_that_share_pages_do_not_write_into_each_other() {
    let cpu = Cpu::with(1, Kernels::best());
    for window in [None, Some(100)] {
        let attention = attention(window);
        let (mut kv, mut alone) = (cache(&attention, window), cache(&attention, window));
        fill(&cpu, &attention, &mut kv, 0, 200);
        fill(&cpu, &attention, &mut alone, 0, 200);
        let mut fork = kv.clone();
        fork.shrink(180);
        let before = kv.pages().filter(|page| fork.pages().any(|other| Arc::ptr_eq(page, other))).count();
        assert_eq!(before, fork.pages().count(), "a fork takes no memory");
        fill(&cpu, &attention, &mut fork, 180, 5);
        for position in 200..300 {
            fill(&cpu, &attention, &mut kv, position, 1);
            fill(&cpu, &attention, &mut alone, position, 1);
            let expected = attended(&cpu, &attention, &alone, position, 1);
            assert_eq!(attended(&cpu, &attention, &kv, position, 1), expected, "{window:?}, {position}");
        }
        let shared = kv.pages().filter(|page| fork.pages().any(|other| Arc::ptr_eq(page, other))).count();
        assert!(window.is_some() || shared == 2, "{shared} pages");
    }
}
