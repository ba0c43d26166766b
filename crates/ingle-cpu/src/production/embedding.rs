//! The input of the first layer: token rows, and for encoders positions, token types and a norm.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::norm::NormWeight;
use crate::Cpu;
use crate::pool::Shares;
use ingle_model::Source;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::TensorSpec;
use std::sync::{Mutex, PoisonError};

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
    /// `norm(scale * tokens[id] + positions[p] + token_type)` of every row of a step, `[rows, width]`. `spare` is memory
    /// to reuse.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        source: &Source,
        rows: (&[u32], &[usize]),
        spare: &mut Vec<f32>,
        x: &mut [f32],
    ) -> Result<(), ExecutorError> {
        let (tokens, positions) = rows;
        let width = x.len() / tokens.len().max(1);
        spare.resize(if self.positions.is_some() { cpu.pool.threads() * width } else { 0 }, 0.0);
        let (x, spare) = (Shares::new(x), Shares::new(spare));
        for_rows(cpu, tokens.len(), 8, &|thread, row| {
            // SAFETY: each row belongs to one task.
            let x = unsafe { x.range(row * width..(row + 1) * width) };
            source.row(&self.tokens, tokens[row] as usize, x)?;
            if self.scale != 1.0 {
                cpu.kernels.scale(x, self.scale);
            }
            if let Some(table) = &self.positions {
                // SAFETY: a thread has one task at a time.
                let of_position = unsafe { spare.range(thread * width..(thread + 1) * width) };
                source.row(table, positions[row], of_position)?;
                cpu.kernels.add(x, of_position);
            }
            if let Some(token_type) = &self.token_type {
                cpu.kernels.add(x, token_type);
            }
            if let Some(norm) = &self.norm {
                norm.apply_in_place(cpu, x);
            }
            Ok(())
        })
    }
}

/// Calls `f(thread, row)` for every row in parallel, `together` at a time, and gives an error if one of them did.
pub(super) fn for_rows(
    cpu: &Cpu,
    rows: usize,
    together: usize,
    f: &(impl Fn(usize, usize) -> Result<(), ExecutorError> + Sync),
) -> Result<(), ExecutorError> {
    let failure = Mutex::new(None);
    cpu.pool.for_chunks(rows, together, &|thread, mut range| {
        if let Err(error) = range.try_for_each(|row| f(thread, row)) {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
