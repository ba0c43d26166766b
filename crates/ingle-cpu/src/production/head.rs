//! From normed hidden rows to logits.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::layer::Projection;
use crate::Cpu;
use crate::matrix::{Activations, Product, multiply};
use crate::pool::Shares;

/// Packed weights of the head.
pub(super) struct HeadBlock {
    pub(super) projection: Projection,
    /// `cap * tanh(logits / cap)`.
    pub(super) soft_cap: Option<f32>,
}

impl HeadBlock {
    /// The rows that `normed` was prepared with to `logits`, `[rows, vocabulary]`.
    pub(super) fn run(&self, cpu: &Cpu, normed: &Activations, logits: &mut [f32]) {
        let Projection { matrix, bias } = &self.projection;
        multiply(cpu, normed, &mut [Product::new(matrix, logits)]);
        if bias.is_some() || self.soft_cap.is_some() {
            finish(cpu, matrix.rows(), bias.as_deref(), self.soft_cap, logits);
        }
    }
}

/// Adds the bias and caps, in pieces of rows.
fn finish(cpu: &Cpu, vocabulary: usize, bias: Option<&[f32]>, soft_cap: Option<f32>, logits: &mut [f32]) {
    const PIECE: usize = 16 * 1024;
    let pieces = vocabulary.div_ceil(PIECE);
    let rows = logits.len() / vocabulary.max(1);
    let shares = Shares::new(logits);
    cpu.pool.for_chunks(rows * pieces, 1, &|_, range| {
        for piece in range {
            let (row, first) = (piece / pieces, piece % pieces * PIECE);
            let columns = first..vocabulary.min(first + PIECE);
            // SAFETY: each piece belongs to one task.
            let logits =
                unsafe { shares.range(row * vocabulary + columns.start..row * vocabulary + columns.end) };
            if let Some(bias) = bias {
                cpu.kernels.add(logits, &bias[columns]);
            }
            if let Some(cap) = soft_cap {
                cpu.kernels.soft_cap(logits, cap);
            }
        }
    });
}
