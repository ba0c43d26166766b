//! Grouped-query attention between its projections.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::cache::LayerCache;
use super::layer::{self, Projection, Step};
use super::norm::NormWeight;
use super::rotation::Rotation;
use crate::Cpu;
use crate::attention::cache::{CacheShape, LayerKv};
use crate::attention::{Work, attend};
use crate::matrix::{Matrix, Product, multiply};
use crate::pool::Shares;
use crate::sequences::Sequences;
use half::f16;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{Attention, Visibility};
use std::ops::Range;

/// Numbers that a thread takes at once where little is done to each.
const CHUNK: usize = 16 * 1024;

/// Packed weights of an attention mixer.
pub(super) struct AttentionBlock {
    pub(super) spec: Attention,
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) output: Projection,
    pub(super) query_norm: Option<NormWeight>,
    pub(super) key_norm: Option<NormWeight>,
    /// One per head, or none.
    pub(super) sinks: Vec<f32>,
}

/// Memory of a step.
#[derive(Default)]
pub(super) struct Scratch {
    queries: Vec<f32>,
    /// Where the output is gated: `[query | gate]` of every head, and the gates alone.
    with_gates: Vec<f32>,
    gates: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    partial: Vec<f32>,
    half_keys: Vec<f16>,
    half_values: Vec<f16>,
}

impl AttentionBlock {
    /// An empty cache.
    pub(super) fn cache(&self) -> LayerKv {
        let Attention { kv_heads, key_dim, value_dim, visibility, .. } = self.spec;
        // rows that look ahead go through in one step, in which every position is seen by some row
        let window = self.spec.window.filter(|_| visibility == Visibility::Causal);
        LayerKv::new(CacheShape { kv_heads, key_dim, value_dim }, window)
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.query, &self.key, &self.value, &self.output].into_iter().map(|projection| &projection.matrix)
    }

    /// From `normed` to `block_out`; the step's keys and values join the caches of layer `index`.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut layer::Scratch,
    ) -> Result<(), ExecutorError> {
        self.project(step, scratch);
        self.turn(step, &mut scratch.attention);
        self.store(step, index, sequences, &mut scratch.attention)?;

        let (cpu, rows) = (step.cpu, step.rows);
        let layer::Scratch { attention, activations, block_out, .. } = scratch;
        let Scratch { queries, attended, gates, partial, .. } = attention;
        attended.resize(rows * self.output.matrix.columns(), 0.0);
        for placed in step.placed {
            let kv = &*sequences.get_mut(placed.sequence)?.kv[index].attention()?;
            let work = Work { attention: &self.spec, kv, placed, queries, sinks: &self.sinks };
            attend(cpu, &work, partial, attended);
        }
        if self.spec.output_gate {
            close_gates(cpu, attended, gates);
        }
        self.output.apply(cpu, attended, rows, activations, block_out);
        Ok(())
    }

    /// Queries, keys and values of every row, in one region.
    fn project(&self, step: &Step, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|projection| &projection.matrix);
        let layer::Scratch { normed, activations, attention, .. } = scratch;
        let Scratch { queries, with_gates, gates, keys, values, .. } = attention;
        let gated = self.spec.output_gate;
        let projected = if gated { &mut *with_gates } else { &mut *queries };
        activations.prepare(cpu, normed, rows, query.columns(), query.needs() | key.needs() | value.needs());
        projected.resize(rows * query.rows(), 0.0);
        keys.resize(rows * key.rows(), 0.0);
        values.resize(rows * value.rows(), 0.0);
        let products =
            &mut [Product::new(query, projected), Product::new(key, keys), Product::new(value, values)];
        multiply(cpu, activations, products);
        self.query.add_bias(cpu, projected);
        self.key.add_bias(cpu, keys);
        self.value.add_bias(cpu, values);
        if gated {
            part_gates(cpu, with_gates, self.spec.key_dim, queries, gates);
        }
    }

    /// Norms (where the network has such a norm) and rotates every query and key head.
    fn turn(&self, step: &Step, scratch: &mut Scratch) {
        let rotation = self.spec.rope.map(|rope| &step.rotations[rope]);
        let width = self.spec.key_dim;
        turn_heads(step, &mut scratch.queries, width, self.query_norm.as_ref(), rotation);
        turn_heads(step, &mut scratch.keys, width, self.key_norm.as_ref(), rotation);
    }

    fn store(
        &self,
        step: &Step,
        index: usize,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        let Scratch { keys, values, half_keys, half_values, .. } = scratch;
        half_keys.resize(keys.len(), f16::ZERO);
        half_values.resize(values.len(), f16::ZERO);
        step.cpu.kernels.to_f16(keys, half_keys);
        step.cpu.kernels.to_f16(values, half_values);
        let (key_row, value_row) = (self.key.matrix.rows(), self.value.matrix.rows());
        for placed in step.placed {
            let kv = sequences.get_mut(placed.sequence)?.kv[index].attention()?;
            let Range { start, end } = placed.rows;
            let (keys, values) = (
                &half_keys[start * key_row..end * key_row],
                &half_values[start * value_row..end * value_row],
            );
            kv.store(step.cpu, placed.first, keys, values);
        }
        Ok(())
    }
}

/// Heads of `[query | gate]`, each `width` wide, to all queries and all gates.
fn part_gates(cpu: &Cpu, packed: &[f32], width: usize, queries: &mut Vec<f32>, gates: &mut Vec<f32>) {
    queries.resize(packed.len() / 2, 0.0);
    gates.resize(packed.len() / 2, 0.0);
    let (queries, gates) = (Shares::new(queries), Shares::new(gates));
    cpu.pool.for_chunks(packed.len() / (2 * width), (CHUNK / width).max(1), &|_, heads| {
        let halves = heads.start * width..heads.end * width;
        // SAFETY: ranges of one region do not overlap.
        let (queries, gates) = unsafe { (queries.range(halves.clone()), gates.range(halves)) };
        let packed = packed[heads.start * 2 * width..heads.end * 2 * width].chunks_exact(2 * width);
        let heads = queries.chunks_exact_mut(width).zip(gates.chunks_exact_mut(width));
        for ((query, gate), head) in heads.zip(packed) {
            query.copy_from_slice(&head[..width]);
            gate.copy_from_slice(&head[width..]);
        }
    });
}

/// `attended *= sigmoid(gates)`.
fn close_gates(cpu: &Cpu, attended: &mut [f32], gates: &[f32]) {
    let attended = Shares::new(attended);
    cpu.pool.for_chunks(gates.len(), CHUNK, &|_, range| {
        // SAFETY: ranges of one region do not overlap.
        cpu.kernels.sigmoid_mul(unsafe { attended.range(range.clone()) }, &gates[range]);
    });
}

/// Norms and rotates every head, `width` wide, of every row.
fn turn_heads(
    step: &Step,
    values: &mut [f32],
    width: usize,
    norm: Option<&NormWeight>,
    rotation: Option<&Rotation>,
) {
    if norm.is_none() && rotation.is_none() {
        return;
    }
    let cpu: &Cpu = step.cpu;
    let row_values = values.len() / step.rows.max(1);
    let shares = Shares::new(values);
    let turn = |_: usize, range: Range<usize>| {
        for row in range {
            // SAFETY: each row belongs to one task.
            let heads = unsafe { shares.range(row * row_values..(row + 1) * row_values) };
            if let Some(norm) = norm {
                norm.apply_in_place(cpu, heads);
            }
            if let Some(rotation) = rotation {
                heads.chunks_exact_mut(width).for_each(|head| rotation.turn(head, row));
            }
        }
    };
    cpu.pool.for_chunks(step.rows, 8, &turn);
}
