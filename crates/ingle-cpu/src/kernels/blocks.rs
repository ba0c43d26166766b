//! Products with the formats in blocks of 32 columns, each block with a scale of its own.

// Contract of `lanes`; besides, each function asserts the lengths that its pointers rely on.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::lanes::{Lanes, broadcast, by_rows};
use super::layout::{BLOCK, BlockLayout, IQ4_NL_VALUES, LINE, MXFP4_DOUBLED};
use super::superblocks::{dot_32, five_bits, nibbles};
use super::{Int8Rows, Tile};

/// A format in blocks of 32.
pub(super) trait Format {
    const LAYOUT: BlockLayout;
    /// How far ahead of its use a line of weights is asked for; zero leaves it to the processor, which is enough where
    /// there is little to compute per byte.
    const AHEAD: usize;
    /// What all results are multiplied by.
    const FACTOR: f32 = 1.0;
    /// Whether a block has a [`minimum`](Self::minimum).
    const MINIMA: bool = false;

    /// What the numbers of [`numbers`](Self::numbers) are too large by.
    fn offset<L: Lanes>() -> i32;
    /// The scales of 16 rows.
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats;
    /// What is added to the scaled numbers of 16 rows; `at` is where the scales are.
    #[inline(always)]
    unsafe fn minimum<L: Lanes>(_at: *const u8) -> L::Floats {
        L::splat_f(0.0)
    }
    /// 32 columns of numbers of 16 rows.
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8];
    /// `start + numbers . activations`
    #[inline(always)]
    unsafe fn dot<L: Lanes>(start: L::Ints, numbers: &[L::Ints; 8], activations: *const i8) -> L::Ints {
        dot_32::<L>(start, numbers, activations)
    }
}

/// [`dot_32`] for numbers stored with 128 added.
#[inline(always)]
pub(super) unsafe fn dot_32_wide<L: Lanes>(
    start: L::Ints,
    numbers: &[L::Ints; 8],
    activations: *const i8,
) -> L::Ints {
    let (mut even, mut odd) = (start, L::splat(0));
    for t in 0..4 {
        even = L::dot_wide(even, numbers[2 * t], broadcast::<L>(activations, 2 * t));
        odd = L::dot_wide(odd, numbers[2 * t + 1], broadcast::<L>(activations, 2 * t + 1));
    }
    L::add(even, odd)
}

/// 32 columns of 4-bit codes of the numbers in a table.
#[inline(always)]
pub(super) unsafe fn looked_up<L: Lanes>(at: *const u8, table: &[u8; 16]) -> [L::Ints; 8] {
    let table = L::table(table);
    let mut numbers = [L::splat(0); 8];
    for t in 0..4 {
        let v = L::load(at.add(t * LINE));
        numbers[2 * t] = L::look_up_low(table, v);
        numbers[2 * t + 1] = L::look_up_high(table, v);
    }
    numbers
}

/// A table with `by` added to each entry.
pub(super) const fn raised(values: [i8; 16], by: i16) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < 16 {
        bytes[i] = (values[i] as i16 + by) as u8;
        i += 1;
    }
    bytes
}

pub(super) struct Q8_0;

impl Format for Q8_0 {
    const LAYOUT: BlockLayout = BlockLayout::Q8_0;
    const AHEAD: usize = 0;

    fn offset<L: Lanes>() -> i32 {
        L::WIDE_OFFSET
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at)
    }

    #[inline(always)]
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
        let mut numbers = [L::splat(0); 8];
        for t in 0..8 {
            numbers[t] = L::load(at.add(t * LINE));
        }
        numbers
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes>(start: L::Ints, numbers: &[L::Ints; 8], activations: *const i8) -> L::Ints {
        dot_32_wide::<L>(start, numbers, activations)
    }
}

pub(super) struct Q4_0;

impl Format for Q4_0 {
    const LAYOUT: BlockLayout = BlockLayout::Q4_0;
    const AHEAD: usize = 6 * 1024;

    fn offset<L: Lanes>() -> i32 {
        8
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at)
    }

    #[inline(always)]
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
        nibbles::<L>(at)
    }
}

pub(super) struct Q4_1;

impl Format for Q4_1 {
    const LAYOUT: BlockLayout = BlockLayout::Q4_1;
    const AHEAD: usize = 6 * 1024;
    const MINIMA: bool = true;

    fn offset<L: Lanes>() -> i32 {
        0
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at)
    }

    #[inline(always)]
    unsafe fn minimum<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at.add(32))
    }

    #[inline(always)]
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
        nibbles::<L>(at)
    }
}

pub(super) struct Q5_0;

impl Format for Q5_0 {
    const LAYOUT: BlockLayout = BlockLayout::Q5_0;
    const AHEAD: usize = 6 * 1024;

    fn offset<L: Lanes>() -> i32 {
        16
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at)
    }

    #[inline(always)]
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
        five_bits::<L>(at)
    }
}

pub(super) struct Iq4Nl;

impl Format for Iq4Nl {
    const LAYOUT: BlockLayout = BlockLayout::IQ4_NL;
    const AHEAD: usize = 6 * 1024;

    fn offset<L: Lanes>() -> i32 {
        L::WIDE_OFFSET
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats {
        L::load_f16(at)
    }

    #[inline(always)]
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
        looked_up::<L>(at, const { &raised(IQ4_NL_VALUES, 128) })
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes>(start: L::Ints, numbers: &[L::Ints; 8], activations: *const i8) -> L::Ints {
        dot_32_wide::<L>(start, numbers, activations)
    }
}

pub(super) struct Mxfp4;

impl Format for Mxfp4 {
    const LAYOUT: BlockLayout = BlockLayout::MXFP4;
    const AHEAD: usize = 6 * 1024;
    /// The table holds doubled values.
    const FACTOR: f32 = 0.5;

    fn offset<L: Lanes>() -> i32 {
        12
    }

    /// 2^(e-127) by putting the exponent where floats have theirs. 0 becomes zero instead of 2^-127 (an operation more per
    /// block would be wasted on what no sum can tell apart), 255 infinity instead of "not a number".
    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::Floats {
        L::from_bits(L::shl(L::load_bytes(at), 23))
    }

    #[inline(always)]
    unsafe fn numbers<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
        looked_up::<L>(at, const { &raised(MXFP4_DOUBLED, 12) })
    }
}

/// Products of 16 packed rows of a format with the input rows.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, F: Format>(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    input.check();
    assert!(F::LAYOUT.bytes(input.columns / BLOCK).is_some_and(|bytes| weights.len() >= bytes));
    by_rows!(L, input.rows(), |first, M| multiply_rows::<L, F, M>(weights.as_ptr(), &input, first, tile));
}

#[inline(always)]
unsafe fn multiply_rows<L: Lanes, F: Format, const M: usize>(
    weights: *const u8,
    input: &Int8Rows<'_, 32>,
    first: usize,
    tile: &mut Tile,
) {
    let columns = input.columns;
    let blocks = columns / BLOCK;
    let values = input.values.as_ptr().add(first * columns);
    let scales = input.scales.as_ptr().add(first * blocks);
    let sums = input.sums.as_ptr().add(first * blocks);
    let mut results = [L::splat_f(0.0); M];
    for b in 0..blocks {
        let (scale, numbers) = F::LAYOUT.find(b);
        let (scale, numbers) = (weights.add(scale), weights.add(numbers));
        if F::AHEAD > 0 {
            for line in 0..F::LAYOUT.numbers / LINE {
                L::prefetch(numbers.wrapping_add(F::AHEAD + line * LINE));
            }
            if b % F::LAYOUT.run() == 0 {
                L::prefetch(scale.wrapping_add(F::AHEAD));
            }
        }
        let (d, minimum) = (F::scale::<L>(scale), F::minimum::<L>(scale));
        let numbers = F::numbers::<L>(numbers);
        for m in 0..M {
            let block = m * blocks + b;
            let start = L::splat(-F::offset::<L>() * *sums.add(block));
            let dot = F::dot::<L>(start, &numbers, values.add(m * columns + b * BLOCK));
            let scale = L::mul_f(d, L::splat_f(*scales.add(block)));
            results[m] = L::fma(L::to_floats(dot), scale, results[m]);
            if F::MINIMA {
                let sum = L::splat_f(*sums.add(block) as f32 * *scales.add(block));
                results[m] = L::fma(minimum, sum, results[m]);
            }
        }
    }
    for m in 0..M {
        L::store_f(tile[first + m].as_mut_ptr(), L::mul_f(results[m], L::splat_f(F::FACTOR)));
    }
}
