//! The gated delta net with its projections: `out(norm(recurrence) * silu(gate))`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

#[cfg(test)]
mod tests;

use super::cache::LayerCache;
use super::layer::{self, Step};
use super::norm::NormWeight;
use super::seam::Seam;
use crate::Cpu;
use crate::delta::state::DeltaState;
use crate::delta::{self, Driven};
use crate::matrix::{Matrix, Product, multiply};
use crate::pool::Shares;
use crate::sequences::Sequences;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::GatedDeltaNet;

/// Packed weights of a gated delta net.
pub(super) struct DeltaBlock {
    pub(super) spec: GatedDeltaNet,
    /// All queries, all keys, all values.
    pub(super) mixed: Matrix,
    pub(super) gate: Matrix,
    pub(super) beta: Matrix,
    pub(super) alpha: Matrix,
    pub(super) output: Matrix,
    /// `[taps][channels]`.
    pub(super) convolution: Vec<f32>,
    /// Per value head.
    pub(super) time_bias: Vec<f32>,
    /// Per value head: `decay = exp(-rate * softplus(alpha + time bias))`.
    pub(super) rates: Vec<f32>,
    pub(super) norm: NormWeight,
}

/// Memory of a step.
#[derive(Default)]
pub(super) struct Scratch {
    mixed: Vec<f32>,
    gates: Vec<f32>,
    betas: Vec<f32>,
    /// First alphas.
    decays: Vec<f32>,
    edge: Vec<f32>,
    heads: Vec<f32>,
    key_queries: Vec<f32>,
    read: Vec<f32>,
    normed: Vec<f32>,
}

impl DeltaBlock {
    /// An empty cache.
    pub(super) fn cache(&self) -> DeltaState {
        DeltaState::new(delta::shape(&self.spec))
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.mixed, &self.gate, &self.beta, &self.alpha, &self.output].into_iter()
    }

    /// Across the seam to `block_out`; the states of layer `index` move on.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        seam: &Seam,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut layer::Scratch,
    ) -> Result<Option<&[f32]>, ExecutorError> {
        let (cpu, rows) = (step.cpu, step.rows);
        self.project(step, seam, scratch);
        let layer::Scratch { delta_net: scratch, activations, block_out, .. } = scratch;
        let Scratch { mixed, gates, betas, decays, edge, heads, key_queries, read, normed } = scratch;
        self.drive(cpu, betas, decays);

        let shape = delta::shape(&self.spec);
        edge.resize(delta::edge_len(&shape), 0.0);
        heads.resize(rows * shape.channels, 0.0);
        key_queries.resize(rows * self.spec.key_heads, 0.0);
        read.resize(rows * self.gate.rows(), 0.0);
        normed.resize(read.len(), 0.0);
        for placed in step.placed {
            let interrupted = || ExecutorError::Interrupted(placed.sequence.0);
            let state = sequences.get_mut(placed.sequence)?.kv[index].delta_net()?;
            let changing = state.change(placed.first).ok_or_else(interrupted)?;
            let range = placed.rows.start * shape.channels..placed.rows.end * shape.channels;
            let (before, after) = (&mixed[range.clone()], &mut heads[range]);
            delta::convolve(cpu, &shape, &self.convolution, changing.inputs, before, edge, after);
            let keyed = placed.rows.start * self.spec.key_heads..placed.rows.end * self.spec.key_heads;
            delta::norm_heads(cpu, &self.spec, after, &mut key_queries[keyed]);
            let driven = Driven { heads, key_queries, betas, decays };
            delta::recur(cpu, &self.spec, &driven, placed.rows.clone(), changing, read);
            state.changed(placed.end());
        }
        // norm(read) * silu(gates), head by head
        let (width, read) = (self.output.columns(), Shares::new(read));
        let needs = self.output.needs();
        activations.prepare_rows(cpu, normed, rows, width, needs, &|row, gated| {
            let own = row * width..(row + 1) * width;
            // SAFETY: each row belongs to one task.
            let read = unsafe { read.range(own.clone()) };
            self.norm.apply_in_place(cpu, read);
            cpu.kernels.silu_mul(&gates[own], read, gated);
        });
        multiply(cpu, activations, &mut [Product::new(&self.output, block_out)]);
        Ok(None)
    }

    /// The four projections, in one region.
    fn project(&self, step: &Step, seam: &Seam, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let inputs = [&self.mixed, &self.gate, &self.beta, &self.alpha];
        let needs = inputs.iter().fold(Default::default(), |needs, matrix| needs | matrix.needs());
        seam.cross(step, scratch, needs);
        let layer::Scratch { activations, delta_net, .. } = scratch;
        let Scratch { mixed, gates, betas, decays, .. } = delta_net;
        let parts = [(&self.mixed, mixed), (&self.gate, gates), (&self.beta, betas), (&self.alpha, decays)];
        let mut products = parts.map(|(matrix, out)| {
            out.resize(rows * matrix.rows(), 0.0);
            Product::new(matrix, out)
        });
        multiply(cpu, activations, &mut products);
    }

    /// From projected rows to betas and decays.
    fn drive(&self, cpu: &Cpu, betas: &mut [f32], alphas: &mut [f32]) {
        let heads = self.spec.value_heads;
        let rows = betas.len() / heads.max(1);
        let (betas, alphas) = (Shares::new(betas), Shares::new(alphas));
        cpu.pool.for_chunks(rows, 4, &|_, range| {
            let own = range.start * heads..range.end * heads;
            // SAFETY: each row belongs to one task.
            let (betas, alphas) = unsafe { (betas.range(own.clone()), alphas.range(own)) };
            betas.iter_mut().for_each(|beta| *beta = 1.0 / (1.0 + (-*beta).exp()));
            for alphas in alphas.chunks_exact_mut(heads) {
                for ((alpha, bias), rate) in alphas.iter_mut().zip(&self.time_bias).zip(&self.rates) {
                    *alpha = (-rate * softplus(*alpha + bias)).exp();
                }
            }
        });
    }
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
