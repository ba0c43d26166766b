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

/// Least pages of a part when a KV head's pages are parted among threads.
const LEAST_PAGES: usize = 4;

/// `out[row][head] = softmax(scale * q . k) v` for the slice's rows of `out`, `[rows, heads * value dim]`. `partial` is
/// memory to reuse.
pub(crate) fn attend(cpu: &Cpu, work: &Work, partial: &mut Vec<f32>, out: &mut [f32]) {
    let Attention { heads, kv_heads, value_dim, .. } = *work.attention;
    let rows_together = (QUERIES / (heads / kv_heads)).max(1);
    let placed = &work.placed.rows;
    let blocks = placed.len().div_ceil(rows_together);
    let tasks = blocks * kv_heads;
    let parts = parts(cpu, work, tasks);
    let kept = if parts > 1 { parts * placed.len() * heads * (value_dim + 2) } else { 0 };
    if partial.len() < kept {
        partial.resize(kept, 0.0);
    }
    let (out, shared) = (Shares::new(out), Shares::new(&mut partial[..kept]));
    cpu.pool.for_chunks(tasks * parts, 1, &|_, range| {
        for task in range {
            let (task, part) = (task / parts, task % parts);
            // the last rows see most: they go first, so that no thread is left with a long one at the end
            let first = placed.start + (blocks - 1 - task / kv_heads) * rows_together;
            let rows = first..(first + rows_together).min(placed.end);
            let to = Target { part, parts, out: &out, partial: &shared };
            attend_rows(cpu, work, rows, task % kv_heads, &to);
        }
    });
    if parts > 1 {
        join_parts(cpu, work, parts, partial, &out);
    }
}

/// How many parts a KV head's pages are taken in, where rows and heads alone do not keep all threads busy.
fn parts(cpu: &Cpu, work: &Work, tasks: usize) -> usize {
    let threads = cpu.pool.threads();
    if threads == 1 || tasks >= 2 * threads || tasks == 0 {
        return 1;
    }
    let pages = work.seen(work.placed.rows.end - 1).len() / PAGE;
    (2 * threads).div_ceil(tasks).min(pages / LEAST_PAGES).max(1)
}

/// Where a task's results go.
struct Target<'a> {
    part: usize,
    parts: usize,
    out: &'a Shares<'a, f32>,
    /// `[parts][rows of the slice][heads][value dim + 2]`: weighted sum, largest score, sum of weights.
    partial: &'a Shares<'a, f32>,
}

impl Work<'_> {
    /// Positions that a row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        self.attention.seen(self.placed.position(row), self.placed.end())
    }
}

/// Some rows, all heads of one KV head.
fn attend_rows(cpu: &Cpu, work: &Work, rows: Range<usize>, kv_head: usize, to: &Target) {
    let group = work.attention.heads / work.attention.kv_heads;
    let mut pairs = [(0, 0); QUERIES];
    let mut count = 0;
    for row in rows.clone() {
        for head in kv_head * group..(kv_head + 1) * group {
            pairs[count] = (row, head);
            count += 1;
            let last = row + 1 == rows.end && head + 1 == (kv_head + 1) * group;
            if count == QUERIES || last {
                page_by_page(cpu, work, &pairs[..count], to);
                count = 0;
            }
        }
    }
}

/// Running softmax of one query: the largest score so far, and the sum of the weights relative to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    largest: f32,
    sum: f32,
}

impl Running {
    const NOTHING: Running = Running { largest: f32::NEG_INFINITY, sum: 0.0 };

    /// Factor on the weighted sum that makes it the average, the sink counted.
    fn factor(&self, sink: Option<f32>) -> f32 {
        let Running { largest, sum } = *self;
        match sink {
            None => 1.0 / sum,
            Some(sink) => {
                let top = largest.max(sink);
                (largest - top).exp() / (sum * (largest - top).exp() + (sink - top).exp())
            }
        }
    }
}

/// Up to [`QUERIES`] `(row, head)` pairs of one KV head.
fn page_by_page(cpu: &Cpu, work: &Work, pairs: &[(usize, usize)], to: &Target) {
    let Work { attention, kv, placed, queries, sinks } = *work;
    let Attention { heads, key_dim, value_dim, .. } = *attention;
    let mut query_of: [&[f32]; QUERIES] = [&[]; QUERIES];
    let mut out_of: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
    let mut running_of: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
    for (at, &(row, head)) in pairs.iter().enumerate() {
        query_of[at] = &queries[(row * heads + head) * key_dim..][..key_dim];
        if to.parts == 1 {
            let start = (row * heads + head) * value_dim;
            // SAFETY: every (row, head) belongs to one task.
            out_of[at] = unsafe { to.out.range(start..start + value_dim) };
        } else {
            let row = to.part * placed.rows.len() + row - placed.rows.start;
            let start = (row * heads + head) * (value_dim + 2);
            // SAFETY: every (part, row, head) belongs to one task.
            let kept = unsafe { to.partial.range(start..start + value_dim + 2) };
            (out_of[at], running_of[at]) = kept.split_at_mut(value_dim);
        }
        out_of[at].fill(0.0);
    }
    let kv_head = pairs[0].1 / (heads / attention.kv_heads);
    let (query_of, out_of) = (&query_of[..pairs.len()], &mut out_of[..pairs.len()]);

    let first_page = pairs.iter().map(|pair| work.seen(pair.0).start).min().unwrap_or(0) / PAGE;
    let end = pairs.iter().map(|pair| work.seen(pair.0).end).max().unwrap_or(0);
    let count = end.div_ceil(PAGE) - first_page;
    let pages = first_page + count * to.part / to.parts..first_page + count * (to.part + 1) / to.parts;
    let mut running = [Running::NOTHING; QUERIES];
    let mut scores: PageWeights = [[0.0; PAGE]; QUERIES];
    for page in pages.clone() {
        let (keys, values) = kv.tile(page, kv_head);
        cpu.kernels.page_scores(query_of, keys, values, &mut scores);
        for (at, &(row, _)) in pairs.iter().enumerate() {
            let seen = work.seen(row);
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
        if to.parts == 1 {
            cpu.kernels.scale(out_of[at], running[at].factor(sinks.get(head).copied()));
        } else {
            running_of[at].copy_from_slice(&[running[at].largest, running[at].sum]);
        }
    }
}

/// From the parts' sums to the slice's rows of `out`.
fn join_parts(cpu: &Cpu, work: &Work, parts: usize, partial: &[f32], out: &Shares<f32>) {
    let Attention { heads, value_dim, .. } = *work.attention;
    let rows = &work.placed.rows;
    let pairs = rows.len() * heads;
    cpu.pool.for_chunks(pairs, QUERIES, &|_, range| {
        for pair in range {
            let part = |part: usize| {
                let kept = &partial[(part * pairs + pair) * (value_dim + 2)..][..value_dim + 2];
                let (sums, running) = kept.split_at(value_dim);
                (sums, Running { largest: running[0], sum: running[1] })
            };
            let start = (rows.start * heads + pair) * value_dim;
            // SAFETY: every (row, head) belongs to one task.
            let out = unsafe { out.range(start..start + value_dim) };
            let largest = (0..parts).map(|at| part(at).1.largest).fold(f32::NEG_INFINITY, f32::max);
            let mut joined = Running { largest, sum: 0.0 };
            out.fill(0.0);
            for (sums, running) in (0..parts).map(part) {
                let share = (running.largest - largest).exp();
                joined.sum += share * running.sum;
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out += share * sum);
            }
            cpu.kernels.scale(out, joined.factor(work.sinks.get(pair % heads).copied()));
        }
    });
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
