//! What each layer is given of a token, in plain arithmetic: a part of the token's row in a table of its own, joined by a
//! projection of the first layer's input; and the block of a layer that uses its part.

use super::{Reference, ops};
use ingle_model::executor::{Batch, ExecutorError};
use ingle_model::spec::{LayerInputs, Role, TokenBlock};

impl Reference {
    /// For each layer its part of every row, `[rows, width]`; `x` is the first layer's input.
    pub(super) fn layer_inputs(&self, batch: &Batch, x: &[f32]) -> Result<Vec<Vec<f32>>, ExecutorError> {
        let Some(inputs) = self.spec.embedding.layer_inputs else { return Ok(Vec::new()) };
        let LayerInputs { width, table_scale, projection_scale, scale, .. } = inputs;
        let table = self.tensor(Role::LayerInputTable, None)?;
        let mut projected = self.project(x, Role::LayerInputProjection, None, None)?;
        projected.iter_mut().for_each(|value| *value *= projection_scale);
        let projected = self.normed(&projected, Some(inputs.norm), Role::LayerInputNorm, None)?;
        let layers = self.spec.layers.len();
        let mut parts = vec![Vec::new(); layers];
        let mut of_token = vec![0.0; layers * width];
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        for (projected, &token) in projected.chunks_exact(layers * width).zip(tokens) {
            self.source.row(table, token as usize, &mut of_token)?;
            let sum = of_token
                .iter()
                .zip(projected)
                .map(|(row, projected)| scale * (table_scale * row + projected));
            let sum: Vec<f32> = sum.collect();
            parts.iter_mut().zip(sum.chunks_exact(width)).for_each(|(part, sum)| part.extend_from_slice(sum));
        }
        Ok(parts)
    }

    /// `norm(out(activation(gate x, input)))`, `input` being the layer's part.
    pub(super) fn token_block(
        &self,
        x: &[f32],
        block: &TokenBlock,
        input: &[f32],
        layer: usize,
    ) -> Result<Vec<f32>, ExecutorError> {
        let at = Some(layer);
        let mut gate = self.project(x, Role::TokenGate, None, at)?;
        for (gate, input) in gate.iter_mut().zip(input) {
            *gate = ops::activate(block.activation, *gate, *input);
        }
        let out = self.project(&gate, Role::TokenOutput, None, at)?;
        self.normed(&out, Some(block.norm), Role::TokenNorm, at)
    }
}
