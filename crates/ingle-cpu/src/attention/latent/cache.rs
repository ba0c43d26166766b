//! What latent attention keeps of each position, in 16-bit floats: one row `[latent | rotated key]` for all heads,
//! and, where the network has an indexer, one indexer key.
//!
//! Rows lie one after the other, because sparse attention gathers single ones; indexer keys are all read at every step
//! and keep the position innermost, `[key][64]`, so that one vector holds one component of many positions. Both come
//! in pages of 64 positions and take what the specification counts: nothing is kept per head.

use crate::attention::cache::{halves, halves_mut, own, written};
use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::PAGE;
use crate::saved;
use half::f16;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Pages of one layer of one sequence. A clone shares them.
#[derive(Clone, Debug)]
pub(crate) struct LatentKv {
    width: usize,
    index_width: usize,
    rows: Vec<Arc<Buffer>>,
    index_keys: Vec<Arc<Buffer>>,
}

impl LatentKv {
    /// Rows of `width` values, indexer keys of `index_width` (0: no indexer).
    pub(crate) fn new(width: usize, index_width: usize) -> LatentKv {
        LatentKv { width, index_width, rows: Vec::new(), index_keys: Vec::new() }
    }

    /// Makes room for a step that fills `positions`.
    pub(crate) fn grow(&mut self, positions: Range<usize>) -> Result<(), OutOfMemory> {
        let page = |width: usize| Buffer::zeroed(width * PAGE * size_of::<f16>()).map(Arc::new);
        while self.rows.len() * PAGE < positions.end {
            self.rows.push(page(self.width)?);
        }
        while self.index_width > 0 && self.index_keys.len() * PAGE < positions.end {
            self.index_keys.push(page(self.index_width)?);
        }
        for pages in [&mut self.rows, &mut self.index_keys] {
            pages.iter_mut().skip(positions.start / PAGE).try_for_each(own)?;
        }
        Ok(())
    }

    /// Gives back the pages that hold no position before `positions`.
    pub(crate) fn shrink(&mut self, positions: usize) {
        self.rows.truncate(positions.div_ceil(PAGE));
        self.index_keys.truncate(positions.div_ceil(PAGE));
    }

    /// Values of a row and of an indexer key.
    pub(crate) fn widths(&self) -> (usize, usize) {
        (self.width, self.index_width)
    }

    /// The pages it holds.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &Arc<Buffer>> {
        self.rows.iter().chain(&self.index_keys)
    }

    /// Writes down the pages, whatever is in them.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        saved::put(to, &self.kind())?;
        self.pages().try_for_each(|page| saved::put_page(to, page))
    }

    /// Takes the place of this empty cache with what was written of one of `length` positions.
    pub(crate) fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()> {
        saved::expect(from, &self.kind())?;
        let mut read = LatentKv::new(self.width, self.index_width);
        for (pages, width) in [(&mut read.rows, self.width), (&mut read.index_keys, self.index_width)]
            .into_iter()
            .filter(|of| of.1 > 0)
        {
            for _ in 0..length.div_ceil(PAGE) {
                pages.push(saved::take_page(from, width * PAGE * size_of::<f16>())?);
            }
        }
        *self = read;
        Ok(())
    }

    /// What has to be the same where it is read.
    fn kind(&self) -> [u64; 3] {
        [saved::LATENT, self.width as u64, self.index_width as u64]
    }

    /// Stores the row of a position that there is room for.
    pub(crate) fn store_row(&mut self, position: usize, row: &[f16]) {
        let page = halves_mut(written(&mut self.rows[position / PAGE]));
        page[position % PAGE * self.width..][..self.width].copy_from_slice(row);
    }

    /// Stores the indexer key of a position that there is room for.
    pub(crate) fn store_index_key(&mut self, position: usize, key: &[f16]) {
        let page = halves_mut(written(&mut self.index_keys[position / PAGE]));
        for (column, value) in page.chunks_exact_mut(PAGE).zip(key) {
            column[position % PAGE] = *value;
        }
    }

    /// The row of a position, `[latent | rotated key]`.
    pub(crate) fn row(&self, position: usize) -> &[f16] {
        &halves(self.rows[position / PAGE].bytes())[position % PAGE * self.width..][..self.width]
    }

    /// Indexer keys of a page, `[key][64]`; nothing where there is no such page.
    pub(crate) fn index_page(&self, page: usize) -> &[f16] {
        self.index_keys.get(page).map_or(&[], |page| halves(page.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(width: usize, position: usize) -> Vec<f16> {
        (0..width).map(|at| f16::from_f32((position * 7 + at) as f32)).collect()
    }

    fn bytes(kv: &LatentKv) -> usize {
        kv.pages().map(|page| page.bytes().len()).sum()
    }

    #[test]
    fn rows_and_index_keys_come_back_from_where_they_were_put() {
        let mut kv = LatentKv::new(5, 3);
        kv.grow(0..130).unwrap();
        for position in [0, 63, 64, 129] {
            kv.store_row(position, &row(5, position));
            kv.store_index_key(position, &row(3, position + 1));
        }
        for position in [0, 63, 64, 129] {
            assert_eq!(kv.row(position), row(5, position));
            let page = kv.index_page(position / PAGE);
            let key: Vec<f16> = (0..3).map(|at| page[at * PAGE + position % PAGE]).collect();
            assert_eq!(key, row(3, position + 1));
        }
        assert!(kv.index_page(3).is_empty());
    }

    #[test]
    fn a_position_takes_its_row_and_its_index_key_and_no_more() {
        let mut kv = LatentKv::new(576, 128);
        kv.grow(0..65).unwrap();
        assert_eq!(bytes(&kv), 2 * 64 * (576 + 128) * 2);
        kv.shrink(64);
        assert_eq!(bytes(&kv), 64 * (576 + 128) * 2);
        kv.shrink(0);
        assert_eq!(bytes(&kv), 0);
        let mut dense = LatentKv::new(576, 0);
        dense.grow(0..1).unwrap();
        assert_eq!(bytes(&dense), 64 * 576 * 2);
    }
}
