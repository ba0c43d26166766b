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
use ingle_model::spec::Attention;
use std::ops::Range;

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
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    half_keys: Vec<f16>,
    half_values: Vec<f16>,
}

impl AttentionBlock {
    /// An empty cache.
    pub(super) fn cache(&self) -> LayerKv {
        let Attention { kv_heads, key_dim, value_dim, .. } = self.spec;
        LayerKv::new(CacheShape { kv_heads, key_dim, value_dim })
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
        let Scratch { queries, attended, .. } = attention;
        attended.resize(rows * self.output.matrix.columns(), 0.0);
        for placed in step.placed {
            let kv = &*sequences.get_mut(placed.sequence)?.kv[index].attention()?;
            let work = Work { attention: &self.spec, kv, placed, queries, sinks: &self.sinks };
            attend(cpu, &work, attended);
        }
        self.output.apply(cpu, attended, rows, activations, block_out);
        Ok(())
    }

    /// Queries, keys and values of every row, in one region.
    fn project(&self, step: &Step, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|projection| &projection.matrix);
        let layer::Scratch { normed, activations, attention, .. } = scratch;
        let Scratch { queries, keys, values, .. } = attention;
        activations.prepare(cpu, normed, rows, query.columns(), query.needs() | key.needs() | value.needs());
        queries.resize(rows * query.rows(), 0.0);
        keys.resize(rows * key.rows(), 0.0);
        values.resize(rows * value.rows(), 0.0);
        let products =
            &mut [Product::new(query, queries), Product::new(key, keys), Product::new(value, values)];
        multiply(cpu, activations, products);
        self.query.add_bias(cpu, queries);
        self.key.add_bias(cpu, keys);
        self.value.add_bias(cpu, values);
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
            for row in placed.rows.clone() {
                let keys = &half_keys[row * key_row..][..key_row];
                let values = &half_values[row * value_row..][..value_row];
                kv.store(placed.position(row), keys, values);
            }
        }
        Ok(())
    }
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
