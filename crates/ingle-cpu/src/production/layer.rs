//! One layer's packed weights, and what a step does with them.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::rotation::Rotation;
use crate::Cpu;
use crate::attention::cache::{CacheShape, LayerKv};
use crate::attention::{Rows, attend};
use crate::matrix::{Activations, Matrix, Product, multiply};
use crate::pool::Shares;
use crate::sequences::Sequences;
use half::f16;
use ingle_model::executor::{ExecutorError, SequenceId};
use ingle_model::spec::{Activation, FeedForward, LayerSpec, Mixer, ModelSpec, Norm};
use std::ops::Range;

/// A layer: attention and a dense feed-forward.
pub(super) struct Layer {
    pub(super) norms: [Option<Vec<f32>>; 4],
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    pub(super) output: Matrix,
    pub(super) query_bias: Option<Vec<f32>>,
    pub(super) key_bias: Option<Vec<f32>>,
    pub(super) value_bias: Option<Vec<f32>>,
    pub(super) output_bias: Option<Vec<f32>>,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) sinks: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    pub(super) cache: CacheShape,
}

/// Places in `Layer::norms`.
pub(super) const BEFORE_MIXER: usize = 0;
pub(super) const AFTER_MIXER: usize = 1;
pub(super) const BEFORE_FEED_FORWARD: usize = 2;
pub(super) const AFTER_FEED_FORWARD: usize = 3;

/// Memory of a step, reused by the next one; it grows to the largest step seen.
#[derive(Default)]
pub(super) struct Scratch {
    /// The residual stream, `[rows, hidden]`.
    pub(super) x: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) picked: Vec<f32>,
    pub(super) activations: Activations,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    inner: Vec<f32>,
    block_out: Vec<f32>,
    half_keys: Vec<f16>,
    half_values: Vec<f16>,
}

impl Scratch {
    pub(super) fn resize(&mut self, rows: usize, spec: &ModelSpec) {
        for buffer in [&mut self.x, &mut self.normed, &mut self.block_out] {
            buffer.resize(rows * spec.hidden, 0.0);
        }
    }
}

/// Rows of `x` normed with `weight` into `out`.
pub(super) fn norm_rows(cpu: &Cpu, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        cpu.kernels.rms_norm(x, weight, epsilon, out);
    }
}

impl Layer {
    pub(super) fn cache_shape(&self) -> CacheShape {
        self.cache
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down].into_iter()
    }

    /// `x += after(attention(before(x)))`.
    #[allow(clippy::too_many_arguments)] // one call site; a struct would only rename them
    pub(super) fn attend(
        &self,
        cpu: &Cpu,
        index: usize,
        spec: &LayerSpec,
        placed: &[(SequenceId, Range<usize>, usize)],
        rotations: &[Rotation],
        sequences: &mut Sequences<Vec<LayerKv>>,
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        let Mixer::Attention(attention) = &spec.mixer else {
            return Err(super::load::unsupported("another mixer than attention"));
        };
        let (rows, hidden) = (scratch.x.len() / self.query.columns(), self.query.columns());
        self.norm_before(cpu, BEFORE_MIXER, spec.norms.before_mixer, scratch);
        let Scratch { normed, activations, queries, keys, values, .. } = scratch;
        let needs = self.query.needs() | self.key.needs() | self.value.needs();
        activations.prepare(cpu, normed, rows, hidden, needs);
        queries.resize(rows * self.query.rows(), 0.0);
        keys.resize(rows * self.key.rows(), 0.0);
        values.resize(rows * self.value.rows(), 0.0);
        let mut products = [
            Product::new(&self.query, queries),
            Product::new(&self.key, keys),
            Product::new(&self.value, values),
        ];
        multiply(cpu, activations, &mut products);
        add_bias(cpu, queries, &self.query_bias);
        add_bias(cpu, keys, &self.key_bias);
        add_bias(cpu, values, &self.value_bias);
        let rotation = attention.rope.map(|rope| &rotations[rope]);
        let epsilon = attention.qk_norm.map_or(0.0, |norm| norm.epsilon);
        turn_heads(cpu, queries, rows, attention.key_dim, self.query_norm.as_deref(), epsilon, rotation);
        turn_heads(cpu, keys, rows, attention.key_dim, self.key_norm.as_deref(), epsilon, rotation);

        self.store(cpu, index, placed, sequences, scratch)?;
        let views = placed.iter().map(|(id, rows, first)| {
            let kv = sequences.get(*id).map(|sequence| &sequence.kv[index]);
            let kv = kv.ok_or(ExecutorError::Sequence(id.0))?;
            Ok(Rows { kv, rows: rows.clone(), first: *first })
        });
        let views: Vec<Rows> = views.collect::<Result<_, ExecutorError>>()?;
        let Scratch { queries, attended, activations, block_out, .. } = scratch;
        attended.resize(rows * self.output.columns(), 0.0);
        attend(cpu, attention, &views, queries, &self.sinks, attended);
        activations.prepare(cpu, attended, rows, self.output.columns(), self.output.needs());
        multiply(cpu, activations, &mut [Product::new(&self.output, block_out)]);
        add_bias(cpu, block_out, &self.output_bias);
        self.join(cpu, AFTER_MIXER, spec.norms.after_mixer, scratch);
        Ok(())
    }

    /// `x += after(feed_forward(before(x)))`.
    pub(super) fn transform(&self, cpu: &Cpu, spec: &LayerSpec, scratch: &mut Scratch) {
        let (hidden, width) = (self.gate.columns(), self.gate.rows());
        let rows = scratch.x.len() / hidden;
        self.norm_before(cpu, BEFORE_FEED_FORWARD, spec.norms.before_feed_forward, scratch);
        let Scratch { normed, activations, gate, up, inner, block_out, .. } = scratch;
        activations.prepare(cpu, normed, rows, hidden, self.gate.needs() | self.up.needs());
        for buffer in [&mut *gate, &mut *up, &mut *inner] {
            buffer.resize(rows * width, 0.0);
        }
        multiply(cpu, activations, &mut [Product::new(&self.gate, gate), Product::new(&self.up, up)]);
        if let FeedForward::Dense(dense) = &spec.feed_forward {
            combine(cpu, dense.activation, gate, up, inner);
        }
        activations.prepare(cpu, inner, rows, width, self.down.needs());
        multiply(cpu, activations, &mut [Product::new(&self.down, block_out)]);
        self.join(cpu, AFTER_FEED_FORWARD, spec.norms.after_feed_forward, scratch);
    }

    /// `normed = norm(x)`, or a copy where the layer has no such norm.
    fn norm_before(&self, cpu: &Cpu, place: usize, norm: Option<Norm>, scratch: &mut Scratch) {
        match (&self.norms[place], norm) {
            (Some(weight), Some(norm)) => {
                norm_rows(cpu, &scratch.x, weight, norm.epsilon, &mut scratch.normed)
            }
            _ => scratch.normed.copy_from_slice(&scratch.x),
        }
    }

    /// `x += norm(block_out)`.
    fn join(&self, cpu: &Cpu, place: usize, norm: Option<Norm>, scratch: &mut Scratch) {
        let Scratch { x, block_out, .. } = scratch;
        if let (Some(weight), Some(norm)) = (&self.norms[place], norm) {
            for row in block_out.chunks_exact_mut(weight.len()) {
                cpu.kernels.rms_norm_in_place(row, weight, norm.epsilon);
            }
        }
        cpu.kernels.add(x, block_out);
    }

    /// Keys and values of the step's rows go into the caches.
    fn store(
        &self,
        cpu: &Cpu,
        index: usize,
        placed: &[(SequenceId, Range<usize>, usize)],
        sequences: &mut Sequences<Vec<LayerKv>>,
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        let Scratch { keys, values, half_keys, half_values, .. } = scratch;
        half_keys.resize(keys.len(), f16::ZERO);
        half_values.resize(values.len(), f16::ZERO);
        cpu.kernels.to_f16(keys, half_keys);
        cpu.kernels.to_f16(values, half_values);
        let (key_row, value_row) = (self.key.rows(), self.value.rows());
        for (id, rows, first) in placed {
            let kv = &mut sequences.get_mut(*id)?.kv[index];
            for row in rows.clone() {
                let keys = &half_keys[row * key_row..][..key_row];
                let values = &half_values[row * value_row..][..value_row];
                kv.store(first + row - rows.start, keys, values);
            }
        }
        Ok(())
    }
}

fn add_bias(cpu: &Cpu, rows: &mut [f32], bias: &Option<Vec<f32>>) {
    if let Some(bias) = bias {
        rows.chunks_exact_mut(bias.len()).for_each(|row| cpu.kernels.add(row, bias));
    }
}

/// Norms (where the network has such a norm) and rotates every head of every row.
fn turn_heads(
    cpu: &Cpu,
    values: &mut [f32],
    rows: usize,
    width: usize,
    norm: Option<&[f32]>,
    epsilon: f32,
    rotation: Option<&Rotation>,
) {
    if norm.is_none() && rotation.is_none() {
        return;
    }
    let row_values = values.len() / rows.max(1);
    let shares = Shares::new(values);
    let turn = |_: usize, range: Range<usize>| {
        for row in range {
            // SAFETY: each row belongs to one task.
            let values = unsafe { shares.range(row * row_values..(row + 1) * row_values) };
            for head in values.chunks_exact_mut(width) {
                if let Some(weight) = norm {
                    cpu.kernels.rms_norm_in_place(head, weight, epsilon);
                }
                if let Some(rotation) = rotation {
                    rotation.turn(head, row);
                }
            }
        }
    };
    match rows {
        1 => turn(0, 0..1), // less work than sharing it
        rows => cpu.pool.for_chunks(rows, 8, &turn),
    }
}

/// Gate and up combined, element by element.
fn combine(cpu: &Cpu, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Silu => {
            let chunk = 16 * 1024;
            let shares = Shares::new(out);
            cpu.pool.for_chunks(gate.len(), chunk, &|_, range| {
                // SAFETY: ranges of one region do not overlap.
                let out = unsafe { shares.range(range.clone()) };
                cpu.kernels.silu_mul(&gate[range.clone()], &up[range], out);
            });
        }
        other => {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = crate::reference::activate(other, *gate, *up);
            }
        }
    }
}
