//! Grouped-query attention over the paged cache, with online softmax: one pass over a KV head's pages serves all its
//! query heads and several rows. Pages outside a row's window are never read.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

pub(crate) mod cache;

use crate::Cpu;
use crate::kernels::{PAGE, PageWeights, QUERIES};
use crate::pool::Shares;
use cache::LayerKv;
use ingle_model::spec::Attention;
use std::ops::Range;

/// Rows of one sequence whose keys and values are already in `kv`.
pub(crate) struct Rows<'a> {
    /// The sequence's cache of this layer.
    pub(crate) kv: &'a LayerKv,
    /// Row indices in the step.
    pub(crate) rows: Range<usize>,
    /// Position of the first row.
    pub(crate) first: usize,
}

/// `out[row][head] = softmax(scale * q . k) v` for every row: `queries [rows, heads * key dim]`, `out [rows, heads *
/// value dim]`; `sinks` has a logit per head or is empty.
pub(crate) fn attend(
    cpu: &Cpu,
    attention: &Attention,
    sequences: &[Rows],
    queries: &[f32],
    sinks: &[f32],
    out: &mut [f32],
) {
    let group = attention.heads / attention.kv_heads;
    let rows_together = (QUERIES / group).max(1);
    let out = Shares::new(out);
    for sequence in sequences {
        let blocks = sequence.rows.len().div_ceil(rows_together);
        let tasks = blocks * attention.kv_heads;
        cpu.pool.for_chunks(tasks, 1, &|_, tasks| {
            for task in tasks {
                // the last rows see most: they go first, so that no thread is left with a long one at the end
                let block = blocks - 1 - task / attention.kv_heads;
                let first = sequence.rows.start + block * rows_together;
                let rows = first..(first + rows_together).min(sequence.rows.end);
                let kv_head = task % attention.kv_heads;
                let mut pairs = [(0, 0); QUERIES];
                let mut count = 0;
                for row in rows.clone() {
                    for head in kv_head * group..(kv_head + 1) * group {
                        pairs[count] = (row, head);
                        count += 1;
                        let last = row + 1 == rows.end && head + 1 == (kv_head + 1) * group;
                        if count == QUERIES || last {
                            let pairs = &pairs[..count];
                            attend_page_by_page(cpu, attention, sequence, pairs, queries, sinks, &out);
                            count = 0;
                        }
                    }
                }
            }
        });
    }
}

/// Running softmax of one query.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    sum: f32,
}

/// Up to [`QUERIES`] `(row, head)` pairs of one KV head.
fn attend_page_by_page(
    cpu: &Cpu,
    attention: &Attention,
    sequence: &Rows,
    pairs: &[(usize, usize)],
    queries: &[f32],
    sinks: &[f32],
    out: &Shares<f32>,
) {
    let Attention { heads, key_dim, value_dim, .. } = *attention;
    let mut query_of: [&[f32]; QUERIES] = [&[]; QUERIES];
    let mut out_of: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
    for (at, &(row, head)) in pairs.iter().enumerate() {
        query_of[at] = &queries[(row * heads + head) * key_dim..][..key_dim];
        let start = (row * heads + head) * value_dim;
        // SAFETY: every (row, head) belongs to one task.
        out_of[at] = unsafe { out.range(start..start + value_dim) };
        out_of[at].fill(0.0);
    }
    let kv_head = pairs[0].1 / (heads / attention.kv_heads);
    let (query_of, out_of) = (&query_of[..pairs.len()], &mut out_of[..pairs.len()]);

    let seen = |row: usize| {
        let end = sequence.first + row - sequence.rows.start + 1;
        attention.window.map_or(0, |window| end.saturating_sub(window))..end
    };
    let first_page = pairs.iter().map(|pair| seen(pair.0).start).min().unwrap_or(0) / PAGE;
    let end = pairs.iter().map(|pair| seen(pair.0).end).max().unwrap_or(0);
    let mut running = [Running { largest: f32::NEG_INFINITY, sum: 0.0 }; QUERIES];
    let mut scores: PageWeights = [[0.0; PAGE]; QUERIES];
    let pages = first_page..end.div_ceil(PAGE);
    for page in pages.clone() {
        let (keys, values) = sequence.kv.tile(page, kv_head);
        cpu.kernels.page_scores(query_of, keys, values, &mut scores);
        for (at, &(row, _)) in pairs.iter().enumerate() {
            let seen = seen(row);
            let inside = |position: usize| position.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
            let visible = inside(seen.start)..inside(seen.end);
            weigh(cpu, attention, &mut scores[at], visible, &mut running[at], out_of[at]);
        }
        let next_keys = if page + 1 < pages.end { sequence.kv.tile(page + 1, kv_head).0 } else { &[] };
        let positions = (end - page * PAGE).min(PAGE);
        cpu.kernels.page_accumulate(&scores, values, positions, next_keys, out_of);
    }
    for (at, &(_, head)) in pairs.iter().enumerate() {
        let Running { largest, sum } = running[at];
        let factor = match sinks.get(head) {
            None => 1.0 / sum,
            Some(&sink) => {
                let top = largest.max(sink);
                (largest - top).exp() / (sum * (largest - top).exp() + (sink - top).exp())
            }
        };
        cpu.kernels.scale(out_of[at], factor);
    }
}

/// Turns a page's scores into weights relative to the largest score so far, and scales what was summed before.
fn weigh(
    cpu: &Cpu,
    attention: &Attention,
    scores: &mut [f32; PAGE],
    visible: Range<usize>,
    running: &mut Running,
    out: &mut [f32],
) {
    scores[..visible.start].fill(0.0);
    scores[visible.end..].fill(0.0);
    let scores = &mut scores[visible];
    if scores.is_empty() {
        return;
    }
    cpu.kernels.scale(scores, attention.scale);
    if let Some(cap) = attention.soft_cap {
        scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
    }
    let largest = running.largest.max(cpu.kernels.max(scores));
    if largest > running.largest {
        let shrink = (running.largest - largest).exp();
        running.sum *= shrink;
        cpu.kernels.scale(out, shrink);
        running.largest = largest;
    }
    running.sum += cpu.kernels.exp_sum(scores, largest);
}
