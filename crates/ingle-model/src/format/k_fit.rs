//! Choosing scales and codes for the K formats, which have no published quantiser to match to the byte.
//!
//! The aim is the least squared error of the stored numbers. Three steps, each a small search: what scale (and
//! minimum) would suit every sub-block by itself; what block scales, sub-block counts and codes come nearest to that;
//! what block scales would have been best for those counts and codes, and the second step again with these.
//!
//! Codes are kept as floats until they are packed, so that the loops over a sub-block stay simple arithmetic.

use half::f16;

use super::block::reciprocal;

/// How far, in codes, the first guess of a scale is varied either way, and in what steps.
const VARY: std::ops::RangeInclusive<i32> = -10..=10;
const VARY_STEP: f32 = 0.1;
/// How often block scales are fitted anew to the codes chosen with the last ones.
const ROUNDS: usize = 3;

/// A block of `S` sub-blocks of `L` numbers, each `d * scale * code - dmin * min`.
pub(super) struct Affine<const S: usize, const L: usize> {
    pub(super) d: f16,
    pub(super) dmin: f16,
    pub(super) scales: [u8; S],
    pub(super) minima: [u8; S],
    pub(super) codes: [[u8; L]; S],
}

/// A block of `S` sub-blocks of `L` numbers, each `d * scale * (code - zero)`.
pub(super) struct Signed<const S: usize, const L: usize> {
    pub(super) d: f16,
    pub(super) scales: [i8; S],
    pub(super) codes: [[u8; L]; S],
}

/// Nearest whole number in `0..=top`; 0 for NaN. `top` is far below 2^22, from where adding 1.5 * 2^23 would not round
/// to whole numbers.
#[inline]
fn nearest(v: f32, top: f32) -> f32 {
    const ROUNDER: f32 = 12_582_912.0;
    // Comparisons, not `max` and `min`: one instruction each, and NaN goes to 0.
    let v = if v > 0.0 { v } else { 0.0 };
    let v = if v < top { v } else { top };
    (v + ROUNDER) - ROUNDER
}

/// Half-precision scale nearest to `v`, never infinite; NaN goes to 0.
fn storable(v: f32) -> f16 {
    if v.is_nan() { f16::ZERO } else { f16::from_f32(v.clamp(-65504.0, 65504.0)) }
}

/// The first half-precision scale that is not nearer to 0 than `v`: the largest count then still reaches the largest
/// sub-block scale. That matters for scales so small that half precision is coarse there.
fn storable_outwards(v: f32) -> f16 {
    let stored = storable(v);
    if stored.to_f32().abs() < v.abs() && stored.to_f32().abs() < 65504.0 {
        f16::from_bits(stored.to_bits() + 1)
    } else {
        stored
    }
}

fn whole<const L: usize>(codes: [f32; L]) -> [u8; L] {
    codes.map(|code| code as u8)
}

/// A sum of `L` terms in eight interleaved parts, which vector registers can hold.
#[inline(always)]
fn sum<const L: usize>(term: impl Fn(usize) -> f32) -> f32 {
    const { assert!(L.is_multiple_of(8)) };
    let mut parts = [0.0f32; 8];
    for i in 0..L {
        parts[i % 8] += term(i);
    }
    parts.iter().sum()
}

/// Best codes `0..=top` for `scale * code - min`, and their squared error.
#[inline]
fn affine_codes<const L: usize>(x: &[f32; L], scale: f32, min: f32, top: f32) -> ([f32; L], f32) {
    let inverse = reciprocal(scale);
    let mut codes = [0.0; L];
    for i in 0..L {
        codes[i] = nearest((x[i] + min) * inverse, top);
    }
    let off = |i: usize| scale * codes[i] - min - x[i];
    (codes, sum::<L>(|i| off(i) * off(i)))
}

/// The scale and the minimum, neither negative, that suit a sub-block best.
fn fit_affine<const L: usize>(x: &[f32; L], top: f32) -> (f32, f32) {
    let low = x.iter().fold(0.0f32, |low, &v| low.min(v));
    let high = x.iter().fold(low, |high, &v| high.max(v));
    let mut best = ((high - low) / top, -low);
    if high <= low {
        return best;
    }
    let (_, mut least) = affine_codes(x, best.0, best.1, top);
    let sum_x = sum::<L>(|i| x[i]);
    for vary in VARY {
        let guess = (high - low) / (top + VARY_STEP * vary as f32);
        let (codes, _) = affine_codes(x, guess, -low, top);
        let sum_q = sum::<L>(|i| codes[i]);
        let sum_qq = sum::<L>(|i| codes[i] * codes[i]);
        let sum_qx = sum::<L>(|i| codes[i] * x[i]);
        let determinant = L as f32 * sum_qq - sum_q * sum_q;
        if determinant <= 0.0 {
            continue;
        }
        let mut scale = (L as f32 * sum_qx - sum_q * sum_x) / determinant;
        let mut min = (sum_q * sum_qx - sum_qq * sum_x) / determinant;
        if min < 0.0 {
            (scale, min) = (sum_qx / sum_qq, 0.0);
        }
        if scale <= 0.0 {
            continue;
        }
        let (_, error) = affine_codes(x, scale, min, top);
        if error < least {
            (best, least) = ((scale, min), error);
        }
    }
    best
}

/// Chooses everything of a block whose counts of `d` and `dmin` go to `most` and whose codes go to `top`.
pub(super) fn affine<const S: usize, const L: usize>(x: &[[f32; L]; S], most: u8, top: u8) -> Affine<S, L> {
    let (most, top) = (f32::from(most), f32::from(top));
    let fits: [(f32, f32); S] = std::array::from_fn(|s| fit_affine(&x[s], top));
    let d = storable_outwards(fits.iter().fold(0.0f32, |far, fit| far.max(fit.0)) / most);
    let dmin = storable_outwards(fits.iter().fold(0.0f32, |far, fit| far.max(fit.1)) / most);
    let (mut best, mut least) = affine_block(x, &fits, d, dmin, most, top);
    for _ in 1..ROUNDS {
        let Some((d, dmin)) = refit_affine(x, &best) else { break };
        let (block, error) = affine_block(x, &fits, d, dmin, most, top);
        if error < least {
            (best, least) = (block, error);
        } else {
            break;
        }
    }
    best
}

/// Counts and codes for given block scales, and the squared error.
fn affine_block<const S: usize, const L: usize>(
    x: &[[f32; L]; S],
    fits: &[(f32, f32); S],
    d: f16,
    dmin: f16,
    most: f32,
    top: f32,
) -> (Affine<S, L>, f32) {
    let mut block = Affine { d, dmin, scales: [0; S], minima: [0; S], codes: [[0; L]; S] };
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let mut total = 0.0;
    for s in 0..S {
        let scale = nearest(fits[s].0 * reciprocal(d), most);
        let min = nearest(fits[s].1 * reciprocal(dmin), most);
        let (mut codes, mut least) = affine_codes(&x[s], d * scale, dmin * min, top);
        let mut counts = (scale, min);
        for (up, along) in
            [(-1., -1.), (-1., 0.), (-1., 1.), (0., -1.), (0., 1.), (1., -1.), (1., 0.), (1., 1.)]
        {
            let (scale, min) = (nearest(scale + up, most), nearest(min + along, most));
            let (candidate, error) = affine_codes(&x[s], d * scale, dmin * min, top);
            if error < least {
                (codes, least, counts) = (candidate, error, (scale, min));
            }
        }
        block.codes[s] = whole(codes);
        (block.scales[s], block.minima[s]) = (counts.0 as u8, counts.1 as u8);
        total += least;
    }
    (block, total)
}

/// The block scales with the least squared error for a block's counts and codes.
fn refit_affine<const S: usize, const L: usize>(
    x: &[[f32; L]; S],
    block: &Affine<S, L>,
) -> Option<(f16, f16)> {
    // x = d * a - dmin * b
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for s in 0..S {
        let b = f64::from(block.minima[s]);
        for i in 0..L {
            let a = f64::from(block.scales[s]) * f64::from(block.codes[s][i]);
            let x = f64::from(x[s][i]);
            aa += a * a;
            ab += a * b;
            bb += b * b;
            ax += a * x;
            bx += b * x;
        }
    }
    let determinant = aa * bb - ab * ab;
    let (d, dmin) = if bb == 0.0 && aa > 0.0 {
        (ax / aa, f64::from(block.dmin))
    } else if determinant > 0.0 {
        ((ax * bb - ab * bx) / determinant, (ab * ax - aa * bx) / determinant)
    } else {
        return None;
    };
    (d > 0.0 && dmin >= 0.0).then(|| (storable(d as f32), storable(dmin as f32)))
}

/// Best codes `0..2 * zero` for `scale * (code - zero)`, and their squared error.
#[inline]
fn signed_codes<const L: usize>(x: &[f32; L], scale: f32, zero: f32) -> ([f32; L], f32) {
    let inverse = reciprocal(scale);
    let mut codes = [0.0; L];
    for i in 0..L {
        codes[i] = nearest(x[i] * inverse + zero, 2.0 * zero - 1.0);
    }
    let off = |i: usize| scale * (codes[i] - zero) - x[i];
    (codes, sum::<L>(|i| off(i) * off(i)))
}

/// Of the numbers furthest from 0 the first, with its sign.
fn furthest(x: impl IntoIterator<Item = f32>) -> f32 {
    x.into_iter().fold(0.0, |far: f32, v| if v.abs() > far.abs() { v } else { far })
}

/// The scale, of either sign, that suits a sub-block best.
fn fit_signed<const L: usize>(x: &[f32; L], zero: f32) -> f32 {
    let far = furthest(*x);
    let (mut best, mut most) = (-far / zero, 0.0);
    for vary in VARY {
        // The furthest number at either end of the codes.
        for end in [-zero, zero - 1.0] {
            let (codes, _) = signed_codes(x, far / (end + end.signum() * VARY_STEP * vary as f32), zero);
            let sum_qq = sum::<L>(|i| (codes[i] - zero) * (codes[i] - zero));
            let sum_qx = sum::<L>(|i| (codes[i] - zero) * x[i]);
            // What the best scale for these codes, sum_qx / sum_qq, takes off the squared error.
            let taken = sum_qx * sum_qx / sum_qq;
            if taken > most {
                (best, most) = (sum_qx / sum_qq, taken);
            }
        }
    }
    best
}

/// Chooses everything of a block whose counts of `d` are `-most..most` and whose codes are `0..2 * zero`.
pub(super) fn signed<const S: usize, const L: usize>(x: &[[f32; L]; S], most: u8, zero: u8) -> Signed<S, L> {
    let (most, zero) = (f32::from(most), f32::from(zero));
    let fits: [f32; S] = std::array::from_fn(|s| fit_signed(&x[s], zero));
    let d = storable_outwards(furthest(fits) / -most);
    let (mut best, mut least) = signed_block(x, &fits, d, most, zero);
    for _ in 1..ROUNDS {
        let Some(d) = refit_signed(x, &best, zero) else { break };
        let (block, error) = signed_block(x, &fits, d, most, zero);
        if error < least {
            (best, least) = (block, error);
        } else {
            break;
        }
    }
    best
}

/// Counts and codes for a given block scale, and the squared error.
fn signed_block<const S: usize, const L: usize>(
    x: &[[f32; L]; S],
    fits: &[f32; S],
    d: f16,
    most: f32,
    zero: f32,
) -> (Signed<S, L>, f32) {
    let mut block = Signed { d, scales: [0; S], codes: [[0; L]; S] };
    let d = d.to_f32();
    let mut total = 0.0;
    for s in 0..S {
        let count = |v: f32| nearest(v + most, 2.0 * most - 1.0) - most;
        let middle = count(fits[s] * reciprocal(d));
        let (mut codes, mut least) = signed_codes(&x[s], d * middle, zero);
        let mut scale = middle;
        for candidate in [count(middle - 1.0), count(middle + 1.0)] {
            let (other, error) = signed_codes(&x[s], d * candidate, zero);
            if error < least {
                (codes, least, scale) = (other, error, candidate);
            }
        }
        block.codes[s] = whole(codes);
        block.scales[s] = scale as i8;
        total += least;
    }
    (block, total)
}

/// The block scale with the least squared error for a block's counts and codes.
fn refit_signed<const S: usize, const L: usize>(
    x: &[[f32; L]; S],
    block: &Signed<S, L>,
    zero: f32,
) -> Option<f16> {
    let (mut aa, mut ax) = (0.0f64, 0.0f64);
    for s in 0..S {
        for i in 0..L {
            let a = f64::from(block.scales[s]) * (f64::from(block.codes[s][i]) - f64::from(zero));
            aa += a * a;
            ax += a * f64::from(x[s][i]);
        }
    }
    (aa > 0.0).then(|| storable((ax / aa) as f32))
}
