//! The plain meaning of the kernels over a page of integers, written apart from the fast ones.

use super::{CACHE_BLOCK, RowLimits, SMALLEST_SCALE, Softmax, WEIGHTS};
use crate::kernels::PAGE;
use half::bf16;

pub(super) fn dots(queries: &[i16], keys: &[i16], _ahead: &[u8], out: &mut [[i32; PAGE]]) {
    let width = keys.len() / PAGE;
    for (query, out) in queries.chunks_exact(width.max(1)).zip(out) {
        for (position, out) in out.iter_mut().enumerate() {
            let key = |at: usize| keys[(at / 2 * PAGE + position) * 2 + at % 2];
            let products = query.iter().enumerate().map(|(at, &query)| i32::from(query) * i32::from(key(at)));
            *out = products.fold(0, i32::wrapping_add);
        }
    }
}

pub(super) fn weigh(
    dots: &[[i32; PAGE]],
    key_scales: &[bf16; PAGE],
    value_scales: &[bf16; PAGE],
    soft_cap: Option<f32>,
    rows: &mut [Softmax],
    weights: &mut [[i16; PAGE]],
) {
    for ((dots, row), weights) in dots.iter().zip(rows).zip(weights) {
        weights.fill(0);
        (row.shrink, row.unit) = (1.0, 0.0);
        let seen = row.seen.start..row.seen.end.min(PAGE);
        if seen.is_empty() {
            continue;
        }
        let score = |at: usize| {
            let score = dots[at] as f32 * (key_scales[at].to_f32() * row.factor);
            soft_cap.map_or(score, |cap| cap * (score / cap).tanh()) * std::f32::consts::LOG2_E
        };
        let largest = seen.clone().map(score).fold(row.largest, f32::max);
        let shares: Vec<(f32, f32)> = seen
            .clone()
            .map(|at| {
                let power = (score(at) - largest).exp2();
                (power, power * value_scales[at].to_f32())
            })
            .collect();
        row.shrink = if largest > row.largest { (row.largest - largest).exp2() } else { 1.0 };
        row.largest = largest;
        row.sum = row.sum * row.shrink + shares.iter().map(|share| share.0).sum::<f32>();
        let total: f32 = shares.iter().map(|share| share.1).sum();
        if total < SMALLEST_SCALE {
            continue;
        }
        row.unit = total / WEIGHTS;
        for (weight, share) in weights[seen].iter_mut().zip(shares) {
            *weight = (share.1 * (WEIGHTS / total)).round_ties_even() as i16;
        }
    }
}

pub(super) fn sum_values(
    weights: &[[i16; PAGE]],
    rows: &[Softmax],
    values: &[i16],
    positions: usize,
    _ahead: &[u8],
    out: &mut [f32],
) {
    let width = values.len() / PAGE;
    for ((weights, row), out) in weights.iter().zip(rows).zip(out.chunks_exact_mut(width.max(1))) {
        for (component, out) in out.iter_mut().enumerate() {
            let value = |at: usize| i32::from(values[(at / 2 * width + component) * 2 + at % 2]);
            let sum = (0..positions).map(|at| i32::from(weights[at]) * value(at)).fold(0, i32::wrapping_add);
            *out = row.shrink * *out + row.unit * sum as f32;
        }
    }
}

/// Largest magnitude (what is not a number is the largest) and length.
fn size(x: &[f32]) -> (f32, f32) {
    let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().map_or(0.0, f32::from_bits);
    (largest, x.iter().map(|x| x * x).sum::<f32>().sqrt())
}

pub(super) fn to_words(x: &[f32], limits: RowLimits, out: &mut [i16]) -> f32 {
    let (largest, length) = size(x);
    let (scale, inverse) = limits.scale(largest, length);
    out.iter_mut().zip(x).for_each(|(out, x)| *out = (x * inverse).round_ties_even() as i16);
    scale
}

pub(super) fn to_bytes(x: &[f32], limits: RowLimits, out: &mut [i8], factors: &mut [u8]) -> f32 {
    let (largest, length) = size(x);
    let (scale, inverse) = limits.scale(largest, length);
    for ((x, out), factor) in x.chunks(CACHE_BLOCK).zip(out.chunks_mut(CACHE_BLOCK)).zip(factors) {
        *factor = (size(x).0 * inverse / limits.number).ceil() as u8;
        let inverse = if *factor == 0 { 0.0 } else { inverse / f32::from(*factor) };
        out.iter_mut().zip(x).for_each(|(out, x)| *out = (x * inverse).round_ties_even() as i8);
    }
    scale
}

pub(super) fn widen_keys(bytes: &[i8], factors: &[u8], _ahead: &[u8], out: &mut [i16]) {
    for (place, (out, &byte)) in out.iter_mut().zip(bytes).enumerate() {
        let (component, position) = (place / (2 * PAGE) * 2 + place % 2, place / 2 % PAGE);
        *out = i16::from(byte) * i16::from(factors[component / CACHE_BLOCK * PAGE + position]);
    }
}

pub(super) fn widen_values(bytes: &[i8], factors: &[u8], positions: usize, _ahead: &[u8], out: &mut [i16]) {
    let width = bytes.len() / PAGE;
    let used = positions.div_ceil(2) * 2 * width;
    for (place, (out, &byte)) in out[..used].iter_mut().zip(bytes).enumerate() {
        let (component, position) = (place / 2 % width, place / 2 / width * 2 + place % 2);
        *out = i16::from(byte) * i16::from(factors[component / CACHE_BLOCK * PAGE + position]);
    }
}

/// Number `place % 2` of the byte at `place / 2`.
fn nibble(nibbles: &[u8], place: usize) -> i16 {
    i16::from(nibbles[place / 2] >> (4 * (place % 2)) & 15) - 8
}

pub(super) fn widen_key_nibbles(nibbles: &[u8], factors: &[u8], _ahead: &[u8], out: &mut [i16]) {
    for (place, out) in out.iter_mut().enumerate() {
        let (component, position) = (place / (2 * PAGE) * 2 + place % 2, place / 2 % PAGE);
        *out = nibble(nibbles, place) * i16::from(factors[component / CACHE_BLOCK * PAGE + position]);
    }
}

pub(super) fn widen_value_nibbles(
    nibbles: &[u8],
    factors: &[u8],
    positions: usize,
    _ahead: &[u8],
    out: &mut [i16],
) {
    let width = out.len() / PAGE;
    let used = positions.div_ceil(2) * 2 * width;
    for (place, out) in out[..used].iter_mut().enumerate() {
        let (component, position) = (place / 2 % width, place / 2 / width * 2 + place % 2);
        *out = nibble(nibbles, place) * i16::from(factors[component / CACHE_BLOCK * PAGE + position]);
    }
}
