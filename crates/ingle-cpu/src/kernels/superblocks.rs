//! Products with Q4_K, Q5_K, Q6_K and IQ4_XS: integer sums over a whole superblock of 256, one multiplication by its scale.
//!
//! The sums fit 32 bits: at most 256 x 127 x 31 x 63 for Q5_K, 256 x 127 x 32 x 128 for Q6_K and 256 x 127 x 127 x 32
//! for IQ4_XS.

// Contract of `lanes`; besides, each function asserts the lengths that its pointers rely on.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::ahead::ahead;
use super::blocks::{dot_32_wide, looked_up, raised};
use super::lanes::{Lanes, broadcast, by_rows, in_pairs, prefetch, short_turns, start, touch, turns};
use super::layout::{
    IQ4_NL_VALUES, IQ4_XS_BYTES, IQ4_XS_NUMBERS, IQ4_XS_SCALES, LINE, NUMBERS, Q4_K_BYTES, Q5_K_BYTES,
    Q6_K_BYTES, Q6_K_NUMBERS, Q6_K_SCALES, SCALE_LINES, SUPERBLOCK,
};
use super::{Int8Rows, Tile};

/// Q4_K, or with `FIFTH` bits Q5_K.
#[inline(always)]
pub(super) unsafe fn with_minima<L: Lanes, const FIFTH: bool>(
    weights: &[u8],
    input: Int8Rows<'_, 256>,
    tile: &mut Tile,
) {
    input.check();
    assert!(weights.as_ptr().addr().is_multiple_of(LINE));
    let bytes = if FIFTH { Q5_K_BYTES } else { Q4_K_BYTES };
    assert!(weights.len() >= input.columns / SUPERBLOCK * bytes);
    by_rows!(L, input.rows(), |first, M| with_minima_rows::<L, FIFTH, M>(
        weights.as_ptr(),
        &input,
        first,
        tile
    ));
}

#[inline(always)]
unsafe fn with_minima_rows<L: Lanes, const FIFTH: bool, const M: usize>(
    weights: *const u8,
    input: &Int8Rows<'_, 256>,
    first: usize,
    tile: &mut Tile,
) {
    let columns = input.columns;
    let blocks = columns / SUPERBLOCK;
    let vectors = if FIFTH { 5 } else { 4 };
    let (ahead, four) = (ahead(M), turns(4));
    let mut values = input.values.as_ptr().add(first * columns);
    let scales = input.scales.as_ptr().add(first * blocks);
    let pairs = input.pairs.as_ptr().add(first * blocks * 4);
    let mut results = [L::splat_f(0.0); M];
    let mut at = weights;
    for s in 0..blocks {
        let block = at;
        prefetch::<L, M>(block, ahead, NUMBERS / LINE);
        touch(block, 1);
        let (scale_lines, minima) = scales_and_minima::<L>(block.add(SCALE_LINES));
        let dmin = L::load_f16(block.add(32));
        let mut below = [dmin; M];
        for m in 0..M {
            let mut offsets = L::splat(0);
            for i in 0..4 {
                let pair = L::splat(*pairs.add((m * blocks + s) * 4 + i));
                offsets = L::dot_pairs(offsets, minima[i], pair);
            }
            below[m] = L::mul_f(L::to_floats(offsets), dmin);
        }
        let mut dots = [L::splat(0); M];
        at = at.add(NUMBERS);
        for mut scale_bytes in scale_lines {
            for _ in 0..four {
                prefetch::<L, M>(at, ahead, vectors);
                let scale = L::and(scale_bytes, L::splat(255));
                if L::SHORT {
                    let numbers = if FIFTH { five_bits::<L>(at) } else { nibbles::<L>(at) };
                    let scale = in_pairs::<L>(scale);
                    match FIFTH {
                        true => add_short::<L, 31, false, 8, M>(&mut dots, &numbers, scale, values, columns),
                        false => add_short::<L, 15, false, 8, M>(&mut dots, &numbers, scale, values, columns),
                    }
                } else if M == 1 && !FIFTH {
                    let sum = dot_nibbles::<L>(L::splat(0), at, values);
                    dots[0] = L::add(dots[0], L::mul(sum, scale));
                } else {
                    let numbers = if FIFTH { five_bits::<L>(at) } else { nibbles::<L>(at) };
                    let sums = dot_rows::<L, 8, M>([L::splat(0); M], &numbers, values, columns);
                    for m in 0..M {
                        dots[m] = L::add(dots[m], L::mul(sums[m], scale));
                    }
                }
                scale_bytes = L::shr(scale_bytes, 8);
                at = at.add(vectors * LINE);
                values = values.add(32);
            }
        }
        let d = L::load_f16(block);
        for m in 0..M {
            let value = L::sub_f(L::mul_f(L::to_floats(dots[m]), d), below[m]);
            results[m] = L::fma(value, L::splat_f(*scales.add(m * blocks + s)), results[m]);
        }
    }
    for m in 0..M {
        L::store_f(tile[first + m].as_mut_ptr(), results[m]);
    }
}

/// The scales as bytes (0 to 3 of each row, 4 to 7), and the minima as 16-bit pairs in the order of
/// [`Int8Rows::pairs`].
#[inline(always)]
pub(super) unsafe fn scales_and_minima<L: Lanes>(lines: *const u8) -> ([L::Ints; 2], [L::Ints; 4]) {
    let (a, b, c) = (L::load_next(lines), L::load_next(lines.add(LINE)), L::load_next(lines.add(2 * LINE)));
    let six_bits = L::splat_bytes(63);
    let low = L::and(c, six_bits);
    let from_a = L::and(L::shr16(a, 6), L::splat_bytes(3));
    let from_b = L::and(L::shr16(b, 4), L::splat_bytes(12));
    let from_c = L::and(L::shr16(c, 2), L::splat_bytes(48));
    let high = L::or(from_a, L::or(from_b, from_c));
    let even = L::splat(0x00ff_00ff);
    let minima = [
        L::and(low, even),
        L::and(L::shr16(low, 8), even),
        L::and(high, even),
        L::and(L::shr16(high, 8), even),
    ];
    ([L::and(a, six_bits), L::and(b, six_bits)], minima)
}

/// Byte 0 of each lane, signed.
#[inline(always)]
unsafe fn signed_byte<L: Lanes>(v: L::Ints) -> L::Ints {
    L::sar(L::shl(v, 24), 24)
}

/// 32 columns of 4-bit numbers.
#[inline(always)]
pub(super) unsafe fn nibbles<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
    let mut numbers = [L::splat(0); 8];
    let low = L::splat_bytes(15);
    for t in 0..4 {
        let v = L::load_next(at.add(t * LINE));
        numbers[2 * t] = L::and(v, low);
        numbers[2 * t + 1] = L::and(L::shr16(v, 4), low);
    }
    numbers
}

/// 32 columns of 5-bit numbers: 4 nibble vectors and one of fifth bits.
#[inline(always)]
pub(super) unsafe fn five_bits<L: Lanes>(at: *const u8) -> [L::Ints; 8] {
    let mut numbers = nibbles::<L>(at);
    let fifths = L::load_next(at.add(4 * LINE));
    for t in 0..8 {
        let moved = if t < 4 { L::shl16(fifths, 4 - t) } else { L::shr16(fifths, t - 4) };
        let t = t as usize;
        numbers[t] = L::or(numbers[t], L::and(moved, L::splat_bytes(16)));
    }
    numbers
}

/// `start +` the products of 32 columns of 4-bit numbers with 32 activations, without unpacking them where that is
/// less work (for one input row; several share what is unpacked).
#[inline(always)]
pub(super) unsafe fn dot_nibbles<L: Lanes>(start: L::Ints, at: *const u8, activations: *const i8) -> L::Ints {
    if L::WIDE_OFFSET != 128 {
        return dot_32::<L>(start, &nibbles::<L>(at), activations);
    }
    // The high nibbles stay where they are: their products are 16 times too large, at most 32 x 240 x 127.
    let (low, high) = (L::splat_bytes(15), L::splat_bytes(240));
    let (mut even, mut odd) = (start, L::splat(0));
    for t in 0..4 {
        let v = L::load_next(at.add(t * LINE));
        even = L::dot(even, L::and(v, low), broadcast::<L>(activations, 2 * t));
        odd = L::dot_wide(odd, L::and(v, high), broadcast::<L>(activations, 2 * t + 1));
    }
    L::add(even, L::sar(odd, 4))
}

/// `start +` the products of 32 columns of small numbers with 32 activations, in two chains.
#[inline(always)]
pub(super) unsafe fn dot_32<L: Lanes>(
    start: L::Ints,
    numbers: &[L::Ints; 8],
    activations: *const i8,
) -> L::Ints {
    let (mut even, mut odd) = (start, L::splat(0));
    for t in 0..4 {
        even = L::dot(even, numbers[2 * t], broadcast::<L>(activations, 2 * t));
        odd = L::dot(odd, numbers[2 * t + 1], broadcast::<L>(activations, 2 * t + 1));
    }
    L::add(even, odd)
}

/// `sums +` the products of `N * 4` columns of small numbers with as many activations of each row. Many rows keep the
/// multipliers at work with one chain each, few need two.
#[inline(always)]
unsafe fn dot_rows<L: Lanes, const N: usize, const M: usize>(
    mut sums: [L::Ints; M],
    numbers: &[L::Ints; N],
    activations: *const i8,
    columns: usize,
) -> [L::Ints; M] {
    if M >= 4 {
        for t in 0..N {
            for m in 0..M {
                let four = broadcast::<L>(activations.add(m * columns), t);
                sums[m] = L::dot(sums[m], numbers[t], four);
            }
        }
        return sums;
    }
    for m in 0..M {
        let row = activations.add(m * columns);
        let mut odd = L::splat(0);
        for t in 0..N / 2 {
            sums[m] = L::dot(sums[m], numbers[2 * t], broadcast::<L>(row, 2 * t));
            odd = L::dot(odd, numbers[2 * t + 1], broadcast::<L>(row, 2 * t + 1));
        }
        sums[m] = L::add(sums[m], odd);
    }
    sums
}

/// `dots += scale *` the products of `N * 4` columns of numbers from 0 to `LARGEST` with as many activations of each row,
/// summed in 16 bits as far as they fit; the scale [in pairs](in_pairs).
#[inline(always)]
pub(super) unsafe fn add_short<
    L: Lanes,
    const LARGEST: usize,
    const ROLLED: bool,
    const N: usize,
    const M: usize,
>(
    dots: &mut [L::Ints; M],
    numbers: &[L::Ints; N],
    scale: L::Ints,
    activations: *const i8,
    columns: usize,
) {
    let together = const { short_turns(LARGEST) };
    // a loop, where the code around is so long that registers would be spilled
    let (numbers, in_turn) = (numbers.as_ptr(), if ROLLED { turns(together) } else { together });
    for first in (0..N).step_by(together) {
        let mut sums = [L::splat(0); M];
        for t in first..first + in_turn {
            let weights = *numbers.add(t);
            for m in 0..M {
                let four = broadcast::<L>(activations.add(m * columns), t);
                sums[m] = L::dot_short(sums[m], weights, four);
            }
        }
        for m in 0..M {
            dots[m] = L::dot_pairs(dots[m], sums[m], scale);
        }
    }
}

/// 16 columns of 6-bit numbers: 2 nibble vectors and one of upper bits.
#[inline(always)]
pub(super) unsafe fn six_bits<L: Lanes>(at: *const u8) -> [L::Ints; 4] {
    let (low, high) = (L::splat_bytes(15), L::splat_bytes(48));
    let (a, b, upper) = (L::load_next(at), L::load_next(at.add(LINE)), L::load_next(at.add(2 * LINE)));
    let lower = [a, L::shr16(a, 4), b, L::shr16(b, 4)];
    let upper = [L::shl16(upper, 4), L::shl16(upper, 2), upper, L::shr16(upper, 2)];
    let mut numbers = [L::splat(0); 4];
    for t in 0..4 {
        numbers[t] = L::or(L::and(lower[t], low), L::and(upper[t], high));
    }
    numbers
}

/// Q6_K.
#[inline(always)]
pub(super) unsafe fn q6_k<L: Lanes>(weights: &[u8], input: Int8Rows<'_, 256>, tile: &mut Tile) {
    input.check();
    assert!(weights.as_ptr().addr().is_multiple_of(LINE));
    assert!(weights.len() >= input.columns / SUPERBLOCK * Q6_K_BYTES);
    by_rows!(L, input.rows(), |first, M| q6_k_rows::<L, M>(weights.as_ptr(), &input, first, tile));
}

#[inline(always)]
unsafe fn q6_k_rows<L: Lanes, const M: usize>(
    weights: *const u8,
    input: &Int8Rows<'_, 256>,
    first: usize,
    tile: &mut Tile,
) {
    let columns = input.columns;
    let blocks = columns / SUPERBLOCK;
    let (ahead, four) = (ahead(M), turns(4));
    let mut values = input.values.as_ptr().add(first * columns);
    let scales = input.scales.as_ptr().add(first * blocks);
    let mut row_sums = input.sums.as_ptr().add(first * blocks * 16);
    let mut results = [L::splat_f(0.0); M];
    let mut at = weights;
    for s in 0..blocks {
        let block = at;
        prefetch::<L, M>(block, ahead, Q6_K_NUMBERS / LINE);
        touch(block, Q6_K_NUMBERS / LINE);
        // what undoes that the numbers are too large by 32, for several rows of all spans at once
        let mut starts = [[0; 16]; M];
        for m in 0..if M > 1 && !L::SHORT { M } else { 0 } {
            let negative = L::mul(L::load(row_sums.add(m * blocks * 16).cast()), L::splat(-32));
            L::store_f(starts[m].as_mut_ptr().cast(), L::from_bits(negative));
        }
        let (mut dots, mut span) = ([L::splat(0); M], 0);
        if L::SHORT {
            dots = q6_k_starts::<L, M>(block.add(Q6_K_SCALES), row_sums, blocks);
        }
        at = at.add(Q6_K_NUMBERS);
        for line in 0..4 {
            let mut scale_bytes = L::load(block.add(Q6_K_SCALES + line * LINE));
            for _ in 0..four {
                prefetch::<L, M>(at, ahead, 3);
                let numbers = six_bits::<L>(at);
                let scale = signed_byte::<L>(scale_bytes);
                if L::SHORT {
                    add_short::<L, 63, false, 4, M>(
                        &mut dots,
                        &numbers,
                        in_pairs::<L>(scale),
                        values,
                        columns,
                    );
                } else {
                    let mut sums = [L::splat(0); M];
                    for m in 0..M {
                        sums[m] = if M > 1 {
                            L::splat(starts[m][span])
                        } else {
                            start::<L>(32, row_sums.add(span))
                        };
                    }
                    let sums = dot_rows::<L, 4, M>(sums, &numbers, values, columns);
                    for m in 0..M {
                        dots[m] = L::add(dots[m], L::mul(sums[m], scale));
                    }
                }
                scale_bytes = L::shr(scale_bytes, 8);
                at = at.add(3 * LINE);
                (values, span) = (values.add(16), span + 1);
            }
        }
        row_sums = row_sums.add(16);
        let d = L::load_f(block.cast());
        for m in 0..M {
            let value = L::mul_f(L::to_floats(dots[m]), d);
            results[m] = L::fma(value, L::splat_f(*scales.add(m * blocks + s)), results[m]);
        }
    }
    for m in 0..M {
        L::store_f(tile[first + m].as_mut_ptr(), results[m]);
    }
}

/// What undoes that the numbers of a Q6_K superblock are too large by 32: -32 times the sum over its 16 spans of their
/// scales, four to a lane of each line, times the sums of the activations, which fit 16 bits.
#[inline(always)]
unsafe fn q6_k_starts<L: Lanes, const M: usize>(
    scale_lines: *const u8,
    sums: *const i32,
    blocks: usize,
) -> [L::Ints; M] {
    let mut pairs_of_sums = [[0i32; 8]; M];
    for m in 0..M {
        L::store_words(pairs_of_sums[m].as_mut_ptr().cast(), L::load(sums.add(m * blocks * 16).cast()));
    }
    let mut starts = [L::splat(0); M];
    for line in 0..turns(4) {
        let bytes = L::load(scale_lines.add(line * LINE));
        // signed bytes 0 and 1, 2 and 3, as pairs
        let low = L::and(L::sar(L::shl(bytes, 24), 24), L::splat(0xffff));
        let first = L::or(low, L::shl(L::sar(L::shl(bytes, 16), 24), 16));
        let low = L::and(L::sar(L::shl(bytes, 8), 24), L::splat(0xffff));
        let second = L::or(low, L::shl(L::sar(bytes, 24), 16));
        for m in 0..M {
            let sums = pairs_of_sums[m].as_ptr().add(2 * line);
            starts[m] = L::dot_pairs(starts[m], first, L::splat(sums.read_volatile()));
            starts[m] = L::dot_pairs(starts[m], second, L::splat(sums.add(1).read_volatile()));
        }
    }
    for m in 0..M {
        starts[m] = L::mul(starts[m], L::splat(-32));
    }
    starts
}

/// IQ4_XS.
#[inline(always)]
pub(super) unsafe fn iq4_xs<L: Lanes>(weights: &[u8], input: Int8Rows<'_, 256>, tile: &mut Tile) {
    input.check();
    assert!(weights.as_ptr().addr().is_multiple_of(LINE));
    assert!(weights.len() >= input.columns / SUPERBLOCK * IQ4_XS_BYTES);
    by_rows!(L, input.rows(), |first, M| iq4_xs_rows::<L, M>(weights.as_ptr(), &input, first, tile));
}

#[inline(always)]
unsafe fn iq4_xs_rows<L: Lanes, const M: usize>(
    weights: *const u8,
    input: &Int8Rows<'_, 256>,
    first: usize,
    tile: &mut Tile,
) {
    let columns = input.columns;
    let blocks = columns / SUPERBLOCK;
    let (ahead, four) = (ahead(M), turns(4));
    let mut values = input.values.as_ptr().add(first * columns);
    let scales = input.scales.as_ptr().add(first * blocks);
    let mut sums = input.sums.as_ptr().add(first * blocks * 16);
    let mut results = [L::splat_f(0.0); M];
    let mut at = weights;
    for s in 0..blocks {
        let block = at;
        prefetch::<L, M>(block, ahead, IQ4_XS_NUMBERS / LINE);
        touch(block, IQ4_XS_NUMBERS / LINE);
        let mut dots = [L::splat(0); M];
        at = at.add(IQ4_XS_NUMBERS);
        for mut scale_bytes in iq4_xs_scales::<L>(block) {
            for _ in 0..four {
                prefetch::<L, M>(at, ahead, 4);
                let numbers = looked_up::<L>(at, const { &raised(IQ4_NL_VALUES, 128) });
                // the 6-bit number in a byte's lower bits, signed
                let scale = L::sar(L::shl(scale_bytes, 26), 26);
                for m in 0..M {
                    let sums = sums.add(m * blocks * 16);
                    let start = L::splat(-L::WIDE_OFFSET * (*sums + *sums.add(1)));
                    let sum = dot_32_wide::<L>(start, &numbers, values.add(m * columns));
                    dots[m] = L::add(dots[m], L::mul(sum, scale));
                }
                scale_bytes = L::shr(scale_bytes, 8);
                at = at.add(4 * LINE);
                (values, sums) = (values.add(32), sums.add(2));
            }
        }
        let d = L::load_f16(block);
        for m in 0..M {
            let value = L::mul_f(L::to_floats(dots[m]), d);
            results[m] = L::fma(value, L::splat_f(*scales.add(m * blocks + s)), results[m]);
        }
    }
    for m in 0..M {
        L::store_f(tile[first + m].as_mut_ptr(), results[m]);
    }
}

/// The scales 0 to 3 and 4 to 7 of each row of an IQ4_XS superblock, in the lower 6 bits of bytes.
#[inline(always)]
pub(super) unsafe fn iq4_xs_scales<L: Lanes>(block: *const u8) -> [L::Ints; 2] {
    let lower = L::load(block.add(IQ4_XS_SCALES + 32));
    // a row's 16 upper bits come as the upper half of its lane
    let upper = L::to_bits(L::load_bf16(block.add(IQ4_XS_SCALES)));
    let first = L::and(L::shr(upper, 12), L::splat(0xf0f0));
    let upper = L::or(first, L::and(upper, L::splat(0xf0f0_0000_u32 as i32)));
    let (low, two) = (L::splat_bytes(15), L::splat_bytes(48));
    [
        L::or(L::and(lower, low), L::and(upper, two)),
        L::or(L::and(L::shr16(lower, 4), low), L::and(L::shr16(upper, 2), two)),
    ]
}
