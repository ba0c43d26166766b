//! What each layer is given of a token: a part of the token's row in a table of its own, joined by a projection of the
//! first layer's input; and the block of a layer that uses its part, `norm(out(activation(gate x, part)))`.

use super::layer::{self, Step};
use super::norm::NormWeight;
use crate::Cpu;
use crate::matrix::{Activations, Matrix, Product, multiply};
use ingle_model::Source;
use ingle_model::executor::{Batch, ExecutorError};
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
    of_token: Vec<f32>,
    gate: Vec<f32>,
    inner: Vec<f32>,
}

impl LayerInputsBlock {
    /// The layers' parts of every row of a step, from the first layer's input `x`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        source: &Source,
        batch: &Batch,
        x: &[f32],
        activations: &mut Activations,
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        let LayerInputs { width, table_scale, projection_scale, scale, .. } = self.spec;
        let (rows, all) = (batch.rows(), self.projection.rows());
        let Scratch { parts, projected, of_token, .. } = scratch;
        projected.resize(rows * all, 0.0);
        parts.resize(rows * all, 0.0);
        of_token.resize(all, 0.0);
        activations.prepare(cpu, x, rows, self.projection.columns(), self.projection.needs());
        multiply(cpu, activations, &mut [Product::new(&self.projection, projected)]);
        cpu.kernels.scale(projected, projection_scale);
        self.norm.apply_in_place(cpu, projected);
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        for (row, (projected, &token)) in projected.chunks_exact(all).zip(tokens).enumerate() {
            source.row(&self.table, token as usize, of_token)?;
            let layers = of_token.chunks_exact(width).zip(projected.chunks_exact(width));
            for (layer, (of_token, projected)) in layers.enumerate() {
                let part = &mut parts[(layer * rows + row) * width..][..width];
                part.copy_from_slice(projected);
                cpu.kernels.axpy(table_scale, of_token, part);
                cpu.kernels.scale(part, scale);
            }
        }
        Ok(())
    }
}

impl TokenBlockWeights {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.gate, &self.output].into_iter()
    }

    /// Adds to the residual stream what layer `index` makes of its part.
    pub(super) fn run(&self, step: &Step, index: usize, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let layer::Scratch { x, block_out, activations, tokens, .. } = scratch;
        let Scratch { parts, gate, inner, .. } = tokens;
        let values = rows * self.gate.rows();
        gate.resize(values, 0.0);
        inner.resize(values, 0.0);
        activations.prepare(cpu, x, rows, self.gate.columns(), self.gate.needs());
        multiply(cpu, activations, &mut [Product::new(&self.gate, gate)]);
        cpu.kernels.activate(self.activation, gate, &parts[index * values..][..values], inner);
        activations.prepare(cpu, inner, rows, self.output.columns(), self.output.needs());
        multiply(cpu, activations, &mut [Product::new(&self.output, block_out)]);
        self.norm.apply_in_place(cpu, block_out);
        cpu.kernels.add(x, block_out);
    }
}
