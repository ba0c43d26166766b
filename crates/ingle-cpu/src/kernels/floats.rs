//! Products with plain floats, stored in 32 or 16 bits, summed in 32.

// Contract of `lanes`; besides, each function asserts the lengths that its pointers rely on.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::ahead::ahead;
use super::lanes::{Lanes, by_rows, prefetch};
use super::layout::LINE;
use super::{FloatRows, GROUP, Tile};

/// How a number is stored.
pub(super) trait Stored {
    const BYTES: usize;

    unsafe fn load<L: Lanes>(at: *const u8) -> L::Floats;
}

pub(super) struct F32;

impl Stored for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f(at.cast())
    }
}

pub(super) struct F16;

impl Stored for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at)
    }
}

pub(super) struct Bf16;

impl Stored for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_bf16(at)
    }
}

/// Products of 16 packed rows with the input rows.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, S: Stored>(weights: &[u8], input: FloatRows<'_>, tile: &mut Tile) {
    input.check();
    assert!(weights.len() >= input.columns * GROUP * S::BYTES);
    by_rows!(L, input.rows(), |first, M| multiply_rows::<L, S, M>(weights.as_ptr(), &input, first, tile));
}

/// Columns that are taken together.
const STEP: usize = 4;
/// Sums of each product.
const CHAINS: usize = 2;

#[inline(always)]
unsafe fn multiply_rows<L: Lanes, S: Stored, const M: usize>(
    weights: *const u8,
    input: &FloatRows<'_>,
    first: usize,
    tile: &mut Tile,
) {
    let columns = input.columns;
    let ahead = ahead(M);
    let values = input.values.as_ptr().add(first * columns);
    // Two sums, so that additions need not wait for each other: for one row too, or its last bits would show how many
    // others are with it.
    let mut sums = [[L::splat_f(0.0); M]; CHAINS];
    let whole = columns - columns % STEP;
    for k in (0..whole).step_by(STEP) {
        let at = weights.add(k * GROUP * S::BYTES);
        prefetch::<L, M>(at, ahead, STEP * GROUP * S::BYTES / LINE);
        for step in 0..STEP {
            let weight = S::load::<L>(at.add(step * GROUP * S::BYTES));
            for m in 0..M {
                let value = L::splat_f(*values.add(m * columns + k + step));
                let chain = step % CHAINS;
                sums[chain][m] = L::fma(weight, value, sums[chain][m]);
            }
        }
    }
    for k in whole..columns {
        let weight = S::load::<L>(weights.add(k * GROUP * S::BYTES));
        for m in 0..M {
            sums[0][m] = L::fma(weight, L::splat_f(*values.add(m * columns + k)), sums[0][m]);
        }
    }
    for m in 0..M {
        let mut sum = sums[0][m];
        for chain in 1..CHAINS {
            sum = L::add_f(sum, sums[chain][m]);
        }
        L::store_f(tile[first + m].as_mut_ptr(), sum);
    }
}
