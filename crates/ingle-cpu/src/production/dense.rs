//! The dense gated feed-forward: `down(activation(gate x, up x))`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::layer::{self, Step};
use crate::Cpu;
use crate::matrix::{Activations, Matrix, Needs, Product, multiply};
use crate::pool::Shares;
use ingle_model::spec::Activation;

/// Packed weights of a dense feed-forward.
pub(super) struct DenseBlock {
    pub(super) activation: Activation,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

/// Memory of a step.
#[derive(Default)]
pub(super) struct Scratch {
    gate: Vec<f32>,
    up: Vec<f32>,
    inner: Vec<f32>,
}

impl DenseBlock {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.gate, &self.up, &self.down].into_iter()
    }

    /// What it needs of its input.
    pub(super) fn needs(&self) -> Needs {
        self.gate.needs() | self.up.needs()
    }

    /// From `normed` to `block_out`.
    pub(super) fn run(&self, step: &Step, scratch: &mut layer::Scratch) {
        let layer::Scratch { normed, block_out, activations, dense, .. } = scratch;
        activations.prepare(step.cpu, normed, step.rows, self.gate.columns(), self.needs());
        self.run_prepared(step.cpu, step.rows, activations, dense, block_out);
    }

    /// From what `input` was prepared with to `out`; `input` is used further on.
    pub(super) fn run_prepared(
        &self,
        cpu: &Cpu,
        rows: usize,
        input: &mut Activations,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let width = self.gate.rows();
        let Scratch { gate, up, inner } = scratch;
        for buffer in [&mut *gate, &mut *up, &mut *inner] {
            buffer.resize(rows * width, 0.0);
        }
        multiply(cpu, input, &mut [Product::new(&self.gate, gate), Product::new(&self.up, up)]);
        combine(cpu, self.activation, gate, up, inner);
        input.prepare(cpu, inner, rows, width, self.down.needs());
        multiply(cpu, input, &mut [Product::new(&self.down, out)]);
    }
}

/// Gate and up combined, element by element.
fn combine(cpu: &Cpu, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    const CHUNK: usize = 16 * 1024;
    let shares = Shares::new(out);
    cpu.pool.for_chunks(gate.len(), CHUNK, &|_, range| {
        // SAFETY: ranges of one region do not overlap.
        let out = unsafe { shares.range(range.clone()) };
        cpu.kernels.activate(activation, &gate[range.clone()], &up[range], out);
    });
}
