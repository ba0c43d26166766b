//! The absorbed form (see [`super`]): queries in latent space against the cached rows themselves.
//!
//! A task takes some rows of the step, up to 64 of their heads, and some of the positions they see, 64 at a time: the
//! positions' cached rows are gathered once, in the layout of the page kernels, for all queries of the task. Where there
//! are few rows, their positions are split over tasks, each with a running softmax of its own, and the parts are put
//! together by the pass that applies `V`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::Work;
use super::softmax::{Running, weigh};
use super::tile::Tile;
use crate::Cpu;
use crate::kernels::{PAGE, PageWeights, QUERIES};
use crate::pool::Shares;
use half::f16;
use ingle_model::spec::LatentAttention;
use std::cell::RefCell;
use std::ops::Range;

/// Most queries, heads of rows, that share a gathered tile.
const TOGETHER: usize = 64;
/// Rows taken through all passes at once: bounds the memory of what lies between the passes.
const ROWS: usize = 64;
/// Tasks that keep many threads busy evenly.
const TASKS: usize = 32;
/// Least pages of a task, so that putting parts together costs little.
const LEAST_PAGES: usize = 4;

/// Memory between the passes, reused.
#[derive(Default)]
pub(crate) struct Scratch {
    /// `[rows, heads, rank + rope]`
    queries: Vec<f32>,
    blocks: Vec<Block>,
    tasks: Vec<Task>,
    /// `[tasks, 64, rank]`
    sums: Vec<f32>,
    /// `[tasks, 64]`
    running: Vec<Running>,
}

/// Rows that see the same positions, or the first ones of them.
struct Block {
    rows: Range<usize>,
    first_task: usize,
    splits: usize,
}

/// Queries `rows x heads` against `pages` of the block's positions.
struct Task {
    rows: Range<usize>,
    heads: Range<usize>,
    pages: Range<usize>,
}

thread_local! {
    static TILE: RefCell<Tile> = RefCell::default();
    /// Latents of one head, `[16][rank]`.
    static LATENTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Attention of some rows of the slice; `out` is `[rows of the step, heads * value]`.
pub(crate) fn attend(cpu: &Cpu, work: &Work, rows: Range<usize>, scratch: &mut Scratch, out: &mut [f32]) {
    for first in rows.clone().step_by(ROWS) {
        let rows = first..rows.end.min(first + ROWS);
        absorb(cpu, work, &rows, &mut scratch.queries);
        plan(work, &rows, scratch);
        sum_values(cpu, work, &rows, scratch);
        raise(cpu, work, scratch, out);
    }
}

/// Queries into latent space.
fn absorb(cpu: &Cpu, work: &Work, rows: &Range<usize>, queries: &mut Vec<f32>) {
    let LatentAttention { heads, kv_rank, nope_dim, rope_dim, .. } = *work.spec;
    let width = kv_rank + rope_dim;
    queries.resize(rows.len() * heads * width, 0.0);
    let shares = Shares::new(queries);
    cpu.pool.for_shares(heads, 1, &|_, range| {
        for head in range {
            for first in rows.clone().step_by(QUERIES) {
                let count = QUERIES.min(rows.end - first);
                let mut from: [&[f32]; QUERIES] = [&[]; QUERIES];
                let mut to: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
                for (at, row) in (first..first + count).enumerate() {
                    let start = ((row - rows.start) * heads + head) * width;
                    // SAFETY: each head belongs to one task.
                    let query = unsafe { shares.range(start..start + width) };
                    let (latent, rope) = query.split_at_mut(kv_rank);
                    let (nope, turned) = work.query(row, head).split_at(nope_dim);
                    rope.copy_from_slice(turned);
                    (from[at], to[at]) = (nope, latent);
                }
                work.up.absorb(cpu.kernels, head, &from[..count], &mut to[..count]);
            }
        }
    });
}

/// Cuts the rows into blocks and the blocks into tasks.
fn plan(work: &Work, rows: &Range<usize>, scratch: &mut Scratch) {
    let heads = work.spec.heads;
    let Scratch { blocks, tasks, .. } = scratch;
    blocks.clear();
    tasks.clear();
    let rows_together = (TOGETHER / heads).max(1);
    let mut row = rows.start;
    while row < rows.end {
        let dense = |row: usize| work.chosen(row).is_none();
        let end = rows.end.min(row + rows_together);
        let end = if dense(row) { (row..end).find(|&row| !dense(row)).unwrap_or(end) } else { row + 1 };
        blocks.push(Block { rows: row..end, first_task: 0, splits: 1 });
        row = end;
    }
    let head_blocks = heads.div_ceil(TOGETHER);
    let wanted = TASKS.div_ceil(blocks.len() * head_blocks);
    for block in blocks {
        let pages = positions(work, block.rows.end - 1).div_ceil(PAGE);
        let each = pages.div_ceil(wanted).max(LEAST_PAGES);
        (block.first_task, block.splits) = (tasks.len(), pages.div_ceil(each));
        for first in (0..heads).step_by(TOGETHER) {
            let heads = first..heads.min(first + TOGETHER);
            tasks.extend((0..pages).step_by(each).map(|page| Task {
                rows: block.rows.clone(),
                heads: heads.clone(),
                pages: page..pages.min(page + each),
            }));
        }
    }
}

/// Positions a row attends to.
fn positions(work: &Work, row: usize) -> usize {
    work.chosen(row).map_or(work.placed.position(row) + 1, <[u32]>::len)
}

/// Runs the tasks: sums of latents, weighted relative to the largest score of the task.
fn sum_values(cpu: &Cpu, work: &Work, rows: &Range<usize>, scratch: &mut Scratch) {
    let rank = work.spec.kv_rank;
    let Scratch { queries, tasks, sums, running, .. } = scratch;
    sums.resize(tasks.len() * TOGETHER * rank, 0.0);
    running.resize(tasks.len() * TOGETHER, Running::NOTHING);
    let (sums, running) = (Shares::new(sums), Shares::new(running));
    let (queries, tasks) = (&*queries, &*tasks);
    cpu.pool.for_chunks(tasks.len(), 1, &|_, range| {
        for at in range {
            // the last rows see most: they go first, so that no thread is left with a long one at the end
            let at = tasks.len() - 1 - at;
            // SAFETY: each task has its own places.
            let (sums, running) = unsafe {
                (
                    sums.range(at * TOGETHER * rank..(at + 1) * TOGETHER * rank),
                    running.range(at * TOGETHER..(at + 1) * TOGETHER),
                )
            };
            TILE.with_borrow_mut(|tile| {
                run_task(cpu, work, &tasks[at], rows.start, queries, tile, sums, running);
            });
        }
    });
}

#[allow(clippy::too_many_arguments)] // a task's work and its memory
fn run_task(
    cpu: &Cpu,
    work: &Work,
    task: &Task,
    first_row: usize,
    queries: &[f32],
    tile: &mut Tile,
    sums: &mut [f32],
    running: &mut [Running],
) {
    let LatentAttention { heads, kv_rank, rope_dim, scale, .. } = *work.spec;
    let width = kv_rank + rope_dim;
    let count = task.rows.len() * task.heads.len();
    let row_of = |query: usize| task.rows.start + query / task.heads.len();
    let query_of = |query: usize| {
        let head = task.heads.start + query % task.heads.len();
        &queries[((row_of(query) - first_row) * heads + head) * width..][..width]
    };
    sums[..count * kv_rank].fill(0.0);
    running[..count].fill(Running::NOTHING);
    let last = task.rows.end - 1;
    let all = positions(work, last);
    let chosen = work.chosen(last);
    let mut scores: PageWeights = [[0.0; PAGE]; QUERIES];
    let mut rows: [&[f16]; PAGE] = [&[]; PAGE];
    for page in task.pages.clone() {
        let places = page * PAGE..all.min((page + 1) * PAGE);
        let here = places.len();
        for (row, place) in rows.iter_mut().zip(places.clone()) {
            *row = work.kv.row(chosen.map_or(place, |chosen| chosen[place] as usize));
        }
        tile.fill(&rows[..here], kv_rank);
        let groups = sums[..count * kv_rank].chunks_mut(QUERIES * kv_rank);
        for (group, sums) in groups.enumerate() {
            let first = group * QUERIES;
            let together = QUERIES.min(count - first);
            let mut from: [&[f32]; QUERIES] = [&[]; QUERIES];
            let mut to: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
            for (at, sums) in sums.chunks_exact_mut(kv_rank).enumerate() {
                (from[at], to[at]) = (query_of(first + at), sums);
            }
            let to = &mut to[..together];
            cpu.kernels.page_scores(&from[..together], &tile.keys, &[], &mut scores);
            for at in 0..together {
                let seen = match chosen {
                    Some(_) => here,
                    None => {
                        (work.placed.position(row_of(first + at)) + 1).clamp(places.start, places.end)
                            - places.start
                    }
                };
                weigh(cpu, scale, &mut scores[at], 0..seen, &mut running[first + at], to[at]);
            }
            cpu.kernels.page_accumulate(&scores, &tile.values, here, &[], to);
        }
    }
}

/// Puts the parts of each query together and applies `V`.
fn raise(cpu: &Cpu, work: &Work, scratch: &Scratch, out: &mut [f32]) {
    let LatentAttention { heads, kv_rank, value_dim, .. } = *work.spec;
    let Scratch { blocks, sums, running, .. } = scratch;
    let shares = Shares::new(out);
    cpu.pool.for_shares(heads, 1, &|_, range| {
        LATENTS.with_borrow_mut(|latents| {
            latents.resize(QUERIES * kv_rank, 0.0);
            for head in range {
                let mut rows =
                    blocks.iter().flat_map(|block| block.rows.clone().map(move |row| (block, row)));
                loop {
                    let mut to: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
                    let mut count = 0;
                    for (latent, (block, row)) in latents.chunks_exact_mut(kv_rank).zip(&mut rows) {
                        let parts = parts(block, row, head, heads);
                        merge(kv_rank, sums, running, parts, latent);
                        let start = (row * heads + head) * value_dim;
                        // SAFETY: each head belongs to one task.
                        to[count] = unsafe { shares.range(start..start + value_dim) };
                        count += 1;
                    }
                    if count == 0 {
                        break;
                    }
                    let mut from: [&[f32]; QUERIES] = [&[]; QUERIES];
                    from.iter_mut()
                        .zip(latents.chunks_exact(kv_rank))
                        .for_each(|(from, latent)| *from = latent);
                    work.up.raise(cpu.kernels, head, &from[..count], &mut to[..count]);
                }
            }
        });
    });
}

/// Places, in units of a query, where a block's tasks left their parts of one query.
fn parts(block: &Block, row: usize, head: usize, heads: usize) -> impl Iterator<Item = usize> + Clone {
    let (head_block, head) = (head / TOGETHER, head % TOGETHER);
    let width = TOGETHER.min(heads - head_block * TOGETHER);
    let first = block.first_task + head_block * block.splits;
    let query = (row - block.rows.start) * width + head;
    (first..first + block.splits).map(move |task| task * TOGETHER + query)
}

/// The weighted mean of latents from its parts.
fn merge(
    rank: usize,
    sums: &[f32],
    running: &[Running],
    parts: impl Iterator<Item = usize> + Clone,
    out: &mut [f32],
) {
    let largest = parts.clone().map(|part| running[part].largest).fold(f32::NEG_INFINITY, f32::max);
    let share = |part: usize| (running[part].largest - largest).exp();
    let all: f32 = parts.clone().map(|part| running[part].sum * share(part)).sum();
    out.fill(0.0);
    for part in parts {
        let factor = share(part) / all;
        for (out, sum) in out.iter_mut().zip(&sums[part * rank..][..rank]) {
            *out += factor * sum;
        }
    }
}
