//! Products with the formats in blocks of 32 columns, each block with a scale of its own.

// Contract of `lanes`; besides, each function asserts the lengths that its pointers rely on.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::ahead::ahead;
use super::lanes::{Lanes, broadcast, by_rows, prefetch, start, touch, turns};
use super::layout::{BLOCK, BlockLayout, IQ4_NL_VALUES, LINE, MXFP4_DOUBLED};
use super::superblocks::{add_short, dot_32, dot_nibbles, five_bits, nibbles};
use super::{Int8Rows, Tile};

/// A format in blocks of 32.
pub(super) trait Format {
    const LAYOUT: BlockLayout;
    /// What all results are multiplied by.
    const FACTOR: f32 = 1.0;
    /// Whether a block has a [`minimum`](Self::minimum).
    const MINIMA: bool = false;

    /// The largest of its [`numbers`](Self::numbers); more than 127 if they have 128 added.
    const LARGEST: usize;

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
    /// The same for the numbers at a place and one input row.
    #[inline(always)]
    unsafe fn dot_once<L: Lanes>(start: L::Ints, at: *const u8, activations: *const i8) -> L::Ints {
        Self::dot::<L>(start, &Self::numbers::<L>(at), activations)
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
        let v = L::load_next(at.add(t * LINE));
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
    const LARGEST: usize = 255;

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
            numbers[t] = L::load_next(at.add(t * LINE));
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
    const LARGEST: usize = 15;

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

    #[inline(always)]
    unsafe fn dot_once<L: Lanes>(start: L::Ints, at: *const u8, activations: *const i8) -> L::Ints {
        dot_nibbles::<L>(start, at, activations)
    }
}

pub(super) struct Q4_1;

impl Format for Q4_1 {
    const LAYOUT: BlockLayout = BlockLayout::Q4_1;
    const LARGEST: usize = 15;
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

    #[inline(always)]
    unsafe fn dot_once<L: Lanes>(start: L::Ints, at: *const u8, activations: *const i8) -> L::Ints {
        dot_nibbles::<L>(start, at, activations)
    }
}

pub(super) struct Q5_0;

impl Format for Q5_0 {
    const LAYOUT: BlockLayout = BlockLayout::Q5_0;
    const LARGEST: usize = 31;

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
    const LARGEST: usize = 255;

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
    const LARGEST: usize = 24;
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
    assert!(weights.as_ptr().addr().is_multiple_of(LINE));
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
    let blocks = input.columns / BLOCK;
    let own = Rows {
        columns: input.columns,
        values: input.values.as_ptr().add(first * input.columns),
        scales: input.scales.as_ptr().add(first * blocks),
        sums: input.sums.as_ptr().add(first * blocks),
    };
    let (ahead, run) = (ahead(M), turns(F::LAYOUT.run()));
    let mut results = [L::splat_f(0.0); M];
    let (mut line, mut b) = (weights, 0);
    while b < blocks {
        prefetch::<L, M>(line, ahead, 1);
        touch(line, 1);
        let (mut scale, mut at) = (line, line.add(LINE));
        for _ in 0..run.min(blocks - b) {
            prefetch::<L, M>(at, ahead, F::LAYOUT.numbers / LINE);
            add_block::<L, F, M>(scale, at, b, &own, &mut results);
            (scale, at) = (scale.add(F::LAYOUT.scale), at.add(F::LAYOUT.numbers));
            b += 1;
        }
        line = at;
    }
    for m in 0..M {
        L::store_f(tile[first + m].as_mut_ptr(), L::mul_f(results[m], L::splat_f(F::FACTOR)));
    }
}

/// Where input rows and what belongs to them start.
struct Rows {
    columns: usize,
    values: *const i8,
    scales: *const f32,
    sums: *const i32,
}

/// Adds the products of block `b`.
#[inline(always)]
unsafe fn add_block<L: Lanes, F: Format, const M: usize>(
    scale: *const u8,
    at: *const u8,
    b: usize,
    input: &Rows,
    results: &mut [L::Floats; M],
) {
    let blocks = input.columns / BLOCK;
    let (d, minimum) = (F::scale::<L>(scale), F::minimum::<L>(scale));
    let short = (L::SHORT && F::LARGEST <= 31).then(|| short_dots::<L, F, M>(at, b, input));
    let numbers = (M > 1 && short.is_none()).then(|| F::numbers::<L>(at));
    for m in 0..M {
        let block = m * blocks + b;
        let start = || start::<L>(F::offset::<L>(), input.sums.add(block));
        let values = input.values.add(m * input.columns + b * BLOCK);
        let dot = match (&short, &numbers) {
            (Some(dots), _) => dots[m],
            (None, Some(numbers)) => F::dot::<L>(start(), numbers, values),
            (None, None) => F::dot_once::<L>(start(), at, values),
        };
        let scale = L::mul_f(d, L::splat_f(*input.scales.add(block)));
        results[m] = L::fma(L::to_floats(dot), scale, results[m]);
        if F::MINIMA {
            let sum = L::splat_f(*input.sums.add(block) as f32 * *input.scales.add(block));
            results[m] = L::fma(minimum, sum, results[m]);
        }
    }
}

/// The integer products of block `b`, summed in 16 bits first.
#[inline(always)]
unsafe fn short_dots<L: Lanes, F: Format, const M: usize>(
    at: *const u8,
    b: usize,
    input: &Rows,
) -> [L::Ints; M] {
    let blocks = input.columns / BLOCK;
    let mut dots = [L::splat(0); M];
    for m in 0..M {
        dots[m] = start::<L>(F::offset::<L>(), input.sums.add(m * blocks + b));
    }
    let values = input.values.add(b * BLOCK);
    let (numbers, ones) = (F::numbers::<L>(at), L::splat(0x0001_0001));
    match F::LARGEST {
        ..=15 => add_short::<L, 15, true, 8, M>(&mut dots, &numbers, ones, values, input.columns),
        _ => add_short::<L, 31, true, 8, M>(&mut dots, &numbers, ones, values, input.columns),
    }
    dots
}
