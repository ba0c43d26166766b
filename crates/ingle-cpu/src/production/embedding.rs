//! The input of the first layer: token rows, and for encoders positions, token types and a norm.

use super::norm::NormWeight;
use crate::Cpu;
use crate::sequences::Placed;
use ingle_model::Source;
use ingle_model::executor::{Batch, ExecutorError};
use ingle_model::spec::TensorSpec;

/// Where the tables lie. Their rows are read from the file: a step needs only a few.
pub(super) struct EmbeddingBlock {
    pub(super) scale: f32,
    pub(super) tokens: TensorSpec,
    pub(super) positions: Option<TensorSpec>,
    /// The row of the first token type, which all tokens of a plain text have.
    pub(super) token_type: Option<Vec<f32>>,
    pub(super) norm: Option<NormWeight>,
}

impl EmbeddingBlock {
    /// `norm(scale * tokens[id] + positions[p] + token_type)` of every row of a step, `[rows, width]`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        source: &Source,
        batch: &Batch,
        placed: &[Placed],
        width: usize,
        x: &mut [f32],
    ) -> Result<(), ExecutorError> {
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        let positions = placed.iter().flat_map(|slice| slice.first..slice.end());
        let mut table_row = vec![0.0; if self.positions.is_some() { width } else { 0 }];
        for ((row, &token), position) in x.chunks_exact_mut(width).zip(tokens).zip(positions) {
            source.row(&self.tokens, token as usize, row)?;
            if self.scale != 1.0 {
                cpu.kernels.scale(row, self.scale);
            }
            if let Some(table) = &self.positions {
                source.row(table, position, &mut table_row)?;
                cpu.kernels.add(row, &table_row);
            }
            if let Some(token_type) = &self.token_type {
                cpu.kernels.add(row, token_type);
            }
        }
        if let Some(norm) = &self.norm {
            norm.apply_in_place(cpu, x);
        }
        Ok(())
    }
}
