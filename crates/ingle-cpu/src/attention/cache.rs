//! Keys and values of one layer of one sequence, in 16-bit floats, in pages of 64 positions that are added as a
//! sequence grows.
//!
//! A page keeps keys with the position innermost, `[kv head][key dim][64]`, so that one vector holds one component of
//! many positions and scores need no horizontal sums; values lie `[kv head][64][value dim]`.
//!
//! Where a layer sees only a window, pages wholly before it are taken for the positions to come: a sequence of any
//! length holds its window, [`SLACK`] positions before it, the rows of the step, and what fills up the pages at both
//! ends. It can go back as far as the pages it holds still cover a whole window.
#![allow(unsafe_code)] // bytes of a page are read as 16-bit floats; threads write pages of their own

use crate::Cpu;
use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::PAGE;
use crate::pool::Shares;
use half::f16;
use std::collections::VecDeque;
use std::ops::Range;

/// Positions kept before a window, so that a sequence can take some tokens back without starting anew.
pub(crate) const SLACK: usize = 64;

/// Sizes of a layer's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    pub(crate) kv_heads: usize,
    pub(crate) key_dim: usize,
    pub(crate) value_dim: usize,
}

impl CacheShape {
    fn keys(&self) -> usize {
        self.kv_heads * self.key_dim * PAGE
    }

    fn page_values(&self) -> usize {
        self.keys() + self.kv_heads * self.value_dim * PAGE
    }

    /// Rows of keys and values into a page, from position `slot` of it on.
    fn fill(&self, page: &mut [f16], slot: usize, keys: &[f16], values: &[f16]) {
        /// Rows turned together: so many that a column's share of a cache line is written at once, so few that their
        /// lines stay in the cache whatever their distance.
        const ROWS: usize = 8;
        let (page_keys, page_values) = page.split_at_mut(self.keys());
        let key_row = self.kv_heads * self.key_dim;
        for (block, keys) in keys.chunks(ROWS * key_row).enumerate() {
            let slot = slot + block * ROWS;
            for (at, column) in page_keys.chunks_exact_mut(PAGE).enumerate() {
                let keys = keys[at..].iter().step_by(key_row);
                column[slot..].iter_mut().zip(keys).for_each(|(slot, key)| *slot = *key);
            }
        }
        for (row, values) in values.chunks_exact(self.kv_heads * self.value_dim).enumerate() {
            for (head, value) in values.chunks_exact(self.value_dim).enumerate() {
                let at = (head * PAGE + slot + row) * self.value_dim;
                page_values[at..at + self.value_dim].copy_from_slice(value);
            }
        }
    }
}

/// A layer's pages.
#[derive(Debug)]
pub(crate) struct LayerKv {
    pub(crate) shape: CacheShape,
    /// Positions that a row sees, itself included; `None` is all before it.
    window: Option<usize>,
    /// Number of the first page held: those before it are forgotten.
    first: usize,
    pages: VecDeque<Buffer>,
}

impl LayerKv {
    pub(crate) fn new(shape: CacheShape, window: Option<usize>) -> LayerKv {
        LayerKv { shape, window, first: 0, pages: VecDeque::new() }
    }

    /// Makes room for a step that fills `positions`, and forgets what neither it nor a step after it will see.
    pub(crate) fn grow(&mut self, positions: Range<usize>) -> Result<(), OutOfMemory> {
        let seen = self.seen_from(positions.start);
        let wanted = seen.saturating_sub(SLACK) / PAGE..positions.end.div_ceil(PAGE);
        while self.first + self.pages.len() < wanted.end {
            // a page that is no longer wanted becomes the next one
            let old = if self.first < wanted.start { self.pages.pop_front() } else { None };
            self.first += usize::from(old.is_some());
            let page = match old {
                Some(page) => page,
                None => Buffer::zeroed(self.shape.page_values() * size_of::<f16>())?,
            };
            self.pages.push_back(page);
        }
        // what a long step needed is given back; what steps of one row come to need stays, for the next positions
        let steady = self.window.map_or(0, |window| window.saturating_add(SLACK + PAGE - 2) / PAGE + 1);
        while self.first < wanted.start && self.pages.len() > steady && self.pages.pop_front().is_some() {
            self.first += 1;
        }
        Ok(())
    }

    /// The longest length, at most `positions`, whose next row finds all that it sees: 0 where pages of its window are
    /// gone.
    pub(crate) fn earlier(&self, positions: usize) -> usize {
        if self.seen_from(positions) >= self.first * PAGE { positions } else { 0 }
    }

    /// Forgets the positions from `positions` on, which [`earlier`](Self::earlier) has allowed.
    pub(crate) fn shrink(&mut self, positions: usize) {
        self.pages.truncate(positions.div_ceil(PAGE).saturating_sub(self.first));
        if self.pages.is_empty() {
            self.first = positions / PAGE;
        }
    }

    /// The first position that a row at `position` sees.
    fn seen_from(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.pages.len() * self.shape.page_values() * size_of::<f16>()) as u64
    }

    /// Stores rows of keys `[kv heads * key dim]` and values `[kv heads * value dim]` of the positions from `first` on,
    /// which there is room for.
    pub(crate) fn store(&mut self, cpu: &Cpu, first: usize, keys: &[f16], values: &[f16]) {
        let (shape, first_page) = (self.shape, self.first);
        let (key_row, value_row) = (shape.kv_heads * shape.key_dim, shape.kv_heads * shape.value_dim);
        let positions = first..first + keys.len() / key_row;
        let pages = Shares::new(self.pages.make_contiguous());
        let touched = first / PAGE..positions.end.div_ceil(PAGE);
        cpu.pool.for_chunks(touched.len(), 1, &|_, range| {
            for page in touched.start + range.start..touched.start + range.end {
                let inside = positions.start.max(page * PAGE)..positions.end.min((page + 1) * PAGE);
                let rows = inside.start - first..inside.end - first;
                let at = page - first_page;
                // SAFETY: each page belongs to one task.
                let page = halves_mut(unsafe { &mut pages.range(at..at + 1)[0] }.bytes_mut());
                let keys = &keys[rows.start * key_row..rows.end * key_row];
                let values = &values[rows.start * value_row..rows.end * value_row];
                shape.fill(page, inside.start % PAGE, keys, values);
            }
        });
    }

    /// Keys `[key dim][64]` and values `[64][value dim]` of one KV head in one page.
    pub(crate) fn tile(&self, page: usize, kv_head: usize) -> (&[f16], &[f16]) {
        let CacheShape { key_dim, value_dim, .. } = self.shape;
        let halves = halves(self.pages[page - self.first].bytes());
        let (keys, values) = halves.split_at(self.shape.keys());
        let (keys_of, values_of) = (key_dim * PAGE, value_dim * PAGE);
        (&keys[kv_head * keys_of..][..keys_of], &values[kv_head * values_of..][..values_of])
    }
}

/// Bytes as 16-bit floats.
pub(super) fn halves(bytes: &[u8]) -> &[f16] {
    // SAFETY: every bit pattern is an f16; `align_to` splits off what is not aligned (nothing: buffers are aligned).
    unsafe { bytes.align_to::<f16>().1 }
}

/// Bytes as 16-bit floats, to change.
pub(super) fn halves_mut(bytes: &mut [u8]) -> &mut [f16] {
    // SAFETY: as in `halves`.
    unsafe { bytes.align_to_mut::<f16>().1 }
}
