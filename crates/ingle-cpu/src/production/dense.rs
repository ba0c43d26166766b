//! The dense gated feed-forward: `down(activation(gate x, up x))`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::layer::{self, Step};
use crate::Cpu;
use crate::matrix::{Matrix, Product, multiply};
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

    /// From `normed` to `block_out`.
    pub(super) fn run(&self, step: &Step, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let (hidden, width) = (self.gate.columns(), self.gate.rows());
        let layer::Scratch { normed, block_out, activations, dense, .. } = scratch;
        let Scratch { gate, up, inner } = dense;
        for buffer in [&mut *gate, &mut *up, &mut *inner] {
            buffer.resize(rows * width, 0.0);
        }
        activations.prepare(cpu, normed, rows, hidden, self.gate.needs() | self.up.needs());
        multiply(cpu, activations, &mut [Product::new(&self.gate, gate), Product::new(&self.up, up)]);
        combine(cpu, self.activation, gate, up, inner);
        activations.prepare(cpu, inner, rows, width, self.down.needs());
        multiply(cpu, activations, &mut [Product::new(&self.down, block_out)]);
    }
}

/// Gate and up combined, element by element.
fn combine(cpu: &Cpu, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    const CHUNK: usize = 16 * 1024;
    let shares = Shares::new(out);
    cpu.pool.for_chunks(gate.len(), CHUNK, &|_, range| {
        // SAFETY: ranges of one region do not overlap.
        let out = unsafe { shares.range(range.clone()) };
        let (gate, up) = (&gate[range.clone()], &up[range]);
        match activation {
            Activation::Silu => cpu.kernels.silu_mul(gate, up, out),
            Activation::GeluTanh => cpu.kernels.gelu_mul(gate, up, out),
            other => {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = crate::reference::activate(other, *gate, *up);
                }
            }
        }
    });
}
