//! The two products of attention over one page of the cache, for a few queries at once:
//!
//! ```text
//! scores[i][p] = sum_d query[i][d] * key[d][p]
//! out[i][d]   += sum_p weight[i][p] * value[p][d]
//! ```
//!
//! Keys lie with the position innermost, so that a vector holds one component of 16 positions and no lane is ever
//! summed with another.

// Contract of `lanes`; besides, callers pass slices of fitting lengths (see `table`).
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::lanes::Lanes;
use super::{PAGE, PageWeights};
use half::f16;

/// Queries whose sums are in registers together.
const TOGETHER: usize = 4;
/// Vectors of positions or components per pass.
const VECTORS: usize = 2;

#[inline(always)]
pub(super) unsafe fn scores<L: Lanes>(queries: &[&[f32]], keys: &[f16], out: &mut PageWeights) {
    let width = keys.len() / PAGE;
    for (queries, out) in queries.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        for position in (0..PAGE).step_by(VECTORS * 16) {
            let mut sums = [[L::splat_f(0.0); VECTORS]; TOGETHER];
            for component in 0..width {
                let row = keys.as_ptr().add(component * PAGE + position);
                let key: [L::Floats; VECTORS] =
                    std::array::from_fn(|at| L::load_f16(row.add(at * 16).cast()));
                for (sums, query) in sums.iter_mut().zip(queries) {
                    let query = L::splat_f(*query.get_unchecked(component));
                    for at in 0..VECTORS {
                        sums[at] = L::fma(key[at], query, sums[at]);
                    }
                }
            }
            for (sums, out) in sums.iter().zip(out.iter_mut()) {
                for at in 0..VECTORS {
                    L::store_f(out.as_mut_ptr().add(position + at * 16), sums[at]);
                }
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn accumulate<L: Lanes>(
    weights: &PageWeights,
    values: &[f16],
    positions: usize,
    out: &mut [&mut [f32]],
) {
    let width = values.len() / PAGE;
    for (weights, out) in weights.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        let mut component = 0;
        while component + VECTORS * 16 <= width {
            columns::<L, VECTORS>(weights, values, positions, out, component, width);
            component += VECTORS * 16;
        }
        while component + 16 <= width {
            columns::<L, 1>(weights, values, positions, out, component, width);
            component += 16;
        }
        for component in component..width {
            for (weights, out) in weights.iter().zip(out.iter_mut()) {
                out[component] += super::scalar::weighted(weights, values, positions, component, width);
            }
        }
    }
}

/// `N` vectors of components from `component` on.
#[inline(always)]
unsafe fn columns<L: Lanes, const N: usize>(
    weights: &[[f32; PAGE]],
    values: &[f16],
    positions: usize,
    out: &mut [&mut [f32]],
    component: usize,
    width: usize,
) {
    let mut sums = [[L::splat_f(0.0); N]; TOGETHER];
    for (sums, out) in sums.iter_mut().zip(out.iter()) {
        *sums = std::array::from_fn(|at| L::load_f(out.as_ptr().add(component + at * 16)));
    }
    for position in 0..positions {
        let row = values.as_ptr().add(position * width + component);
        let value: [L::Floats; N] = std::array::from_fn(|at| L::load_f16(row.add(at * 16).cast()));
        for (sums, weights) in sums.iter_mut().zip(weights).take(out.len()) {
            let weight = L::splat_f(weights[position]);
            for at in 0..N {
                sums[at] = L::fma(value[at], weight, sums[at]);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.iter_mut()) {
        for at in 0..N {
            L::store_f(out.as_mut_ptr().add(component + at * 16), sums[at]);
        }
    }
}
