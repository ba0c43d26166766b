//! The expanded form (see [`super`]): keys and values of each head are made of the cached rows, and attended to as in
//! plain multi-head attention.
//!
//! A task takes a head and many rows of the step and walks the pages: of 64 positions it makes the keys and values, in
//! the layout of the page kernels, and takes all its rows past them before it makes the next ones. So they are made once
//! for all rows, and lie in memory for 64 positions only, whatever the context.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::Work;
use super::softmax::{Running, weigh};
use super::tile::Tile;
use crate::Cpu;
use crate::kernels::{Kernels, PAGE, PageWeights, QUERIES};
use crate::pool::Shares;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ingle_model::spec::LatentAttention;
use std::cell::RefCell;
use std::ops::Range;

/// Least rows of a task: below, keys and values would be made for too few.
const LEAST_ROWS: usize = 64;

/// Memory of a thread.
#[derive(Default)]
struct Scratch {
    tile: Tile,
    /// A head's `K`, `[nope, whole pages][rank]`.
    key_up: Vec<f32>,
    /// `[nope + rope][64]`
    keys: Vec<f16>,
    /// `[64][value, whole pages]`
    wide_values: Vec<f32>,
    /// `[64][value]`
    values: Vec<f16>,
    running: Vec<Running>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attention of some rows of the slice, all of them dense; `out` is `[rows of the step, heads * value]`.
pub(crate) fn attend(cpu: &Cpu, work: &Work, rows: Range<usize>, out: &mut [f32]) {
    let heads = work.spec.heads;
    if rows.is_empty() {
        return;
    }
    // few heads share their rows among several tasks
    let wanted = (2 * cpu.pool.threads()).div_ceil(heads);
    let each = rows.len().div_ceil(wanted).max(LEAST_ROWS);
    let blocks = rows.len().div_ceil(each);
    let shares = Shares::new(out);
    cpu.pool.for_chunks(blocks * heads, 1, &|_, tasks| {
        for task in tasks {
            // the last rows see most and go first
            let first = rows.start + (blocks - 1 - task / heads) * each;
            let rows = first..rows.end.min(first + each);
            SCRATCH.with_borrow_mut(|scratch| run_task(cpu, work, rows, task % heads, scratch, &shares));
        }
    });
}

/// Some rows of one head.
fn run_task(
    cpu: &Cpu,
    work: &Work,
    rows: Range<usize>,
    head: usize,
    scratch: &mut Scratch,
    out: &Shares<f32>,
) {
    let LatentAttention { heads, kv_rank, value_dim, scale, .. } = *work.spec;
    let Scratch { tile, key_up, keys, wide_values, values, running } = scratch;
    // SAFETY: every (row, head) belongs to one task, which has one call of this in use at a time.
    let out_of = |row: usize| unsafe {
        out.range((row * heads + head) * value_dim..(row * heads + head + 1) * value_dim)
    };
    let key_rows = work.up.keys(head);
    key_up.resize(key_rows.len(), 0.0);
    key_rows.convert_to_f32_slice(key_up);
    running.clear();
    running.resize(rows.len(), Running::NOTHING);
    rows.clone().for_each(|row| out_of(row).fill(0.0));

    let end = work.placed.position(rows.end - 1) + 1;
    let mut scores: PageWeights = [[0.0; PAGE]; QUERIES];
    for page in 0..end.div_ceil(PAGE) {
        let places = page * PAGE..end.min((page + 1) * PAGE);
        let mut cached: [&[f16]; PAGE] = [&[]; PAGE];
        cached.iter_mut().zip(places.clone()).for_each(|(row, position)| *row = work.kv.row(position));
        tile.fill(&cached[..places.len()], kv_rank);
        make_keys(cpu.kernels, work.spec, tile, key_up, keys);
        make_values(cpu.kernels, work, head, tile, wide_values, values);
        // rows before this page see nothing of it
        let first =
            rows.start + (places.start.saturating_sub(work.placed.position(rows.start))).min(rows.len());
        for first in (first..rows.end).step_by(QUERIES) {
            let together = QUERIES.min(rows.end - first);
            let mut from: [&[f32]; QUERIES] = [&[]; QUERIES];
            let mut to: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
            for at in 0..together {
                (from[at], to[at]) = (work.query(first + at, head), out_of(first + at));
            }
            let to = &mut to[..together];
            cpu.kernels.page_scores(&from[..together], keys, &[], &mut scores);
            for at in 0..together {
                let seen = (work.placed.position(first + at) + 1).min(places.end) - places.start;
                let running = &mut running[first + at - rows.start];
                weigh(cpu, scale, &mut scores[at], 0..seen, running, to[at]);
            }
            cpu.kernels.page_accumulate(&scores, values, places.len(), &[], to);
        }
    }
    for (row, running) in rows.zip(running) {
        cpu.kernels.scale(out_of(row), 1.0 / running.sum);
    }
}

/// Keys `[K c | k]` of the tile's positions.
fn make_keys(kernels: &Kernels, spec: &LatentAttention, tile: &Tile, key_up: &[f32], keys: &mut Vec<f16>) {
    let LatentAttention { kv_rank, nope_dim, rope_dim, .. } = *spec;
    keys.resize((nope_dim + rope_dim) * PAGE, f16::ZERO);
    let (latents, turned) = tile.keys.split_at(kv_rank * PAGE);
    let (made, shared) = keys.split_at_mut(nope_dim * PAGE);
    shared.copy_from_slice(turned);
    let mut products: PageWeights = [[0.0; PAGE]; QUERIES];
    for (made, up) in made.chunks_mut(QUERIES * PAGE).zip(key_up.chunks(QUERIES * kv_rank)) {
        let mut from: [&[f32]; QUERIES] = [&[]; QUERIES];
        let count = made.len() / PAGE;
        from.iter_mut().zip(up.chunks_exact(kv_rank)).for_each(|(from, row)| *from = row);
        kernels.page_scores(&from[..count], latents, &[], &mut products);
        kernels.to_f16(&products.as_flattened()[..made.len()], made);
    }
}

/// Values `V c` of the tile's positions.
fn make_values(
    kernels: &Kernels,
    work: &Work,
    head: usize,
    tile: &Tile,
    wide: &mut Vec<f32>,
    values: &mut Vec<f16>,
) {
    let LatentAttention { kv_rank, value_dim, .. } = *work.spec;
    let width = value_dim.next_multiple_of(PAGE);
    wide.resize(PAGE * width, 0.0);
    wide.fill(0.0);
    let mut latents: PageWeights = [[0.0; PAGE]; QUERIES];
    for (group, wide) in wide.chunks_exact_mut(QUERIES * width).enumerate() {
        for from in (0..kv_rank).step_by(PAGE) {
            let count = PAGE.min(kv_rank - from);
            for (at, latents) in latents.iter_mut().enumerate() {
                let row = &tile.values[(group * QUERIES + at) * kv_rank..][..kv_rank];
                row[from..from + count].convert_to_f32_slice(&mut latents[..count]);
            }
            for outputs in 0..width / PAGE {
                let up = &work.up.value_tile(head, outputs)[from * PAGE..][..PAGE * PAGE];
                let mut to: [&mut [f32]; QUERIES] = std::array::from_fn(|_| &mut [][..]);
                for (to, row) in to.iter_mut().zip(wide.chunks_exact_mut(width)) {
                    *to = &mut row[outputs * PAGE..(outputs + 1) * PAGE];
                }
                kernels.page_accumulate(&latents, up, count, &[], &mut to);
            }
        }
    }
    values.resize(PAGE * value_dim, f16::ZERO);
    for (wide, values) in wide.chunks_exact(width).zip(values.chunks_exact_mut(value_dim)) {
        kernels.to_f16(&wide[..value_dim], values);
    }
}
