//! The gated delta net between its projections (Gated DeltaNet, arXiv:2412.06464):
//!
//! ```text
//! y_t = silu(sum_i w_i * in_{t - taps + 1 + i})        per channel of [all q | all k | all v]
//! q, k = x / sqrt(sum x^2 + 1e-6) per head, q also / sqrt(key_dim)
//! S = decay S;  S = S + k (beta (v - S^T k))^T;  o = S^T q        per value head
//! ```
//!
//! Positions follow each other; what runs in parallel are channels, and panels of a state's columns, which never meet.
//! So a panel stays in its core's first-level cache for all rows of a step.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

pub(crate) mod state;

use crate::Cpu;
use crate::kernels::{DELTA_PANEL, DeltaGates, Strided};
use crate::pool::Shares;
use ingle_model::spec::{GatedDeltaNet, ValueHeadOrder};
use state::{Changing, DeltaShape};
use std::ops::Range;

/// Added to the sum of squares of a query or key head.
const L2_EPSILON: f32 = 1e-6;
/// Channels that a thread convolves at once.
const CHANNELS: usize = 512;

/// Sizes of the state of a network's delta net.
pub(crate) fn shape(delta: &GatedDeltaNet) -> DeltaShape {
    let GatedDeltaNet { key_heads, key_dim, value_heads, value_dim, convolution, .. } = *delta;
    let channels = 2 * key_heads * key_dim + value_heads * value_dim;
    DeltaShape { channels, inputs: convolution.saturating_sub(1), value_heads, key_dim, value_dim }
}

/// Numbers of memory that [`convolve`] works in.
pub(crate) fn edge_len(shape: &DeltaShape) -> usize {
    2 * shape.inputs * shape.channels
}

/// Convolution and SiLU of the rows of one sequence, `[rows][channels]`; `inputs` are those before the first row, and
/// become those before the next one. `weights` is `[taps][channels]`, `edge` has [`edge_len`] numbers.
pub(crate) fn convolve(
    cpu: &Cpu,
    shape: &DeltaShape,
    weights: &[f32],
    inputs: &mut [f32],
    rows: &[f32],
    edge: &mut [f32],
    out: &mut [f32],
) {
    let DeltaShape { channels, inputs: before, .. } = *shape;
    let count = rows.len() / channels;
    let (inputs, edge, out) = (Shares::new(inputs), Shares::new(edge), Shares::new(out));
    cpu.pool.for_chunks(channels, CHANNELS, &|_, range| {
        let width = range.len();
        let inside = |row: usize| row * channels + range.start..row * channels + range.end;
        // the rows that see inputs of before: those inputs and the rows, one after the other
        // SAFETY: channels belong to one task, here and below.
        let edge = unsafe { edge.range(2 * before * range.start..2 * before * range.end) };
        let at_edge = count.min(before);
        let (old, new) = edge.split_at_mut(before * width);
        for (row, old) in old.chunks_exact_mut(width).enumerate() {
            // SAFETY: as above.
            old.copy_from_slice(unsafe { inputs.range(inside(row)) });
        }
        for (row, new) in new.chunks_exact_mut(width).take(at_edge).enumerate() {
            new.copy_from_slice(&rows[inside(row)]);
        }
        let weights = Strided { values: &weights[range.start..], stride: channels };
        for row in 0..count {
            let seen = if row < at_edge {
                Strided { values: &edge[row * width..], stride: width }
            } else {
                Strided { values: &rows[inside(row - before).start..], stride: channels }
            };
            // SAFETY: as above.
            cpu.kernels.convolve(seen, weights, before + 1, unsafe { out.range(inside(row)) });
        }
        for row in 0..before {
            let last = count + row;
            let from =
                if count <= before { &edge[last * width..][..width] } else { &rows[inside(last - before)] };
            // SAFETY: as above.
            unsafe { inputs.range(inside(row)) }.copy_from_slice(from);
        }
    });
}

/// Norms the query and key heads at the head of each row `[all q | all k | all v]`, scales the queries, and gives
/// `k . q` per row and key head.
pub(crate) fn norm_heads(cpu: &Cpu, delta: &GatedDeltaNet, rows: &mut [f32], key_queries: &mut [f32]) {
    let GatedDeltaNet { key_heads, key_dim, .. } = *delta;
    let channels = shape(delta).channels;
    let count = rows.len() / channels;
    let (rows, key_queries) = (Shares::new(rows), Shares::new(key_queries));
    cpu.pool.for_chunks(count, 4, &|_, range| {
        for row in range {
            // SAFETY: each row belongs to one task.
            let (row, key_queries) = unsafe {
                let heads = row * channels..row * channels + 2 * key_heads * key_dim;
                (rows.range(heads), key_queries.range(row * key_heads..(row + 1) * key_heads))
            };
            let (queries, keys) = row.split_at_mut(key_heads * key_dim);
            let heads = queries.chunks_exact_mut(key_dim).zip(keys.chunks_exact_mut(key_dim));
            for ((query, key), key_query) in heads.zip(key_queries) {
                let norm = |head: &[f32]| (cpu.kernels.dot(head, head) + L2_EPSILON).sqrt();
                cpu.kernels.scale(query, 1.0 / (norm(query) * (key_dim as f32).sqrt()));
                cpu.kernels.scale(key, 1.0 / norm(key));
                *key_query = cpu.kernels.dot(key, query);
            }
        }
    });
}

/// The recurrence's inputs of a step, row by row.
pub(crate) struct Driven<'a> {
    /// `[all q | all k | all v]`, normed.
    pub(crate) heads: &'a [f32],
    /// `k . q` per key head.
    pub(crate) key_queries: &'a [f32],
    /// Per value head.
    pub(crate) betas: &'a [f32],
    /// Per value head.
    pub(crate) decays: &'a [f32],
}

/// The recurrence over rows of one sequence; fills these rows of `out`, `[value heads * value_dim]` each.
pub(crate) fn recur(
    cpu: &Cpu,
    delta: &GatedDeltaNet,
    driven: &Driven,
    rows: Range<usize>,
    state: Changing,
    out: &mut [f32],
) {
    let GatedDeltaNet { key_heads, key_dim, value_heads, value_dim, .. } = *delta;
    let shape = shape(delta);
    let (panels, panel_len) = (shape.panels(), shape.panel());
    let (states, out) = (Shares::new(state.states), Shares::new(out));
    // a token's share of a state is read from memory: long runs
    let together = if rows.len() > 1 { 1 } else { panels };
    cpu.pool.for_chunks(value_heads * panels, together, &|_, range| {
        for task in range {
            let (head, panel) = (task / panels, task % panels);
            let key_head = match delta.value_order {
                ValueHeadOrder::Grouped => head / (value_heads / key_heads),
                ValueHeadOrder::Interleaved => head % key_heads,
            };
            let columns = panel * DELTA_PANEL..value_dim.min((panel + 1) * DELTA_PANEL);
            // SAFETY: each panel of each head belongs to one task, here and below.
            let state = unsafe { states.range(task * panel_len..(task + 1) * panel_len) };
            for row in rows.clone() {
                let heads = &driven.heads[row * shape.channels..][..shape.channels];
                let (keyed, values) = heads.split_at(2 * key_heads * key_dim);
                let query = &keyed[key_head * key_dim..][..key_dim];
                let key = &keyed[(key_heads + key_head) * key_dim..][..key_dim];
                let gates = DeltaGates {
                    decay: driven.decays[row * value_heads + head],
                    beta: driven.betas[row * value_heads + head],
                    key_query: driven.key_queries[row * key_heads + key_head],
                };
                let values = &values[head * value_dim..][columns.clone()];
                let start = (row * value_heads + head) * value_dim;
                // SAFETY: as above.
                let out = unsafe { out.range(start + columns.start..start + columns.end) };
                cpu.kernels.delta_step(state, key, query, gates, values, out);
            }
        }
    });
}
