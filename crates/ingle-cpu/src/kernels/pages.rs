//! The two products of attention over one page of the cache, for a few queries at once:
//!
//! ```text
//! scores[i][p] = sum_d query[i][d] * key[d][p]
//! out[i][d]   += sum_p weight[i][p] * value[p][d]
//! ```
//!
//! Keys lie with the position innermost, so that a vector holds one component of 16 positions and no lane is ever
//! summed with another.
//!
//! A page of one head is a few kilobytes, too short for the processor to guess what comes next, so each product asks for
//! the numbers (`ahead`) that the product after it will read.

// Contract of `lanes`; besides, callers pass slices of fitting lengths (see `table`).
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::lanes::Lanes;
use super::{PAGE, PageWeights};
use half::f16;

/// Queries whose sums are in registers together.
const TOGETHER: usize = 4;
/// Vectors of positions or components per pass.
const VECTORS: usize = 4;

/// Calls `$text` with `Q` the number of queries, so that their sums are in registers.
macro_rules! by_queries {
    ($count:expr, $q:ident => $call:expr) => {
        match $count {
            1 => by_queries!(@ 1, $q, $call),
            2 => by_queries!(@ 2, $q, $call),
            3 => by_queries!(@ 3, $q, $call),
            _ => by_queries!(@ 4, $q, $call),
        }
    };
    (@ $count:literal, $q:ident, $call:expr) => {{
        const $q: usize = $count;
        $call
    }};
}
pub(super) use by_queries;

#[inline(always)]
pub(super) unsafe fn scores<L: Lanes>(
    queries: &[&[f32]],
    keys: &[f16],
    ahead: &[f16],
    out: &mut PageWeights,
) {
    let mut fetch = Fetch::new(ahead, keys.len() / PAGE);
    for (queries, out) in queries.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        by_queries!(queries.len(), Q => scores_of::<L, Q>(queries, keys, &mut fetch, out));
    }
}

#[inline(always)]
unsafe fn scores_of<L: Lanes, const Q: usize>(
    queries: &[&[f32]],
    keys: &[f16],
    fetch: &mut Fetch,
    out: &mut [[f32; PAGE]],
) {
    let width = keys.len() / PAGE;
    let queries: [*const f32; Q] = std::array::from_fn(|query| queries[query].as_ptr());
    for position in (0..PAGE).step_by(VECTORS * 16) {
        let mut sums = [[L::splat_f(0.0); VECTORS]; Q];
        for component in 0..width {
            fetch.next::<L>();
            let row = keys.as_ptr().add(component * PAGE + position);
            let key: [L::Floats; VECTORS] = std::array::from_fn(|at| L::load_f16(row.add(at * 16).cast()));
            for query in 0..Q {
                let factor = L::splat_f(*queries[query].add(component));
                for at in 0..VECTORS {
                    sums[query][at] = L::fma(key[at], factor, sums[query][at]);
                }
            }
        }
        for query in 0..Q {
            for at in 0..VECTORS {
                L::store_f(out[query].as_mut_ptr().add(position + at * 16), sums[query][at]);
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn accumulate<L: Lanes>(
    weights: &PageWeights,
    values: &[f16],
    positions: usize,
    ahead: &[f16],
    out: &mut [&mut [f32]],
) {
    let mut fetch = Fetch::new(ahead, positions);
    for (weights, out) in weights.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        by_queries!(out.len(), Q => accumulate_of::<L, Q>(weights, values, positions, &mut fetch, out));
    }
}

#[inline(always)]
unsafe fn accumulate_of<L: Lanes, const Q: usize>(
    weights: &[[f32; PAGE]],
    values: &[f16],
    positions: usize,
    fetch: &mut Fetch,
    out: &mut [&mut [f32]],
) {
    let width = values.len() / PAGE;
    let mut component = 0;
    while component + VECTORS * 16 <= width {
        columns::<L, Q, VECTORS>(weights, values, positions, fetch, out, component);
        component += VECTORS * 16;
    }
    while component + 16 <= width {
        columns::<L, Q, 1>(weights, values, positions, fetch, out, component);
        component += 16;
    }
    for component in component..width {
        for (weights, out) in weights.iter().zip(out.iter_mut()) {
            out[component] += super::scalar::weighted(weights, values, positions, component, width);
        }
    }
}

/// `N` vectors of components from `component` on.
#[inline(always)]
unsafe fn columns<L: Lanes, const Q: usize, const N: usize>(
    weights: &[[f32; PAGE]],
    values: &[f16],
    positions: usize,
    fetch: &mut Fetch,
    out: &mut [&mut [f32]],
    component: usize,
) {
    let width = values.len() / PAGE;
    let out: [*mut f32; Q] = std::array::from_fn(|query| out[query].as_mut_ptr().add(component));
    let weights: [*const f32; Q] = std::array::from_fn(|query| weights[query].as_ptr());
    let mut sums: [[L::Floats; N]; Q] =
        std::array::from_fn(|query| std::array::from_fn(|at| L::load_f(out[query].add(at * 16))));
    for position in 0..positions {
        fetch.next::<L>();
        let row = values.as_ptr().add(position * width + component);
        let value: [L::Floats; N] = std::array::from_fn(|at| L::load_f16(row.add(at * 16).cast()));
        for query in 0..Q {
            let weight = L::splat_f(*weights[query].add(position));
            for at in 0..N {
                sums[query][at] = L::fma(value[at], weight, sums[query][at]);
            }
        }
    }
    for query in 0..Q {
        for at in 0..N {
            L::store_f(out[query].add(at * 16), sums[query][at]);
        }
    }
}

/// Cache lines still to be asked for, a few at each step of a loop.
pub(super) struct Fetch {
    next: *const u8,
    end: *const u8,
    bytes: usize,
}

impl Fetch {
    /// Spreads the lines of `ahead` over `steps` steps, where that helps the processor.
    #[inline(always)]
    pub(super) fn new<T>(ahead: &[T], steps: usize) -> Fetch {
        let ahead = if super::ahead::ahead(1) > 0 { ahead } else { &[] };
        let range = ahead.as_ptr_range();
        let bytes = size_of_val(ahead).div_ceil(steps.max(1)).next_multiple_of(64);
        Fetch { next: range.start.cast(), end: range.end.cast(), bytes }
    }

    #[inline(always)]
    pub(super) unsafe fn next<L: Lanes>(&mut self) {
        if self.next < self.end {
            for line in (0..self.bytes).step_by(64) {
                L::prefetch(self.next.wrapping_add(line));
            }
            self.next = self.next.wrapping_add(self.bytes);
        }
    }
}
