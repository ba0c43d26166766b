//! The feed-forward without a gate: `down(activation(up x + bias)) + bias`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::layer::{self, Projection, Step};
use crate::Cpu;
use crate::matrix::{Matrix, Product, multiply};
use crate::pool::Shares;
use ingle_model::spec::PlainActivation;

/// Packed weights of a feed-forward without a gate.
pub(super) struct PlainBlock {
    pub(super) activation: PlainActivation,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

/// Memory of a step: rows before and after the activation.
#[derive(Default)]
pub(super) struct Scratch {
    before: Vec<f32>,
    inner: Vec<f32>,
}

impl PlainBlock {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.up.matrix, &self.down.matrix].into_iter()
    }

    /// From `normed` to `block_out`.
    pub(super) fn run(&self, step: &Step, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let up = &self.up.matrix;
        let layer::Scratch { normed, block_out, activations, plain, .. } = scratch;
        let Scratch { before, inner } = plain;
        before.resize(rows * up.rows(), 0.0);
        inner.resize(rows * up.rows(), 0.0);
        activations.prepare(cpu, normed, rows, up.columns(), up.needs());
        multiply(cpu, activations, &mut [Product::new(up, before)]);
        activate(cpu, self.activation, before, self.up.bias.as_deref().unwrap_or_default(), inner);
        self.down.apply(cpu, inner, rows, activations, block_out);
    }
}

/// `inner = activation(before + bias)`, row by row.
fn activate(cpu: &Cpu, activation: PlainActivation, before: &mut [f32], bias: &[f32], inner: &mut [f32]) {
    let width = bias.len();
    let (before, inner) = (Shares::new(before), Shares::new(inner));
    cpu.pool.for_chunks(inner.len() / width.max(1), 4, &|_, rows| {
        for row in rows {
            let range = row * width..(row + 1) * width;
            // SAFETY: each row belongs to one task.
            let (before, inner) = unsafe { (before.range(range.clone()), inner.range(range)) };
            cpu.kernels.add(before, bias);
            cpu.kernels.activate_plain(activation, before, inner);
        }
    });
}
