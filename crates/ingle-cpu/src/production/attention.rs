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
    /// `None` where the layer attends to what an earlier one caches.
    pub(super) own: Option<OwnKeyValues>,
    pub(super) output: Projection,
    pub(super) query_norm: Option<NormWeight>,
    /// One per head, or none.
    pub(super) sinks: Vec<f32>,
}

/// Packed weights of a layer's own keys and values.
pub(super) struct OwnKeyValues {
    pub(super) key: Projection,
    /// `None` where values are the keys' rows as projected.
    pub(super) value: Option<Projection>,
    pub(super) key_norm: Option<NormWeight>,
    pub(super) value_norm: Option<NormWeight>,
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
    pub(super) fn cache(&self) -> LayerCache {
        if self.own.is_none() {
            return LayerCache::Elsewhere;
        }
        let Attention { kv_heads, key_dim, value_dim, visibility, .. } = self.spec;
        // rows that look ahead go through in one step, in which every position is seen by some row
        let window = self.spec.window.filter(|_| visibility == Visibility::Causal);
        LayerCache::Attention(LayerKv::new(CacheShape { kv_heads, key_dim, value_dim }, window))
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.inputs().chain([&self.output.matrix])
    }

    /// The matrices that the layer's input is multiplied by.
    fn inputs(&self) -> impl Iterator<Item = &Matrix> {
        let own = self.own.iter().flat_map(|own| [Some(&own.key), own.value.as_ref()]).flatten();
        [&self.query].into_iter().chain(own).map(|projection| &projection.matrix)
    }

    /// From `normed` to `block_out`; the step's keys and values join the caches of layer `index`, if they are its own.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut layer::Scratch,
    ) -> Result<(), ExecutorError> {
        self.project(step, scratch);
        self.turn(step, &mut scratch.attention);
        if self.own.is_some() {
            self.store(step, index, sequences, &mut scratch.attention)?;
        }

        let (cpu, rows) = (step.cpu, step.rows);
        let layer::Scratch { attention, activations, block_out, .. } = scratch;
        let Scratch { queries, attended, gates, partial, .. } = attention;
        attended.resize(rows * self.output.matrix.columns(), 0.0);
        for placed in step.placed {
            let kv = &*sequences.get_mut(placed.sequence)?.kv[self.spec.cached_by(index)].attention()?;
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
        let query = &self.query.matrix;
        let layer::Scratch { normed, activations, attention, .. } = scratch;
        let Scratch { queries, with_gates, gates, keys, values, .. } = attention;
        let gated = self.spec.output_gate;
        let projected = if gated { &mut *with_gates } else { &mut *queries };
        let needs = self.inputs().fold(query.needs(), |needs, matrix| needs | matrix.needs());
        activations.prepare(cpu, normed, rows, query.columns(), needs);
        projected.resize(rows * query.rows(), 0.0);
        let queries_of = Product::new(query, projected);
        match &self.own {
            None => multiply(cpu, activations, &mut [queries_of]),
            Some(OwnKeyValues { key, value, .. }) => {
                keys.resize(rows * key.matrix.rows(), 0.0);
                let keys_of = Product::new(&key.matrix, keys);
                match value {
                    Some(value) => {
                        values.resize(rows * value.matrix.rows(), 0.0);
                        let values_of = Product::new(&value.matrix, values);
                        multiply(cpu, activations, &mut [queries_of, keys_of, values_of]);
                        value.add_bias(cpu, values);
                        key.add_bias(cpu, keys);
                    }
                    None => {
                        multiply(cpu, activations, &mut [queries_of, keys_of]);
                        key.add_bias(cpu, keys);
                        values.clone_from(keys);
                    }
                }
            }
        }
        self.query.add_bias(cpu, projected);
        if gated {
            part_gates(cpu, with_gates, self.spec.key_dim, queries, gates);
        }
    }

    /// Norms (where the network has such a norm) every head, and rotates those of queries and keys.
    fn turn(&self, step: &Step, scratch: &mut Scratch) {
        let rotation = self.spec.rope.map(|rope| &step.rotations[rope]);
        let Attention { key_dim, value_dim, .. } = self.spec;
        turn_heads(step, &mut scratch.queries, key_dim, self.query_norm.as_ref(), rotation);
        if let Some(own) = &self.own {
            turn_heads(step, &mut scratch.keys, key_dim, own.key_norm.as_ref(), rotation);
            turn_heads(step, &mut scratch.values, value_dim, own.value_norm.as_ref(), None);
        }
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
        let Attention { kv_heads, key_dim, value_dim, .. } = self.spec;
        let (key_row, value_row) = (kv_heads * key_dim, kv_heads * value_dim);
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
