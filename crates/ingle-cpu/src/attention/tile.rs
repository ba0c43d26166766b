//! The two products of attention over one page of 64 positions, for a few queries at once:
//!
//! ```text
//! scores[i][p] = sum_d query[i][d] * key[d][p]
//! out[i][d]   += sum_p weight[i][p] * value[p][d]
//! ```
//!
//! Written once over [`Lanes`]; the scalar instance is the twin the others are tested against.
#![allow(unsafe_code)] // vector instructions

use super::cache::PAGE;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Eight, Sixteen};
use super::lanes::{Lanes, One};
use crate::kernels::Isa;
use half::f16;

/// Queries in one call.
pub(super) const QUERIES: usize = 16;

/// Scores (or weights) of up to [`QUERIES`] queries against a page.
pub(super) type Scores = [[f32; PAGE]; QUERIES];

/// The two products for one instruction set.
#[derive(Clone, Copy)]
pub(super) struct TileKernels {
    scores: unsafe fn(&[&[f32]], &[f16], &mut Scores),
    accumulate: unsafe fn(&Scores, &[f16], usize, &mut [&mut [f32]]),
}

impl TileKernels {
    /// Those of an instruction set that this processor has (a [`crate::kernels::Kernels`] table proves it).
    pub(super) fn of(isa: Isa) -> TileKernels {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => TileKernels { scores: scores_avx512, accumulate: accumulate_avx512 },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => TileKernels { scores: scores_avx2, accumulate: accumulate_avx2 },
            _ => TileKernels { scores: scores_scalar, accumulate: accumulate_scalar },
        }
    }

    /// `keys` is `[query width][64]`.
    pub(super) fn scores(&self, queries: &[&[f32]], keys: &[f16], out: &mut Scores) {
        assert!(queries.len() <= QUERIES && queries.iter().all(|query| query.len() * PAGE == keys.len()));
        // SAFETY: the instruction set is there (see `of`), and lengths fit.
        unsafe { (self.scores)(queries, keys, out) }
    }

    /// `values` is `[64][out width]`, of which the first `positions` are used.
    pub(super) fn accumulate(&self, weights: &Scores, values: &[f16], positions: usize, out: &mut [&mut [f32]]) {
        assert!(out.len() <= QUERIES && positions <= PAGE);
        assert!(out.iter().all(|out| out.len() * PAGE == values.len()));
        // SAFETY: the instruction set is there (see `of`), and lengths fit.
        unsafe { (self.accumulate)(weights, values, positions, out) }
    }
}

/// Vectors of positions per pass: with [`TOGETHER`] queries their sums fit the registers.
const VECTORS: usize = 4;
/// Queries per pass.
const TOGETHER: usize = 4;

#[inline(always)]
unsafe fn scores<L: Lanes>(queries: &[&[f32]], keys: &[f16], out: &mut Scores) {
    let width = keys.len() / PAGE;
    for (queries, out) in queries.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        let mut position = 0;
        while position < PAGE {
            // SAFETY: `keys` holds `width` rows of PAGE; `position + VECTORS * COUNT <= PAGE` as COUNT divides 16.
            unsafe {
                let mut sums = [[L::zero(); VECTORS]; TOGETHER];
                for component in 0..width {
                    let row = keys.as_ptr().add(component * PAGE + position);
                    let key: [L::Vector; VECTORS] = std::array::from_fn(|at| L::widen(row.add(at * L::COUNT)));
                    for (sums, query) in sums.iter_mut().zip(queries) {
                        let query = L::splat(*query.get_unchecked(component));
                        for at in 0..VECTORS {
                            sums[at] = L::multiply_add(key[at], query, sums[at]);
                        }
                    }
                }
                for (sums, out) in sums.iter().zip(out.iter_mut()) {
                    for at in 0..VECTORS {
                        L::store(sums[at], out.as_mut_ptr().add(position + at * L::COUNT));
                    }
                }
            }
            position += VECTORS * L::COUNT;
        }
    }
}

#[inline(always)]
unsafe fn accumulate<L: Lanes>(weights: &Scores, values: &[f16], positions: usize, out: &mut [&mut [f32]]) {
    let width = values.len() / PAGE;
    for (weights, out) in weights.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        let mut component = 0;
        while component < width {
            // SAFETY: each pass covers whole vectors inside `width`, or one float at a time at the end.
            component += unsafe {
                if component + 2 * L::COUNT <= width {
                    accumulate_columns::<L, 2>(weights, values, positions, out, component, width)
                } else if component + L::COUNT <= width {
                    accumulate_columns::<L, 1>(weights, values, positions, out, component, width)
                } else {
                    accumulate_columns::<One, 1>(weights, values, positions, out, component, width)
                }
            };
        }
    }
}

/// `N` vectors of components from `component` on; gives the number of components done.
#[inline(always)]
unsafe fn accumulate_columns<L: Lanes, const N: usize>(
    weights: &[[f32; PAGE]],
    values: &[f16],
    positions: usize,
    out: &mut [&mut [f32]],
    component: usize,
    width: usize,
) -> usize {
    // SAFETY: the caller keeps `component + N * COUNT <= width`, the length of each `out` and of each row of `values`.
    unsafe {
        let mut sums = [[L::zero(); N]; TOGETHER];
        for (sums, out) in sums.iter_mut().zip(out.iter()) {
            *sums = std::array::from_fn(|at| L::load(out.as_ptr().add(component + at * L::COUNT)));
        }
        for position in 0..positions {
            let row = values.as_ptr().add(position * width + component);
            let value: [L::Vector; N] = std::array::from_fn(|at| L::widen(row.add(at * L::COUNT)));
            for query in 0..out.len() {
                let weight = L::splat(weights[query][position]);
                for at in 0..N {
                    sums[query][at] = L::multiply_add(value[at], weight, sums[query][at]);
                }
            }
        }
        for (sums, out) in sums.iter().zip(out.iter_mut()) {
            for at in 0..N {
                L::store(sums[at], out.as_mut_ptr().add(component + at * L::COUNT));
            }
        }
    }
    N * L::COUNT
}

unsafe fn scores_scalar(queries: &[&[f32]], keys: &[f16], out: &mut Scores) {
    // SAFETY: needs no instruction set; the caller checked the lengths.
    unsafe { scores::<One>(queries, keys, out) }
}

unsafe fn accumulate_scalar(weights: &Scores, values: &[f16], positions: usize, out: &mut [&mut [f32]]) {
    // SAFETY: needs no instruction set; the caller checked the lengths.
    unsafe { accumulate::<One>(weights, values, positions, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scores_avx2(queries: &[&[f32]], keys: &[f16], out: &mut Scores) {
    // SAFETY: the instruction set is enabled here; the caller checked the lengths.
    unsafe { scores::<Eight>(queries, keys, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn accumulate_avx2(weights: &Scores, values: &[f16], positions: usize, out: &mut [&mut [f32]]) {
    // SAFETY: the instruction set is enabled here; the caller checked the lengths.
    unsafe { accumulate::<Eight>(weights, values, positions, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn scores_avx512(queries: &[&[f32]], keys: &[f16], out: &mut Scores) {
    // SAFETY: the instruction set is enabled here; the caller checked the lengths.
    unsafe { scores::<Sixteen>(queries, keys, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn accumulate_avx512(weights: &Scores, values: &[f16], positions: usize, out: &mut [&mut [f32]]) {
    // SAFETY: the instruction set is enabled here; the caller checked the lengths.
    unsafe { accumulate::<Sixteen>(weights, values, positions, out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;

    fn noise(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn every_instruction_set_agrees_with_plain_sums() {
        for isa in Isa::ALL.into_iter().filter(|&isa| Kernels::for_isa(isa).is_some()) {
            let kernels = TileKernels::of(isa);
            for width in [1, 7, 16, 24, 64, 80, 128, 256] {
                for count in [1, 2, 3, 4, 5, 16] {
                    let queries: Vec<Vec<f32>> = (0..count).map(|at| noise(at as u32, width)).collect();
                    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
                    let halves: Vec<f16> = noise(99, width * PAGE).into_iter().map(f16::from_f32).collect();
                    let mut scores = [[f32::NAN; PAGE]; QUERIES];
                    kernels.scores(&queries, &halves, &mut scores);
                    for (query, scores) in queries.iter().zip(&scores) {
                        for position in 0..PAGE {
                            let key = (0..width).map(|at| halves[at * PAGE + position].to_f64());
                            let exact: f64 = key.zip(*query).map(|(key, &query)| key * f64::from(query)).sum();
                            assert!((f64::from(scores[position]) - exact).abs() < 1e-4, "{isa:?} {width}");
                        }
                    }
                    for positions in [1, 17, 64] {
                        let mut rows: Vec<Vec<f32>> = (0..count).map(|at| noise(at as u32 + 7, width)).collect();
                        let before = rows.clone();
                        let mut out: Vec<&mut [f32]> = rows.iter_mut().map(Vec::as_mut_slice).collect();
                        kernels.accumulate(&scores, &halves, positions, &mut out);
                        for query in 0..count {
                            for component in 0..width {
                                let sum: f64 = (0..positions)
                                    .map(|at| {
                                        f64::from(scores[query][at]) * halves[at * width + component].to_f64()
                                    })
                                    .sum();
                                let exact = f64::from(before[query][component]) + sum;
                                let ours = f64::from(rows[query][component]);
                                assert!((ours - exact).abs() < 2e-3, "{isa:?} {width} {positions}");
                            }
                        }
                    }
                }
            }
        }
    }
}
