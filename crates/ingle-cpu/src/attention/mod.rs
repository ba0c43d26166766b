//! Grouped-query attention over the paged cache, with online softmax: one pass over a KV head's pages serves all its
//! query heads and several rows. Pages outside a row's window are never read.
//!
//! Queries become 16-bit integers, as the cache's rows are (see `cache`), and both products are made of integers: keys
//! and values of a page are used as they lie in memory, by up to [`TOGETHER`] queries while they are in the processor's
//! own cache.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

pub(crate) mod cache;
pub(crate) mod latent;
pub(crate) mod select;
#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::kernels::{PAGE, RowLimits, Softmax};
use crate::pool::Shares;
use crate::sequences::Placed;
use cache::{LayerKv, Part};
use ingle_model::spec::Attention;
use std::cell::RefCell;
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

/// Most queries, heads of rows, that go over a page together: so many that reading it costs little, so few that all they
/// need lies in the processor's own cache.
const TOGETHER: usize = 32;
/// Pages whose weighted sums are joined to those before them.
const PAGES_OF_A_PART: usize = 8;

/// Memory of a thread.
#[derive(Default)]
struct Scratch {
    /// `[queries][key width]`
    queries: Vec<i16>,
    rows: Vec<Softmax>,
    dots: Vec<[i32; PAGE]>,
    weights: Vec<[i16; PAGE]>,
    /// `[queries][value dim]`
    sums: Vec<f32>,
    /// What the parts before have summed, likewise.
    joined: Vec<Total>,
    joined_sums: Vec<f32>,
    /// A page's keys and its values, where they have to be widened.
    keys: Vec<i16>,
    values: Vec<i16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory to reuse.
#[derive(Default)]
pub(crate) struct Shared {
    plans: Vec<Plan>,
    /// Per plan `[parts][rows of the slice][heads][value dim + 2]`: weighted sum, largest score, sum of weights.
    partial: Vec<f32>,
}

/// How the attention of a slice is divided into tasks.
struct Plan {
    /// Tasks of the slices before it.
    first_task: usize,
    /// Rows of a block, all of whose heads go over a page together.
    rows_together: usize,
    blocks: usize,
    heads_together: usize,
    head_ranges: usize,
    /// Parts that tasks of their own take; 1 where a task takes all.
    spread: usize,
    /// Where its partial sums begin, and how many numbers they are.
    kept: Range<usize>,
}

impl Plan {
    /// Many rows are work for all threads, a KV head at a time, whose pages stay in cache. Few rows wait for memory, which
    /// is fastest when it is read in order, all heads of a page one after the other: threads share the parts and slices,
    /// and the heads only where there are too few of these.
    fn of(cpu: &Cpu, work: &Work, slices: usize, before: Option<&Plan>) -> Plan {
        let Attention { heads, kv_heads, value_dim, .. } = *work.attention;
        let rows = work.placed.rows.clone();
        let rows_together = (TOGETHER / (heads / kv_heads)).max(1);
        let blocks = rows.len().div_ceil(rows_together);
        let spread = if blocks == 1 { work.parts(rows.clone()).len().max(1) } else { 1 };
        let heads_together = match (blocks, cpu.pool.threads()) {
            (1, 1) => kv_heads,
            (1, threads) => (kv_heads * spread * slices / (2 * threads)).clamp(1, kv_heads),
            _ => 1,
        };
        let numbers = if spread > 1 { spread * rows.len() * heads * (value_dim + 2) } else { 0 };
        let start = before.map_or(0, |plan| plan.kept.end);
        Plan {
            first_task: before.map_or(0, |plan| plan.first_task + plan.tasks()),
            rows_together,
            blocks,
            heads_together,
            head_ranges: kv_heads.div_ceil(heads_together),
            spread,
            kept: start..start + numbers,
        }
    }

    fn tasks(&self) -> usize {
        self.blocks * self.head_ranges * self.spread
    }

    /// The queries of a task, and which part is its own where they are spread.
    fn task(&self, task: usize, work: &Work) -> (Queries, usize) {
        let (task, part) = (task / self.spread, task % self.spread);
        let placed = &work.placed.rows;
        // the last rows see most: they go first, so that no thread is left with a long one at the end
        let first = placed.start + (self.blocks - 1 - task / self.head_ranges) * self.rows_together;
        let head = task % self.head_ranges * self.heads_together;
        let kv_heads = head..(head + self.heads_together).min(work.attention.kv_heads);
        (Queries { rows: first..(first + self.rows_together).min(placed.end), kv_heads }, part)
    }
}

/// `out[row][head] = softmax(scale * q . k) v` for the rows of so many slices in `out`, `[rows, heads * value dim]`, all of
/// them in one region.
///
/// Pages are taken in parts of [`PAGES_OF_A_PART`], counted from the sequence's beginning, each with sums of its own that
/// are joined one after the other, whether one thread or several have made them: a row's result is the same in every bit
/// with any number of threads and of rows beside it.
pub(crate) fn attend<'a>(
    cpu: &Cpu,
    slices: usize,
    work: &(dyn Fn(usize) -> Work<'a> + Sync),
    shared: &mut Shared,
    out: &mut [f32],
) {
    let Shared { plans, partial } = shared;
    plans.clear();
    for slice in 0..slices {
        plans.push(Plan::of(cpu, &work(slice), slices, plans.last()));
    }
    let Some(last) = plans.last() else { return };
    let (tasks, kept) = (last.first_task + last.tasks(), last.kept.end);
    if partial.len() < kept {
        partial.resize(kept, 0.0);
    }
    let (out, sums) = (Shares::new(out), Shares::new(&mut partial[..kept]));
    let plans = &*plans;
    cpu.pool.for_chunks(tasks, 1, &|_, range| {
        SCRATCH.with_borrow_mut(|scratch| {
            for task in range {
                let slice = plans.partition_point(|plan| plan.first_task <= task) - 1;
                let (plan, work) = (&plans[slice], work(slice));
                let (queries, part) = plan.task(task - plan.first_task, &work);
                scratch.begin(cpu, &work, &queries);
                if plan.spread > 1 {
                    let own = work.parts(work.placed.rows.clone()).start + part;
                    page_by_page(cpu, &work, &queries, own..own + 1, scratch);
                    scratch.keep(&work, &queries, plan.kept.start, part, &sums);
                } else {
                    page_by_page(cpu, &work, &queries, work.parts(queries.rows.clone()), scratch);
                    scratch.finish(cpu, &work, &queries, &out);
                }
            }
        });
    });
    for (slice, plan) in plans.iter().enumerate().filter(|(_, plan)| plan.spread > 1) {
        join_parts(cpu, &work(slice), plan.spread, &partial[plan.kept.clone()], &out);
    }
}

impl Work<'_> {
    /// Positions that a row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        self.attention.seen(self.placed.position(row), self.placed.end())
    }

    /// Positions that some rows see: the pages from the first to the last of them.
    fn pages(&self, rows: Range<usize>) -> Range<usize> {
        let ranges = || rows.clone().map(|row| self.seen(row));
        let first = ranges().map(|seen| seen.start).min().unwrap_or(0);
        first / PAGE..ranges().map(|seen| seen.end).max().unwrap_or(0).div_ceil(PAGE)
    }

    /// The parts in which these pages lie.
    fn parts(&self, rows: Range<usize>) -> Range<usize> {
        let pages = self.pages(rows);
        pages.start / PAGES_OF_A_PART..pages.end.div_ceil(PAGES_OF_A_PART)
    }
}

/// Some rows, all heads of some KV heads.
struct Queries {
    rows: Range<usize>,
    kv_heads: Range<usize>,
}

impl Queries {
    /// `(row, head)` of each query, KV head by KV head, of which each has as many as any.
    fn pairs(&self, attention: &Attention) -> impl Iterator<Item = (usize, usize)> {
        let group = attention.heads / attention.kv_heads;
        let rows = self.rows.clone();
        self.kv_heads.clone().flat_map(move |kv_head| {
            rows.clone().flat_map(move |row| (0..group).map(move |head| (row, kv_head * group + head)))
        })
    }

    /// Queries of a KV head.
    fn of_a_head(&self, attention: &Attention) -> usize {
        self.rows.len() * (attention.heads / attention.kv_heads)
    }
}

/// One pass over the pages of some parts, in each of which the KV heads follow one after the other as they lie in memory.
/// The parts' sums are joined where there are several.
fn page_by_page(cpu: &Cpu, work: &Work, queries: &Queries, parts: Range<usize>, scratch: &mut Scratch) {
    let Work { attention, kv, .. } = *work;
    let all = work.pages(queries.rows.clone());
    let end = queries.rows.clone().map(|row| work.seen(row).end).max().unwrap_or(0);
    let of_a_head = queries.of_a_head(attention);
    if parts.len() > 1 {
        scratch.joined.clear();
        scratch.joined.resize(scratch.rows.len(), Total::NOTHING);
        scratch.joined_sums.resize(scratch.sums.len(), 0.0);
    }
    for part in parts.clone() {
        let own = part * PAGES_OF_A_PART..(part + 1) * PAGES_OF_A_PART;
        let pages = all.start.max(own.start)..all.end.min(own.end);
        for page in pages.clone() {
            for (softmax, (row, _)) in scratch.rows.iter_mut().zip(queries.pairs(attention)) {
                let seen = work.seen(row);
                let inside = |position: usize| position.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
                softmax.seen = inside(seen.start)..inside(seen.end);
            }
            let positions = (end - page * PAGE).min(PAGE);
            for (at, kv_head) in queries.kv_heads.clone().enumerate() {
                let next = match (kv_head + 1 < queries.kv_heads.end, page + 1 < pages.end) {
                    (true, _) => Some(kv.part(page, kv_head + 1)),
                    (false, true) => Some(kv.part(page + 1, queries.kv_heads.start)),
                    (false, false) => None,
                };
                let all = at * of_a_head..(at + 1) * of_a_head;
                for first in all.clone().step_by(TOGETHER) {
                    let some = first..all.end.min(first + TOGETHER);
                    scratch.meet(cpu, attention.soft_cap, some, kv.part(page, kv_head), positions, next);
                }
            }
        }
        if parts.len() > 1 {
            scratch.join(cpu);
        }
    }
    if parts.len() > 1 {
        scratch.take_joined();
    }
}

/// Joins the weighted sum of a part to that of those before it.
fn join(cpu: &Cpu, before: &mut Total, sums: &mut [f32], part: Total, part_sums: &[f32]) {
    if part.sum == 0.0 {
        return; // nothing of it is seen
    }
    if before.sum == 0.0 {
        *before = part;
        sums.copy_from_slice(part_sums);
        return;
    }
    let largest = before.largest.max(part.largest);
    let (kept, share) = ((before.largest - largest).exp2(), (part.largest - largest).exp2());
    cpu.kernels.scale(sums, kept);
    cpu.kernels.axpy(share, part_sums, sums);
    *before = Total { largest, sum: before.sum * kept + part.sum * share };
}

impl Scratch {
    /// Queries as integers, nothing summed.
    fn begin(&mut self, cpu: &Cpu, work: &Work, queries: &Queries) {
        let Attention { heads, key_dim, value_dim, scale, .. } = *work.attention;
        let width = work.kv.shape.key_width();
        let count = queries.of_a_head(work.attention) * queries.kv_heads.len();
        self.queries.resize(count * width, 0);
        self.rows.clear();
        for ((row, head), query) in queries.pairs(work.attention).zip(self.queries.chunks_exact_mut(width)) {
            let from = &work.queries[(row * heads + head) * key_dim..][..key_dim];
            query[key_dim..].fill(0);
            let query_scale = cpu.kernels.to_words(from, RowLimits::KEY, &mut query[..key_dim]);
            self.rows.push(Softmax::new(query_scale * scale));
        }
        self.dots.resize(count.min(TOGETHER), [0; PAGE]);
        self.weights.resize(count.min(TOGETHER), [0; PAGE]);
        self.sums.clear();
        self.sums.resize(count * value_dim, 0.0);
        self.keys.resize(width * PAGE, 0);
        self.values.resize(value_dim * PAGE, 0);
    }

    /// Some queries of a KV head, at most [`TOGETHER`], and its rows of a page, of which the first `positions` are seen.
    fn meet(
        &mut self,
        cpu: &Cpu,
        soft_cap: Option<f32>,
        some: Range<usize>,
        part: Part,
        positions: usize,
        next: Option<Part>,
    ) {
        let kernels = cpu.kernels;
        let (width, value_dim) = (self.keys.len() / PAGE, self.values.len() / PAGE);
        let queries = &self.queries[some.start * width..some.end * width];
        let sums = &mut self.sums[some.start * value_dim..some.end * value_dim];
        let (dots, weights) = (&mut self.dots[..some.len()], &mut self.weights[..some.len()]);
        let rows = &mut self.rows[some];
        let (key_scales, value_scales) = part.scales();
        let (keys, ahead) = part.keys(kernels, &mut self.keys);
        kernels.dots(queries, keys, ahead, dots);
        kernels.weigh(dots, key_scales, value_scales, soft_cap, rows, weights);
        let (values, ahead) = part.values(kernels, positions, next, &mut self.values);
        kernels.sum_values(weights, rows, values, positions, ahead, sums);
    }

    /// Joins what was summed to the parts before and begins another.
    fn join(&mut self, cpu: &Cpu) {
        let value_dim = self.values.len() / PAGE;
        let before = self.joined.iter_mut().zip(self.joined_sums.chunks_exact_mut(value_dim));
        let part = self.rows.iter_mut().zip(self.sums.chunks_exact(value_dim));
        for ((total, sums), (softmax, part_sums)) in before.zip(part) {
            join(cpu, total, sums, Total::of(softmax), part_sums);
            (softmax.largest, softmax.sum) = (Total::NOTHING.largest, Total::NOTHING.sum);
        }
        self.sums.fill(0.0);
    }

    /// Makes what was joined the result.
    fn take_joined(&mut self) {
        std::mem::swap(&mut self.sums, &mut self.joined_sums);
        for (softmax, total) in self.rows.iter_mut().zip(&self.joined) {
            (softmax.largest, softmax.sum) = (total.largest, total.sum);
        }
    }

    /// Each query with its sums.
    fn results(
        &self,
        work: &Work,
        queries: &Queries,
    ) -> impl Iterator<Item = ((usize, usize), Total, &[f32])> {
        let totals = self.rows.iter().map(Total::of);
        let sums = self.sums.chunks_exact(work.attention.value_dim);
        queries.pairs(work.attention).zip(totals).zip(sums).map(|((pair, total), sums)| (pair, total, sums))
    }

    /// Averages to where they go.
    fn finish(&self, cpu: &Cpu, work: &Work, queries: &Queries, out: &Shares<f32>) {
        let Attention { heads, value_dim, .. } = *work.attention;
        for ((row, head), total, sums) in self.results(work, queries) {
            let start = (row * heads + head) * value_dim;
            // SAFETY: every (row, head) belongs to one task.
            let out = unsafe { out.range(start..start + value_dim) };
            out.copy_from_slice(sums);
            cpu.kernels.scale(out, average(total, work.sinks.get(head).copied()));
        }
    }

    /// Keeps the sums of a part among those of its slice, which begin at `first`.
    fn keep(&self, work: &Work, queries: &Queries, first: usize, part: usize, partial: &Shares<f32>) {
        let Attention { heads, value_dim, .. } = *work.attention;
        let placed = &work.placed.rows;
        for ((row, head), total, sums) in self.results(work, queries) {
            let start = first + ((part * placed.len() + row - placed.start) * heads + head) * (value_dim + 2);
            // SAFETY: every (part, row, head) belongs to one task.
            let kept = unsafe { partial.range(start..start + value_dim + 2) };
            kept[..value_dim].copy_from_slice(sums);
            kept[value_dim..].copy_from_slice(&[total.largest, total.sum]);
        }
    }
}

/// What belongs to a weighted sum, as in [`Softmax`].
#[derive(Clone, Copy)]
struct Total {
    /// Largest score, in powers of two.
    largest: f32,
    /// Sum of the weights.
    sum: f32,
}

impl Total {
    const NOTHING: Total = Total { largest: f32::NEG_INFINITY, sum: 0.0 };

    fn of(softmax: &Softmax) -> Total {
        Total { largest: softmax.largest, sum: softmax.sum }
    }
}

/// Factor on a weighted sum that makes it the average, the sink counted.
fn average(Total { largest, sum }: Total, sink: Option<f32>) -> f32 {
    match sink.map(|sink| sink * std::f32::consts::LOG2_E) {
        None => 1.0 / sum,
        Some(sink) => {
            let top = largest.max(sink);
            (largest - top).exp2() / (sum * (largest - top).exp2() + (sink - top).exp2())
        }
    }
}

/// From the parts' sums to the slice's rows of `out`.
fn join_parts(cpu: &Cpu, work: &Work, parts: usize, partial: &[f32], out: &Shares<f32>) {
    let Attention { heads, value_dim, .. } = *work.attention;
    let rows = &work.placed.rows;
    let pairs = rows.len() * heads;
    cpu.pool.for_chunks(pairs, TOGETHER, &|_, range| {
        for pair in range {
            let start = (rows.start * heads + pair) * value_dim;
            // SAFETY: every (row, head) belongs to one task.
            let out = unsafe { out.range(start..start + value_dim) };
            out.fill(0.0);
            let mut total = Total::NOTHING;
            for part in 0..parts {
                let kept = &partial[(part * pairs + pair) * (value_dim + 2)..][..value_dim + 2];
                let of_part = Total { largest: kept[value_dim], sum: kept[value_dim + 1] };
                join(cpu, &mut total, out, of_part, &kept[..value_dim]);
            }
            cpu.kernels.scale(out, average(total, work.sinks.get(pair % heads).copied()));
        }
    });
}
