//! The feed-forward without a gate: `down(activation(up x + bias)) + bias`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::layer::{self, Projection, Step};
use super::seam::Seam;
use crate::matrix::{Matrix, Product, multiply};
use crate::pool::Shares;
use ingle_model::spec::PlainActivation;

/// Packed weights of a feed-forward without a gate.
pub(super) struct PlainBlock {
    pub(super) activation: PlainActivation,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

/// Memory of a step: rows before the activation.
#[derive(Default)]
pub(super) struct Scratch {
    before: Vec<f32>,
}

impl PlainBlock {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.up.matrix, &self.down.matrix].into_iter()
    }

    /// Across the seam to `block_out`, and the bias that is left to add.
    pub(super) fn run(&self, step: &Step, seam: &Seam, scratch: &mut layer::Scratch) -> Option<&[f32]> {
        let (cpu, rows) = (step.cpu, step.rows);
        let (up, down) = (&self.up.matrix, &self.down.matrix);
        seam.cross(step, scratch, up.needs());
        let layer::Scratch { block_out, activations, plain, .. } = scratch;
        let (before, width) = (&mut plain.before, up.rows());
        before.resize(rows * width, 0.0);
        multiply(cpu, activations, &mut [Product::new(up, before)]);
        let before = Shares::new(before);
        activations.prepare_numbers(cpu, rows, width, down.needs(), &|row, columns, inner| {
            let own = row * width + columns.start..row * width + columns.end;
            // SAFETY: each number belongs to one task.
            let before = unsafe { before.range(own) };
            if let Some(bias) = &self.up.bias {
                cpu.kernels.add(before, &bias[columns]);
            }
            cpu.kernels.activate_plain(self.activation, before, inner);
        });
        multiply(cpu, activations, &mut [Product::new(down, block_out)]);
        self.down.bias.as_deref()
    }
}
