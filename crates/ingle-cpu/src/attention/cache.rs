//! Keys and values of one layer of one sequence, in 16-bit floats, in pages of 64 positions that are added as a
//! sequence grows.
//!
//! A page keeps keys with the position innermost, `[kv head][key dim][64]`, so that one vector holds one component of
//! many positions and scores need no horizontal sums; values lie `[kv head][64][value dim]`.
#![allow(unsafe_code)] // bytes of a page are read as 16-bit floats

use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::PAGE;
use half::f16;

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
}

/// A layer's pages.
#[derive(Debug)]
pub(crate) struct LayerKv {
    pub(crate) shape: CacheShape,
    pages: Vec<Buffer>,
}

impl LayerKv {
    pub(crate) fn new(shape: CacheShape) -> LayerKv {
        LayerKv { shape, pages: Vec::new() }
    }

    /// Makes room for `positions` positions.
    pub(crate) fn grow(&mut self, positions: usize) -> Result<(), OutOfMemory> {
        while self.pages.len() * PAGE < positions {
            self.pages.push(Buffer::zeroed(self.shape.page_values() * size_of::<f16>())?);
        }
        Ok(())
    }

    /// Gives back the pages that hold no position before `positions`.
    pub(crate) fn shrink(&mut self, positions: usize) {
        self.pages.truncate(positions.div_ceil(PAGE));
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.pages.len() * self.shape.page_values() * size_of::<f16>()) as u64
    }

    /// Stores keys `[kv heads * key dim]` and values `[kv heads * value dim]` of a position that there is room for.
    pub(crate) fn store(&mut self, position: usize, keys: &[f16], values: &[f16]) {
        let CacheShape { kv_heads, key_dim, value_dim } = self.shape;
        let key_values = self.shape.keys();
        let page = halves_mut(self.pages[position / PAGE].bytes_mut());
        let (page_keys, page_values) = page.split_at_mut(key_values);
        let slot = position % PAGE;
        for (column, key) in page_keys.chunks_exact_mut(PAGE).zip(&keys[..kv_heads * key_dim]) {
            column[slot] = *key;
        }
        for (head, value) in values.chunks_exact(value_dim).enumerate() {
            let at = (head * PAGE + slot) * value_dim;
            page_values[at..at + value_dim].copy_from_slice(value);
        }
    }

    /// Keys `[key dim][64]` and values `[64][value dim]` of one KV head in one page.
    pub(crate) fn tile(&self, page: usize, kv_head: usize) -> (&[f16], &[f16]) {
        let CacheShape { key_dim, value_dim, .. } = self.shape;
        let halves = halves(self.pages[page].bytes());
        let (keys, values) = halves.split_at(self.shape.keys());
        let (keys_of, values_of) = (key_dim * PAGE, value_dim * PAGE);
        (&keys[kv_head * keys_of..][..keys_of], &values[kv_head * values_of..][..values_of])
    }
}

fn halves(bytes: &[u8]) -> &[f16] {
    // SAFETY: every bit pattern is an f16; `align_to` splits off what is not aligned (nothing: buffers are aligned).
    unsafe { bytes.align_to::<f16>().1 }
}

fn halves_mut(bytes: &mut [u8]) -> &mut [f16] {
    // SAFETY: as in `halves`.
    unsafe { bytes.align_to_mut::<f16>().1 }
}
