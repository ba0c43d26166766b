//! Attention over one page of a cache in 16-bit integers, for several queries at once:
//!
//! ```text
//! dots[i][p]  = sum_d query[i][d] key[d][p]                                    integers, exact
//! t[p]        = dots[p] key_scale[p] factor, perhaps soft-capped               scores, in powers of two
//! w[p]        = 2^(t[p] - largest)                                             largest so far
//! weight[p]   = w[p] value_scale[p] / unit, unit = sum_p w[p] value_scale[p] / WEIGHTS    rounded to integers
//! out[i][d]   = shrink[i] out[i][d] + unit[i] sum_p weight[i][p] value[p][d]   integers within a page
//! ```
//!
//! Keys lie as `[key dim / 2][64][2]`, values as `[32][value dim][2]`: a lane multiplies two neighbours and adds both
//! products, which is twice what floats of 32 bits do in the same time, and nothing is converted on the way. Scales keep
//! every sum within 32 bits: a key row and a query are no longer than `LENGTH`, so their product is below its square
//! (Cauchy-Schwarz); the weights of a page come to `WEIGHTS`, so their sum is below that times `LARGEST`.
//!
//! 8-bit pages hold the same integers as products of a signed byte and a factor (unsigned byte) per block of 32
//! components, 4-bit pages as products of a number from -7 to 7 and such a factor; both are widened, exactly, before they
//! are used.
//!
//! A page of one head is a few kilobytes, too short for the processor to guess what comes next, so each product asks for
//! the bytes (`ahead`) that the product after it will read.

#![allow(unsafe_code)]

mod scalar;
#[cfg(test)]
mod tests;
pub(in crate::kernels) mod text;

use super::{Kernels, PAGE};
use half::bf16;

/// Components of a cached row that share a factor, where rows are kept in 8 bits.
pub(crate) const CACHE_BLOCK: usize = 32;
/// Greatest length, root of the sum of squares, of a query or key in 16-bit integers: products fit in 32 bits, even
/// where 8-bit keys have come out a little longer.
const LENGTH: f32 = 45_000.0;
/// Greatest 16-bit integer of a row, and greatest product of a signed byte, or of 4 signed bits, and a factor of 255.
const LARGEST: [f32; 3] = [32_767.0, 127.0 * 255.0, 7.0 * 255.0];
/// What the integer weights of a page come to: each fits 16 bits, and with values their sum fits 32 bits.
const WEIGHTS: f32 = 32_700.0;
/// Rows whose scale would be smaller are zero.
const SMALLEST_SCALE: f32 = 1e-30;

/// What the integers that a row of floats becomes must not exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowLimits {
    largest: f32,
    /// Infinity where the length does not matter.
    length: f32,
    /// Greatest number that a factor is multiplied by, where there are factors.
    number: f32,
}

impl RowLimits {
    /// Of queries, and of keys in 16 bits.
    pub(crate) const KEY: RowLimits = RowLimits { largest: LARGEST[0], length: LENGTH, number: 1.0 };
    /// Of keys in 8 bits.
    pub(crate) const KEY_8: RowLimits = RowLimits { largest: LARGEST[1], length: LENGTH, number: 127.0 };
    /// Of keys in 4 bits.
    pub(crate) const KEY_4: RowLimits = RowLimits { largest: LARGEST[2], length: LENGTH, number: 7.0 };
    /// Of values in 16 bits.
    pub(crate) const VALUE: RowLimits = RowLimits { largest: LARGEST[0], length: f32::INFINITY, number: 1.0 };
    /// Of values in 8 bits.
    pub(crate) const VALUE_8: RowLimits =
        RowLimits { largest: LARGEST[1], length: f32::INFINITY, number: 127.0 };
    /// Of values in 4 bits.
    pub(crate) const VALUE_4: RowLimits =
        RowLimits { largest: LARGEST[2], length: f32::INFINITY, number: 7.0 };

    /// The scale of a row whose largest magnitude and length are given, rounded up to a bfloat16, and its inverse. What
    /// is not finite has a scale that is not a number.
    fn scale(self, largest: f32, length: f32) -> (f32, f32) {
        if !largest.is_finite() || !length.is_finite() {
            return (f32::NAN, 0.0);
        }
        let needed = (largest / self.largest).max(length / self.length);
        if needed < SMALLEST_SCALE {
            return (0.0, 0.0);
        }
        let scale = f32::from_bits((needed.to_bits() + 0xffff) & 0xffff_0000);
        (scale, 1.0 / scale)
    }
}

/// Softmax of one query, page by page: the weighted sum so far is relative to the largest score so far.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    /// What the product of a position's key with the query, and with the key's scale, is multiplied by to be a score.
    pub(crate) factor: f32,
    /// Positions seen of the page that comes next.
    pub(crate) seen: std::ops::Range<usize>,
    /// The largest score so far, in powers of two: `score * log2(e)`.
    pub(crate) largest: f32,
    /// Sum so far of `2^(score - largest)`.
    pub(crate) sum: f32,
    /// What the sums of the pages before are to be multiplied by.
    pub(crate) shrink: f32,
    /// What the page's sum of integer weights and values is to be multiplied by.
    pub(crate) unit: f32,
}

impl Softmax {
    /// Before any page.
    pub(crate) fn new(factor: f32) -> Softmax {
        Softmax { factor, seen: 0..0, largest: f32::NEG_INFINITY, sum: 0.0, shrink: 1.0, unit: 0.0 }
    }
}

/// The kernels of one instruction set.
#[allow(clippy::type_complexity)] // the types are the signatures
pub(crate) struct CachedKernels {
    pub(in crate::kernels) dots: unsafe fn(&[i16], &[i16], &[u8], &mut [[i32; PAGE]]),
    pub(in crate::kernels) weigh: unsafe fn(
        &[[i32; PAGE]],
        &[bf16; PAGE],
        &[bf16; PAGE],
        Option<f32>,
        &mut [Softmax],
        &mut [[i16; PAGE]],
    ),
    pub(in crate::kernels) sum_values:
        unsafe fn(&[[i16; PAGE]], &[Softmax], &[i16], usize, &[u8], &mut [f32]),
    pub(in crate::kernels) to_words: unsafe fn(&[f32], RowLimits, &mut [i16]) -> f32,
    pub(in crate::kernels) to_bytes: unsafe fn(&[f32], RowLimits, &mut [i8], &mut [u8]) -> f32,
    pub(in crate::kernels) widen_keys: unsafe fn(&[i8], &[u8], &[u8], &mut [i16]),
    pub(in crate::kernels) widen_values: unsafe fn(&[i8], &[u8], usize, &[u8], &mut [i16]),
    pub(in crate::kernels) widen_key_nibbles: unsafe fn(&[u8], &[u8], &[u8], &mut [i16]),
    pub(in crate::kernels) widen_value_nibbles: unsafe fn(&[u8], &[u8], usize, &[u8], &mut [i16]),
}

/// Those of every processor.
pub(super) const SCALAR: CachedKernels = CachedKernels {
    dots: scalar::dots,
    weigh: scalar::weigh,
    sum_values: scalar::sum_values,
    to_words: scalar::to_words,
    to_bytes: scalar::to_bytes,
    widen_keys: scalar::widen_keys,
    widen_values: scalar::widen_values,
    widen_key_nibbles: scalar::widen_key_nibbles,
    widen_value_nibbles: scalar::widen_value_nibbles,
};

// In each method, SAFETY: the table exists only where its instruction set does (see `Kernels::for_isa`), and the lengths
// that the function relies on are asserted before.
impl Kernels {
    /// `out[i][p] = sum of queries[i][d] * keys[d][p]`: `queries` is `[out.len()][width]` of even width, `keys`
    /// `[width / 2][64][2]`. Brings `ahead` into the cache.
    pub(crate) fn dots(&self, queries: &[i16], keys: &[i16], ahead: &[u8], out: &mut [[i32; PAGE]]) {
        assert!(keys.len().is_multiple_of(2 * PAGE) && queries.len() == out.len() * (keys.len() / PAGE));
        // SAFETY: see the head of the block.
        unsafe { (self.cached.dots)(queries, keys, ahead, out) }
    }

    /// Softmax of queries over the positions of a page that each sees, from [`dots`](Self::dots), joined with the pages
    /// before: updates `rows`, and fills `weights` with what values are multiplied by (see [`Softmax`]).
    pub(crate) fn weigh(
        &self,
        dots: &[[i32; PAGE]],
        key_scales: &[bf16; PAGE],
        value_scales: &[bf16; PAGE],
        soft_cap: Option<f32>,
        rows: &mut [Softmax],
        weights: &mut [[i16; PAGE]],
    ) {
        assert!(dots.len() == rows.len() && dots.len() == weights.len());
        // SAFETY: see the head of the block.
        unsafe { (self.cached.weigh)(dots, key_scales, value_scales, soft_cap, rows, weights) }
    }

    /// `out[i][d] = shrink[i] * out[i][d] + unit[i] * sum of weights[i][p] * values[p][d]` over the first `positions` of
    /// `values`, `[32][out width][2]`; weights after them are zero. Brings `ahead` into the cache.
    pub(crate) fn sum_values(
        &self,
        weights: &[[i16; PAGE]],
        rows: &[Softmax],
        values: &[i16],
        positions: usize,
        ahead: &[u8],
        out: &mut [f32],
    ) {
        assert!(values.len().is_multiple_of(PAGE) && out.len() == rows.len() * (values.len() / PAGE));
        assert!(weights.len() == rows.len() && positions <= PAGE);
        // SAFETY: see the head of the block.
        unsafe { (self.cached.sum_values)(weights, rows, values, positions, ahead, out) }
    }

    /// `out = x / scale`, rounded to integers within `limits`; returns the scale, a bfloat16.
    pub(crate) fn to_words(&self, x: &[f32], limits: RowLimits, out: &mut [i16]) -> f32 {
        assert!(x.len() == out.len());
        // SAFETY: see the head of the block.
        unsafe { (self.cached.to_words)(x, limits, out) }
    }

    /// `out * factor = x / scale`, rounded, with a factor per block of [`CACHE_BLOCK`]: numbers and products within
    /// `limits`. Returns the scale, a bfloat16.
    pub(crate) fn to_bytes(&self, x: &[f32], limits: RowLimits, out: &mut [i8], factors: &mut [u8]) -> f32 {
        assert!(x.len() == out.len() && factors.len() == x.len().div_ceil(CACHE_BLOCK));
        // SAFETY: see the head of the block.
        unsafe { (self.cached.to_bytes)(x, limits, out, factors) }
    }

    /// `out = bytes * factor`: bytes `[width / 2][64][2]`, a factor `[width / 32, rounded up][64]` per position and block.
    /// Brings `ahead` into the cache.
    pub(crate) fn widen_keys(&self, bytes: &[i8], factors: &[u8], ahead: &[u8], out: &mut [i16]) {
        assert!(bytes.len().is_multiple_of(2 * PAGE) && out.len() == bytes.len());
        assert!(factors.len() == (bytes.len() / PAGE).div_ceil(CACHE_BLOCK) * PAGE);
        // SAFETY: see the head of the block.
        unsafe { (self.cached.widen_keys)(bytes, factors, ahead, out) }
    }

    /// `out = bytes * factor` for the first `positions` (of an odd number also the next): bytes `[32][width][2]`, factors
    /// as in [`widen_keys`](Self::widen_keys). Brings `ahead` into the cache.
    pub(crate) fn widen_values(
        &self,
        bytes: &[i8],
        factors: &[u8],
        positions: usize,
        ahead: &[u8],
        out: &mut [i16],
    ) {
        assert!(bytes.len().is_multiple_of(PAGE) && out.len() == bytes.len() && positions <= PAGE);
        assert!(factors.len() == (bytes.len() / PAGE).div_ceil(CACHE_BLOCK) * PAGE);
        // SAFETY: see the head of the block.
        unsafe { (self.cached.widen_values)(bytes, factors, positions, ahead, out) }
    }

    /// [`widen_keys`](Self::widen_keys) for `nibbles` `[width / 2][64]`: the numbers of two neighbouring components, 8
    /// added to each, the first in the lower bits.
    pub(crate) fn widen_key_nibbles(&self, nibbles: &[u8], factors: &[u8], ahead: &[u8], out: &mut [i16]) {
        assert!(nibbles.len().is_multiple_of(PAGE) && out.len() == 2 * nibbles.len());
        assert!(factors.len() == (out.len() / PAGE).div_ceil(CACHE_BLOCK) * PAGE);
        // SAFETY: see the head of the block.
        unsafe { (self.cached.widen_key_nibbles)(nibbles, factors, ahead, out) }
    }

    /// [`widen_values`](Self::widen_values) for `nibbles` `[32][width]`: the numbers of two neighbouring positions, 8 added
    /// to each, the first in the lower bits.
    pub(crate) fn widen_value_nibbles(
        &self,
        nibbles: &[u8],
        factors: &[u8],
        positions: usize,
        ahead: &[u8],
        out: &mut [i16],
    ) {
        assert!(out.len().is_multiple_of(PAGE) && out.len() == 2 * nibbles.len() && positions <= PAGE);
        assert!(factors.len() == (out.len() / PAGE).div_ceil(CACHE_BLOCK) * PAGE);
        // SAFETY: see the head of the block.
        unsafe { (self.cached.widen_value_nibbles)(nibbles, factors, positions, ahead, out) }
    }
}
