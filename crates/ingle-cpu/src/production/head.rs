//! From normed hidden rows to logits.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::layer::Projection;
use crate::Cpu;
use crate::matrix::Activations;
use crate::pool::Shares;

/// Packed weights of the head.
pub(super) struct HeadBlock {
    pub(super) projection: Projection,
    /// `cap * tanh(logits / cap)`.
    pub(super) soft_cap: Option<f32>,
}

impl HeadBlock {
    /// `rows` normed rows to `logits`, `[rows, vocabulary]`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        normed: &[f32],
        rows: usize,
        activations: &mut Activations,
        logits: &mut [f32],
    ) {
        self.projection.apply(cpu, normed, rows, activations, logits);
        if let Some(cap) = self.soft_cap {
            cap_logits(cpu, logits, cap);
        }
    }
}

fn cap_logits(cpu: &Cpu, logits: &mut [f32], cap: f32) {
    const CHUNK: usize = 16 * 1024;
    let shares = Shares::new(logits);
    cpu.pool.for_chunks(shares.len(), CHUNK, &|_, range| {
        // SAFETY: ranges of one region do not overlap.
        cpu.kernels.soft_cap(unsafe { shares.range(range) }, cap);
    });
}
