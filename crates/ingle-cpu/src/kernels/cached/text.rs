//! The kernels over a page of integers, written over 16 lanes: see the head of [`super`].

// Contract of `lanes`; besides, callers pass slices of fitting lengths (see `table`).
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::{CACHE_BLOCK, RowLimits, SMALLEST_SCALE, Softmax, WEIGHTS};
use crate::kernels::PAGE;
use crate::kernels::gates::capped;
use crate::kernels::lanes::Lanes;
use crate::kernels::pages::{Fetch, by_queries};
use crate::kernels::vectors::{largest_magnitude, load_part, square_sum, whole};
use half::bf16;

/// Whether sums of 4 queries by 4 vectors fit the registers.
#[inline(always)]
fn wide<L: Lanes>() -> bool {
    L::ROWS > 4
}

/// Queries whose sums are in registers together.
#[inline(always)]
fn together<L: Lanes>() -> usize {
    if wide::<L>() { 4 } else { 2 }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn dots<L: Lanes>(
    queries: &[i16],
    keys: &[i16],
    ahead: &[u8],
    out: &mut [[i32; PAGE]],
) {
    let pairs = keys.len() / (2 * PAGE);
    let together = together::<L>();
    let passes = if wide::<L>() { 1 } else { 2 };
    let mut fetch = Fetch::new(ahead, passes * pairs * out.len().div_ceil(together));
    for (at, out) in out.chunks_mut(together).enumerate() {
        let queries = queries.as_ptr().add(at * together * pairs * 2).cast();
        if wide::<L>() {
            by_queries!(out.len(), Q => dots_of::<L, Q, 4>(queries, pairs, keys, &mut fetch, out));
        } else {
            by_queries!(out.len(), Q => dots_of::<L, Q, 2>(queries, pairs, keys, &mut fetch, out));
        }
    }
}

/// `Q` queries, `N` vectors of 16 positions at a time.
#[inline(always)]
unsafe fn dots_of<L: Lanes, const Q: usize, const N: usize>(
    queries: *const i32,
    pairs: usize,
    keys: &[i16],
    fetch: &mut Fetch,
    out: &mut [[i32; PAGE]],
) {
    for position in (0..PAGE).step_by(N * 16) {
        let mut sums = [[L::splat(0); N]; Q];
        for pair in 0..pairs {
            fetch.next::<L>();
            let row = keys.as_ptr().add((pair * PAGE + position) * 2);
            let key: [L::Ints; N] = std::array::from_fn(|at| L::load(row.add(at * 32).cast()));
            for query in 0..Q {
                let two = L::splat(queries.add(query * pairs + pair).read_unaligned());
                for at in 0..N {
                    sums[query][at] = L::dot_pairs(sums[query][at], key[at], two);
                }
            }
        }
        for query in 0..Q {
            let out = out[query].as_mut_ptr().add(position);
            for at in 0..N {
                L::store_f(out.add(at * 16).cast(), L::from_bits(sums[query][at]));
            }
        }
    }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn weigh<L: Lanes>(
    dots: &[[i32; PAGE]],
    key_scales: &[bf16; PAGE],
    value_scales: &[bf16; PAGE],
    soft_cap: Option<f32>,
    rows: &mut [Softmax],
    weights: &mut [[i16; PAGE]],
) {
    let (key_scales, value_scales) = (key_scales.as_ptr(), value_scales.as_ptr());
    let key_scales: [L::Floats; 4] = std::array::from_fn(|at| L::load_bf16(key_scales.add(at * 16).cast()));
    let value_scales: [L::Floats; 4] =
        std::array::from_fn(|at| L::load_bf16(value_scales.add(at * 16).cast()));
    for ((dots, row), weights) in dots.iter().zip(rows).zip(weights) {
        weigh_row::<L>(dots, &key_scales, &value_scales, soft_cap, row, weights);
    }
}

#[inline(always)]
unsafe fn weigh_row<L: Lanes>(
    dots: &[i32; PAGE],
    key_scales: &[L::Floats; 4],
    value_scales: &[L::Floats; 4],
    soft_cap: Option<f32>,
    row: &mut Softmax,
    weights: &mut [i16; PAGE],
) {
    let (start, end) = (row.seen.start, row.seen.end.min(PAGE));
    (row.shrink, row.unit) = (1.0, 0.0);
    if start >= end {
        weights.fill(0);
        return;
    }
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    let factor = L::splat_f(if soft_cap.is_some() { row.factor } else { row.factor * LOG2_E });
    // loops, not closures: what computes has to be inlined
    let mut scores = *key_scales;
    for at in 0..4 {
        let dots = L::to_floats(L::load(dots.as_ptr().add(at * 16).cast()));
        scores[at] = L::mul_f(dots, L::mul_f(scores[at], factor));
    }
    if let Some(cap) = soft_cap {
        let (twice_inverse, out) = (L::splat_f(2.0 / cap), L::splat_f(cap * LOG2_E));
        for score in &mut scores {
            *score = capped::<L>(*score, twice_inverse, out);
        }
    }
    let partly = start > 0 || end < PAGE;
    if partly {
        scores = masked::<L>(scores, start, end, f32::NEG_INFINITY);
    }
    let largest = L::max_f(L::max_f(scores[0], scores[1]), L::max_f(scores[2], scores[3]));
    let largest = L::largest_f(largest);
    if largest > row.largest {
        row.shrink = (row.largest - largest).exp2();
        row.sum *= row.shrink;
        row.largest = largest;
    }
    let largest = L::splat_f(row.largest);
    let (mut powers, mut shares) = (scores, *value_scales);
    for at in 0..4 {
        powers[at] = exp2::<L>(L::sub_f(scores[at], largest));
        shares[at] = L::mul_f(powers[at], shares[at]);
    }
    if partly {
        shares = masked::<L>(shares, start, end, 0.0); // whatever scales lie there
    }
    row.sum += sum::<L>(powers);
    let total = sum::<L>(shares);
    if total < SMALLEST_SCALE {
        weights.fill(0);
        return;
    }
    row.unit = total / WEIGHTS;
    let inverse = L::splat_f(WEIGHTS / total);
    for at in 0..4 {
        L::store_words(weights.as_mut_ptr().add(at * 16), L::round(L::mul_f(shares[at], inverse)));
    }
}

#[inline(always)]
unsafe fn sum<L: Lanes>(of: [L::Floats; 4]) -> f32 {
    L::sum_f(L::add_f(L::add_f(of[0], of[1]), L::add_f(of[2], of[3])))
}

/// `fill` where no position is seen.
#[inline(always)]
unsafe fn masked<L: Lanes>(x: [L::Floats; 4], start: usize, end: usize, fill: f32) -> [L::Floats; 4] {
    let mut all = [0.0; PAGE];
    for at in 0..4 {
        L::store_f(all.as_mut_ptr().add(at * 16), x[at]);
    }
    all[..start].fill(fill);
    all[end..].fill(fill);
    std::array::from_fn(|at| L::load_f(all.as_ptr().add(at * 16)))
}

/// 2 to the power of lanes that are not positive, to 2 units in the last place; what is below -126 counts as -126, what
/// is not a number stays so.
#[inline(always)]
unsafe fn exp2<L: Lanes>(x: L::Floats) -> L::Floats {
    let x = L::max_f(L::splat_f(-126.0), x);
    // a sum this large has no bits behind the point, so that the whole number lies in its lowest bits
    let shift = L::splat_f(12_582_912.0);
    let shifted = L::add_f(x, shift);
    let r = L::sub_f(x, L::sub_f(shifted, shift));
    // 2^r for |r| <= 1/2, interpolated where the Chebyshev polynomial is zero
    let mut p = L::splat_f(1.339_086_3e-3);
    p = L::fma(p, r, L::splat_f(9.676_032e-3));
    p = L::fma(p, r, L::splat_f(5.550_357e-2));
    p = L::fma(p, r, L::splat_f(2.402_210_7e-1));
    p = L::fma(p, r, L::splat_f(6.931_472e-1));
    p = L::fma(p, r, L::splat_f(1.0));
    L::from_bits(L::add(L::to_bits(p), L::shl(L::to_bits(shifted), 23)))
}

#[inline(always)]
pub(in crate::kernels) unsafe fn sum_values<L: Lanes>(
    weights: &[[i16; PAGE]],
    rows: &[Softmax],
    values: &[i16],
    positions: usize,
    ahead: &[u8],
    out: &mut [f32],
) {
    let width = values.len() / PAGE;
    let together = together::<L>();
    let mut fetch = Fetch::new(ahead, positions.div_ceil(2) * rows.len().div_ceil(together));
    let groups = weights.chunks(together).zip(rows.chunks(together)).zip(out.chunks_mut(together * width));
    for ((weights, rows), out) in groups {
        by_queries!(rows.len(), Q => sum_values_of::<L, Q>(weights, rows, values, positions, &mut fetch, out));
    }
}

#[inline(always)]
unsafe fn sum_values_of<L: Lanes, const Q: usize>(
    weights: &[[i16; PAGE]],
    rows: &[Softmax],
    values: &[i16],
    positions: usize,
    fetch: &mut Fetch,
    out: &mut [f32],
) {
    let width = values.len() / PAGE;
    let mut component = 0;
    // all of a row at once keeps the reading in order
    while wide::<L>() && Q <= 2 && component + 128 <= width {
        columns::<L, Q, 8>(weights, rows, values, positions, fetch, out, component);
        component += 128;
    }
    while wide::<L>() && component + 64 <= width {
        columns::<L, Q, 4>(weights, rows, values, positions, fetch, out, component);
        component += 64;
    }
    while component + 32 <= width {
        columns::<L, Q, 2>(weights, rows, values, positions, fetch, out, component);
        component += 32;
    }
    if component + 16 <= width {
        columns::<L, Q, 1>(weights, rows, values, positions, fetch, out, component);
        component += 16;
    }
    for component in component..width {
        for (query, (weights, row)) in weights.iter().zip(rows).enumerate() {
            let weighted = |at: usize| {
                let value = values[(at / 2 * width + component) * 2 + at % 2];
                i32::from(weights[at]) * i32::from(value)
            };
            let sum = (0..positions).map(weighted).fold(0, i32::wrapping_add);
            let out = &mut out[query * width + component];
            *out = row.shrink * *out + row.unit * sum as f32;
        }
    }
}

/// `N` vectors of components from `component` on.
#[inline(always)]
unsafe fn columns<L: Lanes, const Q: usize, const N: usize>(
    weights: &[[i16; PAGE]],
    rows: &[Softmax],
    values: &[i16],
    positions: usize,
    fetch: &mut Fetch,
    out: &mut [f32],
    component: usize,
) {
    let width = values.len() / PAGE;
    let weights: *const i32 = weights.as_ptr().cast();
    let mut sums = [[L::splat(0); N]; Q];
    for pair in 0..positions.div_ceil(2) {
        fetch.next::<L>();
        let row = values.as_ptr().add((pair * width + component) * 2);
        let value: [L::Ints; N] = std::array::from_fn(|at| L::load(row.add(at * 32).cast()));
        for query in 0..Q {
            let two = L::splat(weights.add(query * (PAGE / 2) + pair).read_unaligned());
            for at in 0..N {
                sums[query][at] = L::dot_pairs(sums[query][at], value[at], two);
            }
        }
    }
    for query in 0..Q {
        let out = out.as_mut_ptr().add(query * width + component);
        let (shrink, unit) = (L::splat_f(rows[query].shrink), L::splat_f(rows[query].unit));
        for at in 0..N {
            let before = L::mul_f(L::load_f(out.add(at * 16)), shrink);
            L::store_f(out.add(at * 16), L::fma(L::to_floats(sums[query][at]), unit, before));
        }
    }
}

/// Rounds a row to integers within the limits; returns its scale.
#[inline(always)]
pub(in crate::kernels) unsafe fn to_words<L: Lanes>(x: &[f32], limits: RowLimits, out: &mut [i16]) -> f32 {
    let (scale, inverse) = row_scale::<L>(x, limits);
    let (len, from, to, inverse) = (x.len(), x.as_ptr(), out.as_mut_ptr(), L::splat_f(inverse));
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_words(to.add(i), L::round(L::mul_f(L::load_f(from.add(i)), inverse)));
    }
    if whole < len {
        let mut part = [0; 16];
        let left = load_part::<L>(from.add(whole), len - whole, 0.0);
        L::store_words(part.as_mut_ptr(), L::round(L::mul_f(left, inverse)));
        std::ptr::copy_nonoverlapping(part.as_ptr(), to.add(whole), len - whole);
    }
    scale
}

/// Rounds a row to products of a byte and the factor of its block; returns its scale.
#[inline(always)]
pub(in crate::kernels) unsafe fn to_bytes<L: Lanes>(
    x: &[f32],
    limits: RowLimits,
    out: &mut [i8],
    factors: &mut [u8],
) -> f32 {
    let (scale, inverse) = row_scale::<L>(x, limits);
    for ((x, out), factor) in x.chunks(CACHE_BLOCK).zip(out.chunks_mut(CACHE_BLOCK)).zip(factors) {
        let mut block = [0.0; CACHE_BLOCK];
        block[..x.len()].copy_from_slice(x);
        let needed = (largest_magnitude::<L>(block.as_ptr(), CACHE_BLOCK) * inverse / limits.number).ceil();
        *factor = needed as u8; // what is not a number becomes zero
        let inverse = L::splat_f(if *factor == 0 { 0.0 } else { inverse / f32::from(*factor) });
        let mut bytes = [0; CACHE_BLOCK];
        for at in [0, 16] {
            let rounded = L::round(L::mul_f(L::load_f(block.as_ptr().add(at)), inverse));
            L::store_bytes(bytes.as_mut_ptr().add(at), rounded);
        }
        out.copy_from_slice(&bytes[..x.len()]);
    }
    scale
}

/// Scale of a row, and what its numbers are multiplied by to be integers.
#[inline(always)]
unsafe fn row_scale<L: Lanes>(x: &[f32], limits: RowLimits) -> (f32, f32) {
    let whole = whole(x.len());
    let mut largest = largest_magnitude::<L>(x.as_ptr(), whole);
    if whole < x.len() {
        let mut part = [0.0; 16];
        part[..x.len() - whole].copy_from_slice(&x[whole..]);
        largest = f32::from_bits(largest.to_bits().max(largest_magnitude::<L>(part.as_ptr(), 16).to_bits()));
    }
    let length = if limits.length.is_finite() { square_sum::<L>(x).sqrt() } else { 0.0 };
    limits.scale(largest, length)
}

/// 8-bit keys `[key dim / 2][64][2]` with factors `[blocks][64]` to 16 bits.
#[inline(always)]
pub(in crate::kernels) unsafe fn widen_keys<L: Lanes>(
    bytes: &[i8],
    factors: &[u8],
    ahead: &[u8],
    out: &mut [i16],
) {
    let pairs = bytes.len() / (2 * PAGE);
    let mut fetch = Fetch::new(ahead, pairs);
    for (block, factors) in factors.chunks_exact(PAGE).enumerate() {
        let factors: [L::Ints; 4] = std::array::from_fn(|at| {
            let factor = L::load_bytes(factors.as_ptr().add(at * 16));
            L::or(factor, L::shl(factor, 16))
        });
        for pair in block * CACHE_BLOCK / 2..pairs.min((block + 1) * CACHE_BLOCK / 2) {
            fetch.next::<L>();
            for at in 0..4 {
                let place = (pair * PAGE + at * 16) * 2;
                let wide = L::mul_words(L::load_words(bytes.as_ptr().add(place)), factors[at]);
                L::store_f(out.as_mut_ptr().add(place).cast(), L::from_bits(wide));
            }
        }
    }
}

/// 8-bit values `[32][value dim][2]` with factors `[blocks][64]` to 16 bits, the first `positions`.
#[inline(always)]
pub(in crate::kernels) unsafe fn widen_values<L: Lanes>(
    bytes: &[i8],
    factors: &[u8],
    positions: usize,
    ahead: &[u8],
    out: &mut [i16],
) {
    let width = bytes.len() / PAGE;
    let pairs = positions.div_ceil(2);
    let mut fetch = Fetch::new(ahead, pairs);
    for pair in 0..pairs {
        fetch.next::<L>();
        for (block, factors) in factors.chunks_exact(PAGE).enumerate() {
            let (first, second) = (factors[pair * 2], factors[pair * 2 + 1]);
            let factor = L::splat(i32::from(first) | i32::from(second) << 16);
            let components = block * CACHE_BLOCK..width.min((block + 1) * CACHE_BLOCK);
            let whole = components.start + whole(components.len());
            for component in (components.start..whole).step_by(16) {
                let place = (pair * width + component) * 2;
                let wide = L::mul_words(L::load_words(bytes.as_ptr().add(place)), factor);
                L::store_f(out.as_mut_ptr().add(place).cast(), L::from_bits(wide));
            }
            for component in whole..components.end {
                let place = (pair * width + component) * 2;
                out[place] = i16::from(bytes[place]).wrapping_mul(i16::from(first));
                out[place + 1] = i16::from(bytes[place + 1]).wrapping_mul(i16::from(second));
            }
        }
    }
}

/// 16 bytes, their lower and upper 4 bits each less 8, as two 16-bit numbers in a lane, times `factors` in such lanes.
#[inline(always)]
unsafe fn widen_16<L: Lanes>(nibbles: *const u8, factors: L::Ints, negative: L::Ints) -> L::Ints {
    let bytes = L::load_bytes(nibbles);
    let numbers = L::and(L::or(bytes, L::shl(bytes, 12)), L::splat(0x000f_000f));
    L::add_words(L::mul_words(numbers, factors), negative)
}

/// What the products with `factors` are too large by, negative.
#[inline(always)]
unsafe fn eight_times<L: Lanes>(factors: L::Ints) -> L::Ints {
    L::mul_words(factors, L::splat(0xfff8_fff8_u32 as i32))
}

/// 4-bit keys `[key dim / 2][64]` with factors `[blocks][64]` to 16 bits.
#[inline(always)]
pub(in crate::kernels) unsafe fn widen_key_nibbles<L: Lanes>(
    nibbles: &[u8],
    factors: &[u8],
    ahead: &[u8],
    out: &mut [i16],
) {
    let pairs = nibbles.len() / PAGE;
    let mut fetch = Fetch::new(ahead, pairs);
    for (block, factors) in factors.chunks_exact(PAGE).enumerate() {
        let factors: [L::Ints; 4] = std::array::from_fn(|at| {
            let factor = L::load_bytes(factors.as_ptr().add(at * 16));
            L::or(factor, L::shl(factor, 16))
        });
        for pair in block * CACHE_BLOCK / 2..pairs.min((block + 1) * CACHE_BLOCK / 2) {
            fetch.next::<L>();
            for at in 0..4 {
                let place = pair * PAGE + at * 16;
                let negative = eight_times::<L>(factors[at]);
                let wide = widen_16::<L>(nibbles.as_ptr().add(place), factors[at], negative);
                L::store_f(out.as_mut_ptr().add(2 * place).cast(), L::from_bits(wide));
            }
        }
    }
}

/// 4-bit values `[32][value dim]` with factors `[blocks][64]` to 16 bits, the first `positions`.
#[inline(always)]
pub(in crate::kernels) unsafe fn widen_value_nibbles<L: Lanes>(
    nibbles: &[u8],
    factors: &[u8],
    positions: usize,
    ahead: &[u8],
    out: &mut [i16],
) {
    let width = out.len() / PAGE;
    let pairs = positions.div_ceil(2);
    let mut fetch = Fetch::new(ahead, pairs);
    for pair in 0..pairs {
        fetch.next::<L>();
        for (block, factors) in factors.chunks_exact(PAGE).enumerate() {
            let (first, second) = (factors[pair * 2], factors[pair * 2 + 1]);
            let factor = L::splat(i32::from(first) | i32::from(second) << 16);
            let negative = eight_times::<L>(factor);
            let components = block * CACHE_BLOCK..width.min((block + 1) * CACHE_BLOCK);
            let whole = components.start + whole(components.len());
            for component in (components.start..whole).step_by(16) {
                let place = pair * width + component;
                let wide = widen_16::<L>(nibbles.as_ptr().add(place), factor, negative);
                L::store_f(out.as_mut_ptr().add(2 * place).cast(), L::from_bits(wide));
            }
            for component in whole..components.end {
                let place = pair * width + component;
                let number = |shift: u32| i16::from(nibbles[place] >> shift & 15) - 8;
                out[2 * place] = number(0).wrapping_mul(i16::from(first));
                out[2 * place + 1] = number(4).wrapping_mul(i16::from(second));
            }
        }
    }
}
