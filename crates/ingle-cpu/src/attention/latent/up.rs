//! The two projections out of latent space, per head `K [nope, rank]` and `V [value, rank]`, held once, in 16-bit
//! floats, in the one layout from which both forms of attention read with the page kernels:
//!
//! - `K` as rows `[nope][rank]`: summed over its rows it takes a query into latent space (`K^T q`, absorbed form), each
//!   row scored against cached rows gives a value of their keys (expanded form);
//! - `V` with its output innermost, `[rank][64]` per 64 outputs: scored against a latent it gives the output (`V o`,
//!   absorbed form), summed over its rows it gives the values of cached rows (expanded form).
//!
//! Files keep them in many formats, `K` in either orientation. They are a few thousandths of a large model, and most
//! 16-bit numbers of checkpoints survive unrounded.

use crate::attention::cache::{halves, halves_mut};
use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::{Kernels, PAGE, PageWeights, QUERIES};
use half::f16;

/// Key and value projections of all heads.
#[derive(Debug)]
pub(crate) struct LatentUp {
    nope_dim: usize,
    value_dim: usize,
    rank: usize,
    /// `[heads][nope, whole pages][rank]`
    keys: Buffer,
    /// `[heads][value / 64][rank, whole pages][64]`
    values: Buffer,
}

impl LatentUp {
    /// All zero.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn zeroed(
        heads: usize,
        nope_dim: usize,
        value_dim: usize,
        rank: usize,
    ) -> Result<LatentUp, OutOfMemory> {
        let pages = |rows: usize| rows.div_ceil(PAGE).checked_mul(PAGE);
        let buffer = |rows: Option<usize>, columns: Option<usize>| {
            let numbers = rows.zip(columns).and_then(|(rows, columns)| rows.checked_mul(columns));
            let bytes = numbers.and_then(|numbers| numbers.checked_mul(heads)?.checked_mul(size_of::<f16>()));
            Buffer::zeroed(bytes.ok_or(OutOfMemory { bytes: usize::MAX })?)
        };
        let keys = buffer(pages(nope_dim), Some(rank))?;
        let values = buffer(pages(rank), pages(value_dim))?;
        Ok(LatentUp { nope_dim, value_dim, rank, keys, values })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes().len() + self.values.bytes().len()
    }

    /// Sets a row of a head's `K`, `[rank]`.
    pub(crate) fn set_key_row(&mut self, head: usize, row: usize, values: &[f32]) {
        let at = (head * self.key_rows() + row) * self.rank;
        let row = &mut halves_mut(self.keys.bytes_mut())[at..at + self.rank];
        row.iter_mut().zip(values).for_each(|(to, from)| *to = f16::from_f32(*from));
    }

    /// Sets a column of a head's `K`, `[nope]`.
    pub(crate) fn set_key_column(&mut self, head: usize, column: usize, values: &[f32]) {
        let (at, rank) = (head * self.key_rows() * self.rank, self.rank);
        let rows = halves_mut(self.keys.bytes_mut())[at..].chunks_exact_mut(rank);
        rows.zip(values).for_each(|(row, value)| row[column] = f16::from_f32(*value));
    }

    /// Sets a row of a head's `V`, `[rank]`.
    pub(crate) fn set_value_row(&mut self, head: usize, row: usize, values: &[f32]) {
        let at = self.value_tile_at(head, row / PAGE);
        let tile = halves_mut(self.values.bytes_mut())[at..].chunks_exact_mut(PAGE);
        tile.zip(values).for_each(|(outputs, value)| outputs[row % PAGE] = f16::from_f32(*value));
    }

    /// `K^T q` for up to 16 queries of a head, `[nope]` to `[rank]`.
    pub(super) fn absorb(&self, kernels: &Kernels, head: usize, queries: &[&[f32]], out: &mut [&mut [f32]]) {
        let mut weights: PageWeights = [[0.0; PAGE]; QUERIES];
        out.iter_mut().for_each(|out| out.fill(0.0));
        let pages = self.key_rows() / PAGE;
        for page in 0..pages {
            let (rows, ahead) = (self.key_page(head * pages + page), self.key_page(head * pages + page + 1));
            let count = PAGE.min(self.nope_dim - page * PAGE);
            for (weights, query) in weights.iter_mut().zip(queries) {
                weights[..count].copy_from_slice(&query[page * PAGE..][..count]);
            }
            kernels.page_accumulate(&weights, rows, count, ahead, out);
        }
    }

    /// `V o` for up to 16 latents of a head, `[rank]` to `[value]`.
    pub(super) fn raise(&self, kernels: &Kernels, head: usize, latents: &[&[f32]], out: &mut [&mut [f32]]) {
        let mut products: PageWeights = [[0.0; PAGE]; QUERIES];
        for first in (0..self.value_dim).step_by(PAGE) {
            let tile = &self.value_tile(head, first / PAGE)[..self.rank * PAGE];
            let ahead = self.value_tile(head, first / PAGE + 1);
            kernels.page_scores(latents, tile, ahead, &mut products);
            let count = PAGE.min(self.value_dim - first);
            for (out, products) in out.iter_mut().zip(&products) {
                out[first..first + count].copy_from_slice(&products[..count]);
            }
        }
    }

    /// A head's `K`, `[nope][rank]` and rows of zeros.
    pub(super) fn keys(&self, head: usize) -> &[f16] {
        let size = self.key_rows() * self.rank;
        &halves(self.keys.bytes())[head * size..][..size]
    }

    /// 64 rows of all heads' `K`; nothing after the last.
    fn key_page(&self, page: usize) -> &[f16] {
        let size = PAGE * self.rank;
        halves(self.keys.bytes()).get(page * size..(page + 1) * size).unwrap_or_default()
    }

    /// 64 outputs of a head's `V`, `[rank][64]` and rows of zeros up to whole pages. After a head's last tile comes the
    /// next head's first, after that nothing.
    pub(super) fn value_tile(&self, head: usize, tile: usize) -> &[f16] {
        let size = self.rank.next_multiple_of(PAGE) * PAGE;
        let at = self.value_tile_at(head, tile);
        halves(self.values.bytes()).get(at..at + size).unwrap_or_default()
    }

    fn value_tile_at(&self, head: usize, tile: usize) -> usize {
        (head * self.value_dim.div_ceil(PAGE) + tile) * self.rank.next_multiple_of(PAGE) * PAGE
    }

    fn key_rows(&self) -> usize {
        self.nope_dim.next_multiple_of(PAGE)
    }
}
