//! Rows of another network join the token embeddings: `x = join(concat(norm(x), norm(beside)))`.

use super::norm::NormWeight;
use crate::Cpu;
use crate::matrix::{Activations, Matrix, Product, multiply};

/// Packed weights of the join.
pub(super) struct JoinBlock {
    /// Of the embedding.
    pub(super) embedding: NormWeight,
    /// Of the other network's row.
    pub(super) hidden: NormWeight,
    /// `[width, 2 * width]`
    pub(super) matrix: Matrix,
}

impl JoinBlock {
    /// From embeddings `x` and the rows `beside` them, both `[rows, width]`, to joined rows in `x`. `both` is memory to
    /// reuse.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        beside: &[f32],
        x: &mut [f32],
        both: &mut Vec<f32>,
        activations: &mut Activations,
    ) {
        let width = self.matrix.rows();
        let rows = x.len() / width;
        both.resize(rows * 2 * width, 0.0);
        activations.prepare_rows(cpu, both, rows, 2 * width, self.matrix.needs(), &|row, both| {
            let (embedding, hidden) = both.split_at_mut(width);
            let own = row * width..(row + 1) * width;
            self.embedding.apply(cpu, &x[own.clone()], embedding);
            self.hidden.apply(cpu, &beside[own], hidden);
        });
        multiply(cpu, activations, &mut [Product::new(&self.matrix, x)]);
    }
}
