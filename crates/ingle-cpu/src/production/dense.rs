//! The dense gated feed-forward: `down(activation(gate x, up x))`.

use super::layer::{self, Step};
use super::seam::Seam;
use crate::Cpu;
use crate::matrix::{Activations, Matrix, Needs, Product, multiply};
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
}

impl DenseBlock {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.gate, &self.up, &self.down].into_iter()
    }

    /// What it needs of its input.
    pub(super) fn needs(&self) -> Needs {
        self.gate.needs() | self.up.needs()
    }

    /// Across the seam to `block_out`.
    pub(super) fn run(&self, step: &Step, seam: &Seam, scratch: &mut layer::Scratch) -> Option<&[f32]> {
        seam.cross(step, scratch, self.needs());
        let layer::Scratch { block_out, activations, dense, .. } = scratch;
        self.run_prepared(step.cpu, step.rows, activations, dense, block_out);
        None
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
        let Scratch { gate, up } = scratch;
        for buffer in [&mut *gate, &mut *up] {
            buffer.resize(rows * width, 0.0);
        }
        multiply(cpu, input, &mut [Product::new(&self.gate, gate), Product::new(&self.up, up)]);
        input.prepare_numbers(cpu, rows, width, self.down.needs(), &|row, columns, inner| {
            let own = row * width + columns.start..row * width + columns.end;
            cpu.kernels.activate(self.activation, &gate[own.clone()], &up[own], inner);
        });
        multiply(cpu, input, &mut [Product::new(&self.down, out)]);
    }
}
