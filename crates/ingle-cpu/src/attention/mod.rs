//! Grouped-query attention over the paged cache, with online softmax: one pass over a KV head's pages serves all its
//! query heads and several rows. Pages outside a row's window are never read.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

pub(crate) mod cache;
pub(crate) mod latent;
pub(crate) mod select;
#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::kernels::{PAGE, PageWeights, QUERIES};
use crate::pool::Shares;
use crate::sequences::Placed;
use cache::LayerKv;
use ingle_model::spec::Attention;
use std::ops::Range;

/// Attention of one slice: rows of one sequence, whose keys and values are already in its cache.
pub(crate) struct Work<'a> {
    pub(crate) attention: &'a Attention,
    /// The sequence's cache of this layer.
    pub(crate) kv: &'a LayerKv,
    pub(crate) placed: &'a Placed,
    /// `[rows, heads * key dim]`.
    pub(crate) queries: &'a [f32],
    /// A logit per head, or none.
    pub(crate) sinks: &'a [f32],
}

/// `out[row][head] = softmax(scale * q . k) v` for the slice's rows of `out`, `[rows, heads * value dim]`.
pub(crate) fn attend(cpu: &Cpu, work: &Work, out: &mut [f32]) {
    let Attention { heads, kv_heads, .. } = *work.attention;
    let group = heads / kv_heads;
    let rows_together = (QUERIES / group).max(1);
    let placed = &work.placed.rows;
    let blocks = placed.len().div_ceil(rows_together);
    let out = Shares::new(out);
    cpu.pool.for_chunks(blocks * kv_heads, 1, &|_, tasks| {
        for task in tasks {
            // the last rows see most: they go first, so that no thread is left with a long one at the end
            let first = placed.start + (blocks - 1 - task / kv_heads) * rows_together;
            let rows = first..(first + rows_together).min(placed.end);
            let kv_head = task % kv_heads;
            let mut pairs = [(0, 0); QUERIES];
            let mut count = 0;
            for row in rows.clone() {
                for head in kv_head * group..(kv_head + 1) * group {
                    pairs[count] = (row, head);
                    count += 1;
                    let last = row + 1 == rows.end && head + 1 == (kv_head + 1) * group;
                    if count == QUERIES || last {
                        page_by_page(cpu, work, &pairs[..count], &out);
                        count = 0;
                    }
                }
            }
        }
    });
}

/// Running softmax of one query: the largest score so far, and the sum of the weights relative to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    largest: f32,
    sum: f32,
}

impl Running {
    const NOTHING: Running = Running { largest: f32::NEG_INFINITY, sum: 0.0 };
}

/// Up to [`QUERIES`] `(row, head)` pairs of one KV head.
fn page_by_page(cpu: &Cpu, work: &Work, pairs: &[(usize, usize)], out: &Shares<f32>) {
    let Work { attention, kv, placed, queries, sinks } = *work;
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
        let end = placed.position(row) + 1;
        attention.window.map_or(0, |window| end.saturating_sub(window))..end
    };
    let first_page = pairs.iter().map(|pair| seen(pair.0).start).min().unwrap_or(0) / PAGE;
    let end = pairs.iter().map(|pair| seen(pair.0).end).max().unwrap_or(0);
    let mut running = [Running::NOTHING; QUERIES];
    let mut scores: PageWeights = [[0.0; PAGE]; QUERIES];
    let pages = first_page..end.div_ceil(PAGE);
    for page in pages.clone() {
        let (keys, values) = kv.tile(page, kv_head);
        cpu.kernels.page_scores(query_of, keys, values, &mut scores);
        for (at, &(row, _)) in pairs.iter().enumerate() {
            let seen = seen(row);
            let inside = |position: usize| position.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
            let visible = inside(seen.start)..inside(seen.end);
            let soft_cap = attention.soft_cap;
            weigh(cpu, attention.scale, soft_cap, &mut scores[at], visible, &mut running[at], out_of[at]);
        }
        let next_keys = if page + 1 < pages.end { kv.tile(page + 1, kv_head).0 } else { &[] };
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
    scale: f32,
    soft_cap: Option<f32>,
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
    cpu.kernels.scale(scores, scale);
    if let Some(cap) = soft_cap {
        cpu.kernels.soft_cap(scores, cap);
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
