//! The seam between two blocks: what the one before made joins the residual stream, and the next one's input is made
//! of that:
//!
//! ```text
//! x = scale * joined(x + after(block_out + bias))     normed = norm(x)
//! ```
//!
//! A row passes through all of it, and is rounded for the products to come, on one thread while it is in that core's
//! cache; many rows are one parallel region.
#![allow(unsafe_code)] // threads write disjoint rows of shared slices

use super::layer::{Scratch, Step};
use super::norm::NormWeight;
use crate::Cpu;
use crate::matrix::Needs;
use crate::pool::Shares;

/// How what a block made joins the residual stream.
#[derive(Clone, Copy, Default)]
pub(super) struct Join<'a> {
    /// Of the block's last projection.
    pub(super) bias: Option<&'a [f32]>,
    /// Norm of what the block made.
    pub(super) after: Option<&'a NormWeight>,
    /// Norm of the residual stream that it has joined.
    pub(super) joined: Option<&'a NormWeight>,
    /// Factor on all of it.
    pub(super) scale: Option<f32>,
}

impl Join<'_> {
    /// One row of the residual stream and of what was made.
    fn row(&self, cpu: &Cpu, x: &mut [f32], made: &mut [f32]) {
        if let Some(bias) = self.bias {
            cpu.kernels.add(made, bias);
        }
        if let Some(norm) = self.after {
            norm.apply_in_place(cpu, made);
        }
        cpu.kernels.add(x, made);
        if let Some(norm) = self.joined {
            norm.apply_in_place(cpu, x);
        }
        if let Some(scale) = self.scale {
            cpu.kernels.scale(x, scale);
        }
    }
}

/// What lies between two blocks.
#[derive(Clone, Copy, Default)]
pub(super) struct Seam<'a> {
    /// `None` where nothing is on its way, as before the first block.
    pub(super) join: Option<Join<'a>>,
    /// Norm of the next block's input.
    pub(super) norm: Option<&'a NormWeight>,
}

impl Seam<'_> {
    /// From `x` and `block_out` to `x`, `normed` (the rows themselves where there is no norm) and `activations`, in the
    /// forms that the next products need.
    pub(super) fn cross(&self, step: &Step, scratch: &mut Scratch, needs: Needs) {
        let (cpu, rows, width) = (step.cpu, step.rows, step.hidden);
        let Scratch { x, normed, block_out, activations, .. } = scratch;
        let (x, made) = (Shares::new(x), Shares::new(block_out));
        activations.prepare_rows(cpu, normed, rows, width, needs, &|row, normed| {
            let own = row * width..(row + 1) * width;
            // SAFETY: each row belongs to one task.
            let (x, made) = unsafe { (x.range(own.clone()), made.range(own)) };
            if let Some(join) = &self.join {
                join.row(cpu, x, made);
            }
            match self.norm {
                Some(norm) => norm.apply(cpu, x, normed),
                None => normed.copy_from_slice(x),
            }
        });
    }
}

/// Keeps the given rows of the residual stream and of what is to join it, and forgets the others.
pub(super) fn keep_rows(scratch: &mut Scratch, width: usize, rows: &[usize]) {
    debug_assert!(rows.is_sorted());
    let Scratch { x, normed, block_out, .. } = scratch;
    for values in [&mut *x, &mut *block_out, &mut *normed] {
        for (to, &from) in rows.iter().enumerate().filter(|&(to, &from)| to != from) {
            values.copy_within(from * width..(from + 1) * width, to * width);
        }
        values.truncate(rows.len() * width);
    }
}
