//! 16 packed rows taken apart for many input rows: numbers as bytes, scales as lanes, so that the products
//! ([`panels`](super::panels)) of every format are one text and a weight is unpacked once, however many rows it meets.
//!
//! A tile is a run of records, one per superblock of 256 columns or block of 32. All parts are vectors of 64 bytes, lane
//! = row:
//!
//! | record | parts |
//! |---|---|
//! | superblock | 64 of numbers, 16 of integer scales (8 used where a scale spans 32 columns), 4 of minima in 16-bit pairs, float scale, float scale of the minima |
//! | block | 8 of numbers, float scale, float minimum |

// Contract of `lanes`; besides, each function asserts the lengths that its pointers rely on.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::blocks::{Format, looked_up, raised};
use super::lanes::Lanes;
use super::layout::{
    BLOCK, IQ4_NL_VALUES, IQ4_XS_BYTES, IQ4_XS_NUMBERS, LINE, NUMBERS, Q4_K_BYTES, Q5_K_BYTES, Q6_K_BYTES,
    Q6_K_NUMBERS, Q6_K_SCALES, SCALE_LINES, SUPERBLOCK,
};
use super::panels::Raised;
use super::superblocks::{five_bits, iq4_xs_scales, nibbles, scales_and_minima, six_bits};

/// Where a superblock's parts start in its record.
pub(super) const SCALES: usize = 64 * LINE;
pub(super) const MINIMA: usize = SCALES + 16 * LINE;
pub(super) const FLOAT_SCALE: usize = MINIMA + 4 * LINE;
pub(super) const MINIMA_SCALE: usize = FLOAT_SCALE + LINE;
/// Bytes of a superblock's record.
pub(crate) const SUPERBLOCK_RECORD: usize = MINIMA_SCALE + LINE;
/// Where a block's parts start in its record.
pub(super) const BLOCK_SCALE: usize = 8 * LINE;
pub(super) const BLOCK_MINIMUM: usize = BLOCK_SCALE + LINE;
/// Bytes of a block's record.
pub(crate) const BLOCK_RECORD: usize = BLOCK_MINIMUM + LINE;

/// Bytes of a tile of so many columns.
pub(crate) fn tile_bytes(columns: usize, block: usize) -> usize {
    match block {
        SUPERBLOCK => columns / SUPERBLOCK * SUPERBLOCK_RECORD,
        _ => columns / BLOCK * BLOCK_RECORD,
    }
}

#[inline(always)]
unsafe fn put<L: Lanes, const N: usize>(to: *mut u8, vectors: &[L::Ints; N]) {
    for (at, &vector) in vectors.iter().enumerate() {
        L::store_f(to.add(at * LINE).cast(), L::from_bits(vector));
    }
}

/// Calls `unpack(packed superblock, record)` for each superblock of a tile, the first of which has the columns from
/// `first` on.
#[inline(always)]
unsafe fn each_superblock(
    weights: &[u8],
    first: usize,
    bytes: usize,
    tile: &mut [u8],
    unpack: impl Fn(*const u8, *mut u8),
) {
    let (first, blocks) = (first / SUPERBLOCK, tile.len() / SUPERBLOCK_RECORD);
    assert!(weights.as_ptr().addr().is_multiple_of(LINE));
    assert!(weights.len() >= (first + blocks) * bytes && tile.len() == blocks * SUPERBLOCK_RECORD);
    for s in 0..blocks {
        let block = weights.as_ptr().add((first + s) * bytes);
        unpack(block, tile.as_mut_ptr().add(s * SUPERBLOCK_RECORD));
    }
}

/// Byte `index` of each lane.
#[inline(always)]
unsafe fn byte_of<L: Lanes>(v: L::Ints, index: usize) -> L::Ints {
    L::and(L::shr(v, 8 * index as i32), L::splat(255))
}

/// The lower `bits` of byte `index` of each lane, signed.
#[inline(always)]
unsafe fn signed_of<L: Lanes>(v: L::Ints, index: usize, bits: i32) -> L::Ints {
    L::sar(L::shl(v, 32 - bits - 8 * index as i32), 32 - bits)
}

/// Q4_K, or with `FIFTH` bits Q5_K.
#[inline(always)]
pub(super) unsafe fn with_minima<L: Lanes, const FIFTH: bool>(weights: &[u8], first: usize, tile: &mut [u8]) {
    let (bytes, vectors) = if FIFTH { (Q5_K_BYTES, 5) } else { (Q4_K_BYTES, 4) };
    each_superblock(weights, first, bytes, tile, |block, record| {
        let (scale_lines, minima) = scales_and_minima::<L>(block.add(SCALE_LINES));
        for j in 0..8 {
            let at = block.add(NUMBERS + j * vectors * LINE);
            let numbers = if FIFTH { five_bits::<L>(at) } else { nibbles::<L>(at) };
            put::<L, 8>(record.add(j * 8 * LINE), &numbers);
            put::<L, 1>(record.add(SCALES + j * LINE), &[byte_of::<L>(scale_lines[j / 4], j % 4)]);
        }
        put::<L, 4>(record.add(MINIMA), &minima);
        L::store_f(record.add(FLOAT_SCALE).cast(), L::load_f16(block));
        L::store_f(record.add(MINIMA_SCALE).cast(), L::load_f16(block.add(32)));
    });
}

/// Q6_K.
#[inline(always)]
pub(super) unsafe fn q6_k<L: Lanes>(weights: &[u8], first: usize, tile: &mut [u8]) {
    each_superblock(weights, first, Q6_K_BYTES, tile, |block, record| {
        for j in 0..16 {
            let numbers = six_bits::<L>(block.add(Q6_K_NUMBERS + j * 3 * LINE));
            let raise = const { Raised::of::<L>().superblocks - 32 };
            put::<L, 4>(record.add(j * 4 * LINE), &raised_by::<L, 4>(numbers, raise));
            let scales = L::load(block.add(Q6_K_SCALES + j / 4 * LINE));
            put::<L, 1>(record.add(SCALES + j * LINE), &[signed_of::<L>(scales, j % 4, 8)]);
        }
        L::store_f(record.add(FLOAT_SCALE).cast(), L::load_f(block.cast()));
    });
}

/// IQ4_XS.
#[inline(always)]
pub(super) unsafe fn iq4_xs<L: Lanes>(weights: &[u8], first: usize, tile: &mut [u8]) {
    each_superblock(weights, first, IQ4_XS_BYTES, tile, |block, record| {
        let scales = iq4_xs_scales::<L>(block);
        for j in 0..8 {
            let at = block.add(IQ4_XS_NUMBERS + j * 4 * LINE);
            let numbers = looked_up::<L>(at, const { &raised(IQ4_NL_VALUES, 128) });
            put::<L, 8>(record.add(j * 8 * LINE), &numbers);
            put::<L, 1>(record.add(SCALES + j * LINE), &[signed_of::<L>(scales[j / 4], j % 4, 6)]);
        }
        L::store_f(record.add(FLOAT_SCALE).cast(), L::load_f16(block));
    });
}

/// Numbers with `by` added, which none of them is too large for.
#[inline(always)]
unsafe fn raised_by<L: Lanes, const N: usize>(mut numbers: [L::Ints; N], by: u8) -> [L::Ints; N] {
    if by > 0 {
        for number in &mut numbers {
            // no byte carries
            *number = L::add(*number, L::splat_bytes(by));
        }
    }
    numbers
}

/// A format in blocks of 32, whose numbers have 128 added if they are `WIDE`.
#[inline(always)]
pub(super) unsafe fn blocks<L: Lanes, F: Format, const WIDE: bool>(
    weights: &[u8],
    first: usize,
    tile: &mut [u8],
) {
    let (first, blocks) = (first / BLOCK, tile.len() / BLOCK_RECORD);
    assert!(weights.as_ptr().addr().is_multiple_of(LINE) && tile.len() == blocks * BLOCK_RECORD);
    assert!(F::LAYOUT.bytes(first + blocks).is_some_and(|bytes| weights.len() >= bytes));
    let raise = if WIDE { 0 } else { Raised::of::<L>().blocks - F::offset::<L>() as u8 };
    let factor = L::splat_f(F::FACTOR);
    for b in 0..blocks {
        let (scale, numbers) = F::LAYOUT.find(first + b);
        let (scale, numbers) = (weights.as_ptr().add(scale), weights.as_ptr().add(numbers));
        let record = tile.as_mut_ptr().add(b * BLOCK_RECORD);
        put::<L, 8>(record, &raised_by::<L, 8>(F::numbers::<L>(numbers), raise));
        L::store_f(record.add(BLOCK_SCALE).cast(), L::mul_f(F::scale::<L>(scale), factor));
        if F::MINIMA {
            L::store_f(record.add(BLOCK_MINIMUM).cast(), L::mul_f(F::minimum::<L>(scale), factor));
        }
    }
}
