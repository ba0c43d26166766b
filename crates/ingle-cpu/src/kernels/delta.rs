//! The two inner loops of a gated delta net.
//!
//! A causal depthwise convolution with its activation, at one position:
//!
//! ```text
//! out[c] = silu(sum_i weights[i][c] * inputs[i][c])        i over the taps, the oldest input first
//! ```
//!
//! and one position of the recurrence, for [`DELTA_PANEL`] columns of a value head's state `S [key dim, columns]`:
//!
//! ```text
//! S = decay S,  e = beta (v - S^T k),  S = S + k e^T,  o = S^T q
//! ```
//!
//! Columns never meet, so a panel of them stays in the first-level cache from position to position. The state is read
//! twice and written once per position: `o` comes from the state before the update, `o = decay S^T q + (k . q) e`.

// Contract of `lanes`; besides, callers pass slices of fitting lengths (see `table`).
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::lanes::Lanes;
use super::vectors::{load_part, silu, store_part, whole};
use super::{DELTA_PANEL, DeltaGates, Strided};

#[inline(always)]
pub(super) unsafe fn convolve<L: Lanes>(
    inputs: Strided<'_>,
    weights: Strided<'_>,
    taps: usize,
    out: &mut [f32],
) {
    let (len, out, one) = (out.len(), out.as_mut_ptr(), L::splat_f(1.0));
    let input = |tap: usize, channel: usize| inputs.values.as_ptr().add(tap * inputs.stride + channel);
    let weight = |tap: usize, channel: usize| weights.values.as_ptr().add(tap * weights.stride + channel);
    let whole = whole(len);
    for c in (0..whole).step_by(16) {
        let mut sum = L::splat_f(0.0);
        for tap in 0..taps {
            sum = L::fma(L::load_f(input(tap, c)), L::load_f(weight(tap, c)), sum);
        }
        L::store_f(out.add(c), silu::<L>(sum, one));
    }
    if whole < len {
        let left = len - whole;
        let mut sum = L::splat_f(0.0);
        for tap in 0..taps {
            let input = load_part::<L>(input(tap, whole), left, 0.0);
            sum = L::fma(input, load_part::<L>(weight(tap, whole), left, 0.0), sum);
        }
        store_part::<L>(out.add(whole), left, silu::<L>(sum, one));
    }
}

/// Vectors of a panel's row.
const VECTORS: usize = DELTA_PANEL / 16;

#[inline(always)]
pub(super) unsafe fn step<L: Lanes>(
    state: &mut [f32],
    key: &[f32],
    query: &[f32],
    gates: DeltaGates,
    values: &[f32],
    out: &mut [f32],
) {
    let rows = key.len();
    let (state, key, query) = (state.as_mut_ptr(), key.as_ptr(), query.as_ptr());
    let mut with_key = [L::splat_f(0.0); VECTORS];
    let mut with_query = [L::splat_f(0.0); VECTORS];
    for d in 0..rows {
        let row = state.add(d * DELTA_PANEL);
        let (k, q) = (L::splat_f(*key.add(d)), L::splat_f(*query.add(d)));
        for at in 0..VECTORS {
            let s = L::load_f(row.add(at * 16));
            with_key[at] = L::fma(s, k, with_key[at]);
            with_query[at] = L::fma(s, q, with_query[at]);
        }
    }
    let (decay, beta) = (L::splat_f(gates.decay), L::splat_f(gates.beta));
    let key_query = L::splat_f(gates.key_query);
    let mut error = [L::splat_f(0.0); VECTORS];
    for at in 0..VECTORS {
        let left = values.len().saturating_sub(at * 16).min(16);
        let value = match left {
            16 => L::load_f(values.as_ptr().add(at * 16)),
            0 => L::splat_f(0.0),
            left => load_part::<L>(values.as_ptr().add(at * 16), left, 0.0),
        };
        error[at] = L::mul_f(beta, L::fnma(decay, with_key[at], value));
        let read = L::fma(key_query, error[at], L::mul_f(decay, with_query[at]));
        match left {
            16 => L::store_f(out.as_mut_ptr().add(at * 16), read),
            0 => {}
            left => store_part::<L>(out.as_mut_ptr().add(at * 16), left, read),
        }
    }
    for d in 0..rows {
        let row = state.add(d * DELTA_PANEL);
        let k = L::splat_f(*key.add(d));
        for at in 0..VECTORS {
            let s = L::mul_f(decay, L::load_f(row.add(at * 16)));
            L::store_f(row.add(at * 16), L::fma(k, error[at], s));
        }
    }
}
