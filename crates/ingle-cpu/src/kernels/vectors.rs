//! What the executor does to rows of floats between products.
//!
//! Whole vectors of 16 first; what is left over goes through a padded copy of one vector.

// Contract of `lanes`; besides, callers pass slices of equal lengths.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use half::f16;

use super::floats::{F16, F32, Stored};
use super::lanes::Lanes;
use super::{layout, scalar};

/// Loads `left` (below 16) floats, the rest `fill`.
#[inline(always)]
pub(super) unsafe fn load_part<L: Lanes>(from: *const f32, left: usize, fill: f32) -> L::Floats {
    let mut part = [fill; 16];
    std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), left);
    L::load_f(part.as_ptr())
}

/// Loads `left` (below 16) stored numbers, the rest zero.
#[inline(always)]
unsafe fn load_part_of<L: Lanes, S: Stored>(from: *const u8, left: usize) -> L::Floats {
    let mut part = [0u8; 64];
    std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), left * S::BYTES);
    S::load::<L>(part.as_ptr())
}

/// Stores the first `left` (below 16) floats.
#[inline(always)]
pub(super) unsafe fn store_part<L: Lanes>(to: *mut f32, left: usize, v: L::Floats) {
    let mut part = [0.0; 16];
    L::store_f(part.as_mut_ptr(), v);
    std::ptr::copy_nonoverlapping(part.as_ptr(), to, left);
}

/// The part of `len` that is whole vectors.
#[inline(always)]
pub(super) fn whole(len: usize) -> usize {
    len - len % 16
}

#[inline(always)]
unsafe fn sum_of_products<L: Lanes, S: Stored>(x: *const u8, y: *const f32, len: usize) -> f32 {
    let mut sums = [L::splat_f(0.0); 4];
    let (whole, mut i) = (whole(len), 0);
    while i + 64 <= whole {
        for chain in 0..4 {
            let at = i + chain * 16;
            sums[chain] = L::fma(S::load::<L>(x.add(at * S::BYTES)), L::load_f(y.add(at)), sums[chain]);
        }
        i += 64;
    }
    while i < whole {
        sums[0] = L::fma(S::load::<L>(x.add(i * S::BYTES)), L::load_f(y.add(i)), sums[0]);
        i += 16;
    }
    if whole < len {
        let x = load_part_of::<L, S>(x.add(whole * S::BYTES), len - whole);
        sums[1] = L::fma(x, load_part::<L>(y.add(whole), len - whole, 0.0), sums[1]);
    }
    L::sum_f(L::add_f(L::add_f(sums[0], sums[1]), L::add_f(sums[2], sums[3])))
}

#[inline(always)]
pub(super) unsafe fn square_sum<L: Lanes>(x: &[f32]) -> f32 {
    sum_of_products::<L, F32>(x.as_ptr().cast(), x.as_ptr(), x.len())
}

#[inline(always)]
pub(super) unsafe fn dot<L: Lanes>(x: &[f32], y: &[f32]) -> f32 {
    sum_of_products::<L, F32>(x.as_ptr().cast(), y.as_ptr(), x.len())
}

#[inline(always)]
pub(super) unsafe fn dot_f16<L: Lanes>(x: &[f16], y: &[f32]) -> f32 {
    sum_of_products::<L, F16>(x.as_ptr().cast(), y.as_ptr(), x.len())
}

/// `x` and `out` may be the same.
#[inline(always)]
pub(super) unsafe fn scaled_mul<L: Lanes>(x: *const f32, weight: &[f32], factor: f32, out: *mut f32) {
    let (len, weight, factor) = (weight.len(), weight.as_ptr(), L::splat_f(factor));
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        let v = L::mul_f(L::load_f(x.add(i)), factor);
        L::store_f(out.add(i), L::mul_f(v, L::load_f(weight.add(i))));
    }
    if whole < len {
        let left = len - whole;
        let v = L::mul_f(load_part::<L>(x.add(whole), left, 0.0), factor);
        store_part::<L>(out.add(whole), left, L::mul_f(v, load_part::<L>(weight.add(whole), left, 0.0)));
    }
}

#[inline(always)]
pub(super) unsafe fn silu_mul<L: Lanes>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (len, gate, up, out) = (gate.len(), gate.as_ptr(), up.as_ptr(), out.as_mut_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(out.add(i), silu::<L>(L::load_f(gate.add(i)), L::load_f(up.add(i))));
    }
    if whole < len {
        let left = len - whole;
        let (gate, up) =
            (load_part::<L>(gate.add(whole), left, 0.0), load_part::<L>(up.add(whole), left, 0.0));
        store_part::<L>(out.add(whole), left, silu::<L>(gate, up));
    }
}

#[inline(always)]
pub(super) unsafe fn silu<L: Lanes>(gate: L::Floats, up: L::Floats) -> L::Floats {
    let one = L::splat_f(1.0);
    let power = exp::<L>(L::sub_f(L::splat_f(0.0), gate));
    L::mul_f(L::div_f(gate, L::add_f(one, power)), up)
}

/// e to the power of each lane, to 2 units in the last place. Below -87.7 it is zero, above 88.3 it stays at e^88.3;
/// what is not a number stays so.
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L::Floats) -> L::Floats {
    let Power { less_one, two_n } = power::<L>(x);
    L::mul_f(L::add_f(less_one, L::splat_f(1.0)), two_n)
}

/// e to some power, in two factors: `(less_one + 1) * two_n`.
pub(super) struct Power<F> {
    /// `e^r - 1` for `|r| <= ln 2 / 2`, without loss near zero.
    pub(super) less_one: F,
    /// A power of two, or zero.
    pub(super) two_n: F,
}

#[inline(always)]
pub(super) unsafe fn power<L: Lanes>(x: L::Floats) -> Power<L::Floats> {
    // At -88.1 the exponent below is -127, which makes the factor zero.
    let x = L::min_f(L::splat_f(88.3), L::max_f(L::splat_f(-88.1), x));
    let n = L::round(L::mul_f(x, L::splat_f(std::f32::consts::LOG2_E)));
    let whole = L::to_floats(n);
    // ln 2 in two parts, so that the difference keeps its last bits.
    let r = L::fnma(whole, L::splat_f(0.693_359_4), x);
    let r = L::fnma(whole, L::splat_f(-2.121_944_4e-4), r);
    // e^r = 1 + r + r^2 p(r) for |r| <= ln 2 / 2; p is the minimax polynomial of the Cephes library.
    let mut p = L::splat_f(1.987_569_1e-4);
    p = L::fma(p, r, L::splat_f(1.398_199_9e-3));
    p = L::fma(p, r, L::splat_f(8.333_452e-3));
    p = L::fma(p, r, L::splat_f(4.166_579_6e-2));
    p = L::fma(p, r, L::splat_f(1.666_666_5e-1));
    p = L::fma(p, r, L::splat_f(0.5));
    let less_one = L::fma(L::mul_f(r, r), p, r);
    Power { less_one, two_n: L::from_bits(L::shl(L::add(n, L::splat(127)), 23)) }
}

#[inline(always)]
pub(super) unsafe fn add<L: Lanes>(x: &mut [f32], y: &[f32]) {
    let (len, x, y) = (x.len(), x.as_mut_ptr(), y.as_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(x.add(i), L::add_f(L::load_f(x.add(i)), L::load_f(y.add(i))));
    }
    for i in whole..len {
        *x.add(i) += *y.add(i);
    }
}

#[inline(always)]
pub(super) unsafe fn scale<L: Lanes>(x: &mut [f32], factor: f32) {
    let (len, x) = (x.len(), x.as_mut_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(x.add(i), L::mul_f(L::load_f(x.add(i)), L::splat_f(factor)));
    }
    for i in whole..len {
        *x.add(i) *= factor;
    }
}

#[inline(always)]
unsafe fn axpy_of<L: Lanes, S: Stored>(factor: f32, x: *const u8, y: &mut [f32]) {
    let (len, y, factor) = (y.len(), y.as_mut_ptr(), L::splat_f(factor));
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        let x = S::load::<L>(x.add(S::BYTES * i));
        L::store_f(y.add(i), L::fma(x, factor, L::load_f(y.add(i))));
    }
    if whole < len {
        let left = len - whole;
        let x = load_part_of::<L, S>(x.add(S::BYTES * whole), left);
        store_part::<L>(y.add(whole), left, L::fma(x, factor, load_part::<L>(y.add(whole), left, 0.0)));
    }
}

#[inline(always)]
pub(super) unsafe fn axpy<L: Lanes>(factor: f32, x: &[f32], y: &mut [f32]) {
    axpy_of::<L, F32>(factor, x.as_ptr().cast(), y);
}

#[inline(always)]
pub(super) unsafe fn axpy_f16<L: Lanes>(factor: f32, x: &[f16], y: &mut [f32]) {
    axpy_of::<L, F16>(factor, x.as_ptr().cast(), y);
}

#[inline(always)]
pub(super) unsafe fn positive_axpy<L: Lanes>(factor: f32, x: &[f32], y: &mut [f32]) {
    let (len, x, y) = (x.len(), x.as_ptr(), y.as_mut_ptr());
    let (factor, zero) = (L::splat_f(factor), L::splat_f(0.0));
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        let x = L::max_f(L::load_f(x.add(i)), zero);
        L::store_f(y.add(i), L::fma(x, factor, L::load_f(y.add(i))));
    }
    if whole < len {
        let left = len - whole;
        let x = L::max_f(load_part::<L>(x.add(whole), left, 0.0), zero);
        store_part::<L>(y.add(whole), left, L::fma(x, factor, load_part::<L>(y.add(whole), left, 0.0)));
    }
}

#[inline(always)]
pub(super) unsafe fn to_f16<L: Lanes>(x: &[f32], out: &mut [f16]) {
    let (len, x, out) = (x.len(), x.as_ptr(), out.as_mut_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f16(out.add(i).cast(), L::load_f(x.add(i)));
    }
    if whole < len {
        let mut part = [f16::ZERO; 16];
        L::store_f16(part.as_mut_ptr().cast(), load_part::<L>(x.add(whole), len - whole, 0.0));
        std::ptr::copy_nonoverlapping(part.as_ptr(), out.add(whole), len - whole);
    }
}

#[inline(always)]
pub(super) unsafe fn max<L: Lanes>(x: &[f32]) -> f32 {
    let (len, x) = (x.len(), x.as_ptr());
    let whole = whole(len);
    let mut largest = L::splat_f(f32::NEG_INFINITY);
    for i in (0..whole).step_by(16) {
        largest = L::max_f(L::load_f(x.add(i)), largest);
    }
    if whole < len {
        largest = L::max_f(load_part::<L>(x.add(whole), len - whole, f32::NEG_INFINITY), largest);
    }
    L::largest_f(largest)
}

#[inline(always)]
pub(super) unsafe fn exp_sum<L: Lanes>(x: &mut [f32], shift: f32) -> f32 {
    let (len, x, shift) = (x.len(), x.as_mut_ptr(), L::splat_f(shift));
    let whole = whole(len);
    let mut sum = L::splat_f(0.0);
    for i in (0..whole).step_by(16) {
        let power = exp::<L>(L::sub_f(L::load_f(x.add(i)), shift));
        L::store_f(x.add(i), power);
        sum = L::add_f(sum, power);
    }
    if whole < len {
        // Filled with what becomes zero, so that it does not count.
        let left = load_part::<L>(x.add(whole), len - whole, f32::NEG_INFINITY);
        let power = exp::<L>(L::sub_f(left, shift));
        store_part::<L>(x.add(whole), len - whole, power);
        sum = L::add_f(sum, power);
    }
    L::sum_f(sum)
}

/// The largest magnitude in `x` (whole vectors): compared as integers, in which order "not a number" is the largest.
#[inline(always)]
pub(super) unsafe fn largest_magnitude<L: Lanes>(x: *const f32, len: usize) -> f32 {
    let magnitude = L::splat(0x7fff_ffff);
    let mut largest = L::splat(0);
    for i in (0..len).step_by(16) {
        largest = L::max(largest, L::and(L::to_bits(L::load_f(x.add(i))), magnitude));
    }
    f32::from_bits(L::largest(largest) as u32)
}

/// The scale of a block and the factor that makes integers of it; none for a block with what is no finite number.
#[inline(always)]
fn scale_and_inverse(largest: f32) -> Option<(f32, f32)> {
    match largest {
        _ if largest < layout::SMALLEST => Some((0.0, 0.0)),
        _ if largest.is_finite() => Some((largest / 127.0, 127.0 / largest)),
        _ => None,
    }
}

#[inline(always)]
pub(super) unsafe fn quantise_256<L: Lanes>(
    x: &[f32],
    values: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
    pairs: &mut [i32],
) {
    for (block, scale) in scales.iter_mut().enumerate() {
        let x = x.as_ptr().add(block * 256);
        let Some((undo, inverse)) = scale_and_inverse(largest_magnitude::<L>(x, 256)) else {
            *scale = f32::NAN;
            values[block * 256..][..256].fill(0);
            sums[block * 16..][..16].fill(0);
            continue;
        };
        *scale = undo;
        for i in 0..16 {
            let rounded = L::round(L::mul_f(L::load_f(x.add(i * 16)), L::splat_f(inverse)));
            L::store_bytes(values.as_mut_ptr().add(block * 256 + i * 16), rounded);
            *sums.as_mut_ptr().add(block * 16 + i) = L::sum(rounded);
        }
    }
    scalar::pair_sums(sums, pairs);
}

#[inline(always)]
pub(super) unsafe fn quantise_32<L: Lanes>(
    x: &[f32],
    values: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
) {
    for (block, scale) in scales.iter_mut().enumerate() {
        let x = x.as_ptr().add(block * 32);
        let Some((undo, inverse)) = scale_and_inverse(largest_magnitude::<L>(x, 32)) else {
            *scale = f32::NAN;
            values[block * 32..][..32].fill(0);
            sums[block] = 0;
            continue;
        };
        *scale = undo;
        let low = L::round(L::mul_f(L::load_f(x), L::splat_f(inverse)));
        let high = L::round(L::mul_f(L::load_f(x.add(16)), L::splat_f(inverse)));
        L::store_bytes(values.as_mut_ptr().add(block * 32), low);
        L::store_bytes(values.as_mut_ptr().add(block * 32 + 16), high);
        *sums.as_mut_ptr().add(block) = L::sum(L::add(low, high));
    }
}
