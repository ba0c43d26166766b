//! Grouped-query attention between its projections.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::cache::LayerCache;
use super::layer::{self, Projection, Step};
use super::norm::NormWeight;
use super::rotation::Rotation;
use super::seam::Seam;
use crate::Cpu;
use crate::attention::cache::{CacheShape, LayerKv};
use crate::attention::{Shared, Work, attend};
use crate::matrix::{Matrix, Product, multiply};
use crate::pool::Shares;
use crate::sequences::{Placed, Sequences};
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{Attention, KvFormat, Visibility};
use std::ops::Range;

/// Rows that a thread takes at once where little is done to each.
const ROWS: usize = 2;
/// Rows of a slice, on average, from which on a thread of its own is not enough to store them.
const MANY_ROWS: usize = 8;

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
    partial: Shared,
}

impl AttentionBlock {
    /// An empty cache.
    pub(super) fn cache(&self, format: KvFormat) -> LayerCache {
        if self.own.is_none() {
            return LayerCache::Elsewhere;
        }
        let Attention { kv_heads, key_dim, value_dim, visibility, .. } = self.spec;
        // rows that look ahead go through in one step, in which every position is seen by some row
        let window = self.spec.window.filter(|_| visibility == Visibility::Causal);
        LayerCache::Attention(LayerKv::new(CacheShape { kv_heads, key_dim, value_dim, format }, window))
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.inputs().chain([&self.output.matrix])
    }

    /// The matrices that the layer's input is multiplied by.
    fn inputs(&self) -> impl Iterator<Item = &Matrix> {
        let own = self.own.iter().flat_map(|own| [Some(&own.key), own.value.as_ref()]).flatten();
        [&self.query].into_iter().chain(own).map(|projection| &projection.matrix)
    }

    /// Across the seam to `block_out`, and the bias that is left to add; the step's keys and values join the caches of
    /// layer `index`, if they are its own.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        seam: &Seam,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut layer::Scratch,
    ) -> Result<Option<&[f32]>, ExecutorError> {
        self.project(step, seam, scratch);
        self.finish_rows(step, &mut scratch.attention);
        if self.own.is_some() {
            self.store(step, index, sequences, &scratch.attention)?;
        }

        let (cpu, rows) = (step.cpu, step.rows);
        let layer::Scratch { attention, activations, block_out, .. } = scratch;
        let Scratch { queries, attended, gates, partial, .. } = attention;
        let output = &self.output.matrix;
        let width = output.columns();
        attended.resize(rows * width, 0.0);
        let (cached_by, sequences) = (self.spec.cached_by(index), &*sequences);
        let work = |slice: usize| {
            let placed = &step.placed[slice];
            let sequence =
                sequences.get(placed.sequence).expect("a step's sequences were looked up at its beginning");
            let kv = sequence.kv[cached_by].of_attention();
            Work { attention: &self.spec, kv, placed, queries, sinks: &self.sinks }
        };
        attend(cpu, step.placed.len(), &work, partial, attended);
        if self.spec.output_gate {
            // attended *= sigmoid(gates)
            activations.prepare_numbers(cpu, rows, width, output.needs(), &|row, columns, closed| {
                let own = row * width + columns.start..row * width + columns.end;
                closed.copy_from_slice(&attended[own.clone()]);
                cpu.kernels.sigmoid_mul(closed, &gates[own]);
            });
        } else {
            activations.prepare(cpu, attended, rows, width, output.needs());
        }
        multiply(cpu, activations, &mut [Product::new(output, block_out)]);
        Ok(self.output.bias.as_deref())
    }

    /// Queries, keys and values of every row as their matrices make them, in one region.
    fn project(&self, step: &Step, seam: &Seam, scratch: &mut layer::Scratch) {
        let (cpu, rows, query) = (step.cpu, step.rows, &self.query.matrix);
        let needs = self.inputs().fold(query.needs(), |needs, matrix| needs | matrix.needs());
        seam.cross(step, scratch, needs);
        let layer::Scratch { activations, attention, .. } = scratch;
        let Scratch { queries, with_gates, keys, values, .. } = attention;
        let projected = if self.spec.output_gate { with_gates } else { queries };
        projected.resize(rows * query.rows(), 0.0);
        let queries_of = Product::new(query, projected);
        let Some(OwnKeyValues { key, value, .. }) = &self.own else {
            return multiply(cpu, activations, &mut [queries_of]);
        };
        keys.resize(rows * key.matrix.rows(), 0.0);
        values.resize(rows * self.spec.kv_heads * self.spec.value_dim, 0.0);
        let keys_of = Product::new(&key.matrix, keys);
        match value {
            Some(value) => {
                let values_of = Product::new(&value.matrix, values);
                multiply(cpu, activations, &mut [queries_of, keys_of, values_of]);
            }
            None => multiply(cpu, activations, &mut [queries_of, keys_of]),
        }
    }

    /// Of every row, in one region: biases, the gates apart, norms and rotation of the heads where the network has them.
    fn finish_rows(&self, step: &Step, scratch: &mut Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let Attention { heads, kv_heads, key_dim, value_dim, .. } = self.spec;
        let (query_row, key_row, value_row) = (heads * key_dim, kv_heads * key_dim, kv_heads * value_dim);
        let Scratch { queries, with_gates, gates, keys, values, .. } = scratch;
        if self.spec.output_gate {
            queries.resize(rows * query_row, 0.0);
            gates.resize(rows * query_row, 0.0);
        }
        let (queries, with_gates, gates) =
            (Shares::new(queries), Shares::new(with_gates), Shares::new(gates));
        let (keys, values) = (Shares::new(keys), Shares::new(values));
        let rotation = self.spec.rope.map(|rope| &step.rotations[rope]);
        let heads = Heads { cpu, width: key_dim, rotation };
        cpu.pool.for_chunks(rows, ROWS, &|_, range| {
            for row in range {
                let part = |width: usize| row * width..(row + 1) * width;
                // SAFETY: in this function, each row belongs to one task.
                let query = unsafe { queries.range(part(query_row)) };
                if self.spec.output_gate {
                    // SAFETY: as above.
                    let (packed, gates) =
                        unsafe { (with_gates.range(part(2 * query_row)), gates.range(part(query_row))) };
                    self.query.add_bias(cpu, packed);
                    part_gates(packed, key_dim, query, gates);
                } else {
                    self.query.add_bias(cpu, query);
                }
                heads.finish(row, query, self.query_norm.as_ref());
                let Some(own) = &self.own else { continue };
                // SAFETY: as above.
                let (key, value) = unsafe { (keys.range(part(key_row)), values.range(part(value_row))) };
                own.key.add_bias(cpu, key);
                match &own.value {
                    Some(projection) => projection.add_bias(cpu, value),
                    None => value.copy_from_slice(key),
                }
                heads.finish(row, key, own.key_norm.as_ref());
                if let Some(norm) = &own.value_norm {
                    norm.apply_in_place(cpu, value);
                }
            }
        });
    }

    /// Puts the step's keys and values into the sequences' caches.
    fn store(
        &self,
        step: &Step,
        index: usize,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &Scratch,
    ) -> Result<(), ExecutorError> {
        let Scratch { keys, values, .. } = scratch;
        let Attention { kv_heads, key_dim, value_dim, .. } = self.spec;
        let (key_row, value_row) = (kv_heads * key_dim, kv_heads * value_dim);
        let store = |kv: &mut LayerKv, placed: &Placed| {
            let Range { start, end } = placed.rows;
            let keys = &keys[start * key_row..end * key_row];
            kv.store(step.cpu, placed.first, keys, &values[start * value_row..end * value_row]);
        };
        for placed in step.placed {
            let kv = sequences.get_mut(placed.sequence)?.kv[index].attention()?;
            if step.rows >= MANY_ROWS * step.placed.len() {
                // work for all threads
                store(kv, placed);
            }
        }
        if step.rows < MANY_ROWS * step.placed.len() {
            sequences.change(&step.cpu.pool, step.placed, &|kv, placed| match &mut kv[index] {
                LayerCache::Attention(kv) => store(kv, placed),
                _ => unreachable!("all were looked up"),
            })?;
        }
        Ok(())
    }
}

/// How the heads of a step's rows are normed and turned.
struct Heads<'a> {
    cpu: &'a Cpu,
    /// Of a head.
    width: usize,
    rotation: Option<&'a Rotation>,
}

impl Heads<'_> {
    /// All heads of the step's row `row`.
    fn finish(&self, row: usize, heads: &mut [f32], norm: Option<&NormWeight>) {
        if let Some(norm) = norm {
            norm.apply_in_place(self.cpu, heads);
        }
        if let Some(rotation) = self.rotation {
            heads.chunks_exact_mut(self.width).for_each(|head| rotation.turn(head, row));
        }
    }
}

/// A row's heads of `[query | gate]`, each `width` wide, to its queries and its gates.
fn part_gates(packed: &[f32], width: usize, queries: &mut [f32], gates: &mut [f32]) {
    let heads = queries.chunks_exact_mut(width).zip(gates.chunks_exact_mut(width));
    for ((query, gate), head) in heads.zip(packed.chunks_exact(2 * width)) {
        query.copy_from_slice(&head[..width]);
        gate.copy_from_slice(&head[width..]);
    }
}
