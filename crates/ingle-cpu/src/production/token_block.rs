//! What each layer is given of a token: a part of the token's row in a table of its own, joined by a projection of the
//! first layer's input; and the block of a layer that uses its part, `norm(out(activation(gate x, part)))`.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::embedding::for_rows;
use super::layer::{self, Step};
use super::norm::NormWeight;
use super::seam::{Join, Seam};
use crate::Cpu;
use crate::matrix::{Activations, Matrix, Product, multiply};
use crate::pool::Shares;
use ingle_model::Source;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{Activation, LayerInputs, TensorSpec};

/// Packed weights of what is made before the first layer.
pub(super) struct LayerInputsBlock {
    pub(super) spec: LayerInputs,
    /// Its rows are read from the file: a step needs only a few.
    pub(super) table: TensorSpec,
    pub(super) projection: Matrix,
    pub(super) norm: NormWeight,
}

/// Packed weights of a layer's block.
pub(super) struct TokenBlockWeights {
    pub(super) activation: Activation,
    pub(super) gate: Matrix,
    pub(super) output: Matrix,
    pub(super) norm: NormWeight,
}

/// Memory of a step.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[layers][rows][width]`
    parts: Vec<f32>,
    projected: Vec<f32>,
    /// A row per thread.
    of_token: Vec<f32>,
    gate: Vec<f32>,
}

impl LayerInputsBlock {
    /// The layers' parts of every row of a step, from the first layer's input `x`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        source: &Source,
        tokens: &[u32],
        x: &[f32],
        activations: &mut Activations,
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        let LayerInputs { width, table_scale, projection_scale, scale, .. } = self.spec;
        let (rows, all) = (tokens.len(), self.projection.rows());
        let Scratch { parts, projected, of_token, .. } = scratch;
        projected.resize(rows * all, 0.0);
        parts.resize(rows * all, 0.0);
        of_token.resize(cpu.pool.threads() * all, 0.0);
        activations.prepare(cpu, x, rows, self.projection.columns(), self.projection.needs());
        multiply(cpu, activations, &mut [Product::new(&self.projection, projected)]);
        let (projected, parts, of_token) =
            (Shares::new(projected), Shares::new(parts), Shares::new(of_token));
        for_rows(cpu, rows, 2, &|thread, row| {
            // SAFETY: each row belongs to one task, and a thread has one task at a time.
            let (projected, of_token) = unsafe {
                (
                    projected.range(row * all..(row + 1) * all),
                    of_token.range(thread * all..(thread + 1) * all),
                )
            };
            cpu.kernels.scale(projected, projection_scale);
            self.norm.apply_in_place(cpu, projected);
            source.row(&self.table, tokens[row] as usize, of_token)?;
            let layers = of_token.chunks_exact(width).zip(projected.chunks_exact(width));
            for (layer, (of_token, projected)) in layers.enumerate() {
                let start = (layer * rows + row) * width;
                // SAFETY: each row of a layer belongs to one task.
                let part = unsafe { parts.range(start..start + width) };
                part.copy_from_slice(projected);
                cpu.kernels.axpy(table_scale, of_token, part);
                cpu.kernels.scale(part, scale);
            }
            Ok(())
        })
    }
}

impl TokenBlockWeights {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.gate, &self.output].into_iter()
    }

    /// Across the seam to `block_out`, what layer `index` makes of its part; and how that joins the residual stream.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        seam: &Seam,
        scratch: &mut layer::Scratch,
    ) -> Join<'_> {
        let (cpu, rows, width) = (step.cpu, step.rows, self.gate.rows());
        seam.cross(step, scratch, self.gate.needs());
        let layer::Scratch { block_out, activations, tokens, .. } = scratch;
        let Scratch { parts, gate, .. } = tokens;
        gate.resize(rows * width, 0.0);
        multiply(cpu, activations, &mut [Product::new(&self.gate, gate)]);
        let part = &parts[index * rows * width..][..rows * width];
        activations.prepare_numbers(cpu, rows, width, self.output.needs(), &|row, columns, inner| {
            let own = row * width + columns.start..row * width + columns.end;
            cpu.kernels.activate(self.activation, &gate[own.clone()], &part[own], inner);
        });
        multiply(cpu, activations, &mut [Product::new(&self.output, block_out)]);
        Join { after: Some(&self.norm), ..Join::default() }
    }
}
