//! The plain meaning of every kernel: no vector, no cleverness, and written apart from the fast ones so that they
//! cannot share a mistake. Also what runs where no faster table can.

use half::{bf16, f16};
use std::hint::black_box;

use super::gates::{ERFC, ERFC_T};
use super::layout::{
    self, BLOCK, BlockLayout, IQ4_NL_VALUES, IQ4_XS_BYTES, IQ4_XS_NUMBERS, IQ4_XS_SCALES, LINE,
    MXFP4_DOUBLED, NUMBERS, Q4_K_BYTES, Q5_K_BYTES, Q6_K_BYTES, Q6_K_NUMBERS, Q6_K_SCALES, SCALE_LINES,
    SUPERBLOCK,
};
use super::{
    DELTA_PANEL, DeltaGates, FloatRows, GROUP, Int8Rows, Isa, Kernels, PAGE, PageWeights, Strided, Tile,
};

/// The scalar table.
pub(super) fn table() -> &'static Kernels {
    &Kernels {
        isa: Isa::Scalar,
        float: [float_f32, float_f16, float_bf16],
        superblock: [q4_k, q5_k, q6_k, iq4_xs],
        block: [q8_0, q4_0, q5_0, iq4_nl, mxfp4, q4_1],
        tile: None,
        quantise_256,
        quantise_32,
        square_sum,
        scaled_mul,
        silu_mul,
        gelu_mul,
        clamped_swiglu,
        axpy,
        gelu_erf,
        sigmoid_mul,
        soft_cap,
        convolve,
        delta_step,
        add,
        scale,
        dot,
        dot_f16,
        axpy_f16,
        positive_axpy,
        to_f16,
        max,
        exp_sum,
        page_scores,
        page_accumulate,
        cached: super::cached::SCALAR,
        peak_integers,
        peak_words,
        peak_floats,
        read,
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn float_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Calls `dot(input row, weight row)` for all of the tile's rows.
fn fill(rows: usize, tile: &mut Tile, dot: impl Fn(usize, usize) -> f32) {
    for (m, results) in tile[..rows].iter_mut().enumerate() {
        for (r, result) in results.iter_mut().enumerate() {
            *result = dot(m, r);
        }
    }
}

fn float_rows(input: FloatRows<'_>, tile: &mut Tile, weight: impl Fn(usize) -> f32) {
    input.check();
    fill(input.rows(), tile, |m, r| {
        let x = &input.values[m * input.columns..][..input.columns];
        x.iter().enumerate().map(|(k, x)| x * weight(k * GROUP + r)).sum()
    });
}

fn float_f32(weights: &[u8], input: FloatRows<'_>, tile: &mut Tile) {
    float_rows(input, tile, |i| float_at(weights, 4 * i));
}

fn float_f16(weights: &[u8], input: FloatRows<'_>, tile: &mut Tile) {
    float_rows(input, tile, |i| half_at(weights, 2 * i));
}

fn float_bf16(weights: &[u8], input: FloatRows<'_>, tile: &mut Tile) {
    float_rows(input, tile, |i| bf16::from_le_bytes([weights[2 * i], weights[2 * i + 1]]).to_f32());
}

/// The nibble of row `r`, column `c` of consecutive nibble vectors.
fn nibble(vectors: &[u8], r: usize, c: usize) -> i32 {
    let byte = vectors[c / 8 * LINE + 4 * r + c % 4];
    i32::from(if c % 8 < 4 { byte & 15 } else { byte >> 4 })
}

/// The upper bit of row `r`, column `c` of a block of 32.
fn upper_bit(vector: &[u8], r: usize, c: usize) -> i32 {
    i32::from(vector[4 * r + c % 4] >> (c / 4) & 1)
}

/// Scale and minimum `j` of row `r` of a Q4_K or Q5_K superblock.
fn scale_and_minimum(block: &[u8], r: usize, j: usize) -> (i32, i32) {
    let byte = |line: usize| i32::from(block[SCALE_LINES + line * LINE + 4 * r + j % 4]);
    let scale = byte(j / 4) & 63;
    let minimum =
        if j < 4 { byte(2) & 63 } else { (byte(0) >> 6) | (byte(1) >> 6) << 2 | (byte(2) >> 6) << 4 };
    (scale, minimum)
}

fn with_minima<const BYTES: usize>(
    weights: &[u8],
    input: Int8Rows<'_, 256>,
    tile: &mut Tile,
    number: impl Fn(&[u8], usize, usize, usize) -> i32,
) {
    input.check();
    let blocks = input.columns / SUPERBLOCK;
    fill(input.rows(), tile, |m, r| {
        let mut result = 0.0;
        for s in 0..blocks {
            let block = &weights[s * BYTES..][..BYTES];
            let values = &input.values[m * input.columns + s * SUPERBLOCK..][..SUPERBLOCK];
            let sums = &input.sums[(m * blocks + s) * 16..][..16];
            let (mut dots, mut minima) = (0, 0);
            for j in 0..8 {
                let (scale, minimum) = scale_and_minimum(block, r, j);
                let dot: i32 = (0..32).map(|c| number(block, j, r, c) * i32::from(values[32 * j + c])).sum();
                dots += scale * dot;
                minima += minimum * (sums[2 * j] + sums[2 * j + 1]);
            }
            let value =
                half_at(block, 2 * r) * dots as f32 - half_at(block, 2 * GROUP + 2 * r) * minima as f32;
            result += input.scales[m * blocks + s] * value;
        }
        result
    });
}

fn q4_k(weights: &[u8], input: Int8Rows<'_, 256>, tile: &mut Tile) {
    with_minima::<Q4_K_BYTES>(weights, input, tile, |block, j, r, c| {
        nibble(&block[NUMBERS + j * 4 * LINE..], r, c)
    });
}

fn q5_k(weights: &[u8], input: Int8Rows<'_, 256>, tile: &mut Tile) {
    with_minima::<Q5_K_BYTES>(weights, input, tile, |block, j, r, c| {
        let vectors = &block[NUMBERS + j * 5 * LINE..];
        nibble(vectors, r, c) | upper_bit(&vectors[4 * LINE..], r, c) << 4
    });
}

fn q6_k(weights: &[u8], input: Int8Rows<'_, 256>, tile: &mut Tile) {
    input.check();
    let blocks = input.columns / SUPERBLOCK;
    fill(input.rows(), tile, |m, r| {
        let mut result = 0.0;
        for s in 0..blocks {
            let block = &weights[s * Q6_K_BYTES..][..Q6_K_BYTES];
            let values = &input.values[m * input.columns + s * SUPERBLOCK..][..SUPERBLOCK];
            let mut dots = 0;
            for j in 0..16 {
                let vectors = &block[Q6_K_NUMBERS + j * 3 * LINE..][..3 * LINE];
                let scale = i32::from(block[Q6_K_SCALES + j / 4 * LINE + 4 * r + j % 4] as i8);
                let number = |c: usize| {
                    let upper = i32::from(vectors[2 * LINE + 4 * r + c % 4] >> (c / 4 * 2) & 3);
                    (nibble(vectors, r, c) | upper << 4) - 32
                };
                dots += scale * (0..16).map(|c| number(c) * i32::from(values[16 * j + c])).sum::<i32>();
            }
            result += input.scales[m * blocks + s] * (float_at(block, 4 * r) * dots as f32);
        }
        result
    });
}

/// Scale `j` of row `r` of an IQ4_XS superblock.
fn iq4_xs_scale(block: &[u8], r: usize, j: usize) -> i32 {
    let lower = block[IQ4_XS_SCALES + 32 + 4 * r + j % 4] >> (j / 4 * 4) & 15;
    let upper = block[IQ4_XS_SCALES + 2 * r + j % 2] >> (j % 4 / 2 * 4 + j / 4 * 2) & 3;
    (i32::from(lower | upper << 4) ^ 32) - 32
}

fn iq4_xs(weights: &[u8], input: Int8Rows<'_, 256>, tile: &mut Tile) {
    input.check();
    let blocks = input.columns / SUPERBLOCK;
    fill(input.rows(), tile, |m, r| {
        let mut result = 0.0;
        for s in 0..blocks {
            let block = &weights[s * IQ4_XS_BYTES..][..IQ4_XS_BYTES];
            let values = &input.values[m * input.columns + s * SUPERBLOCK..][..SUPERBLOCK];
            let number = |c: usize| i32::from(IQ4_NL_VALUES[nibble(&block[IQ4_XS_NUMBERS..], r, c) as usize]);
            let dots: i32 = (0..SUPERBLOCK)
                .map(|c| iq4_xs_scale(block, r, c / 32) * number(c) * i32::from(values[c]))
                .sum();
            result += input.scales[m * blocks + s] * (half_at(block, 2 * r) * dots as f32);
        }
        result
    });
}

fn blocks(
    layout: BlockLayout,
    weights: &[u8],
    input: Int8Rows<'_, 32>,
    tile: &mut Tile,
    scale: impl Fn(&[u8], usize) -> f32,
    number: impl Fn(&[u8], usize, usize) -> i32,
) {
    input.check();
    let blocks = input.columns / BLOCK;
    fill(input.rows(), tile, |m, r| {
        let mut result = 0.0;
        for b in 0..blocks {
            let (scales, numbers) = layout.find(b);
            let numbers = &weights[numbers..][..layout.numbers];
            let values = &input.values[m * input.columns + b * BLOCK..][..BLOCK];
            let dot: i32 = (0..BLOCK).map(|c| number(numbers, r, c) * i32::from(values[c])).sum();
            result += dot as f32 * (scale(&weights[scales..], r) * input.scales[m * blocks + b]);
        }
        result
    });
}

fn half_scale(scales: &[u8], r: usize) -> f32 {
    half_at(scales, 2 * r)
}

fn q8_0(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    blocks(BlockLayout::Q8_0, weights, input, tile, half_scale, |vectors, r, c| {
        i32::from(vectors[c / 4 * LINE + 4 * r + c % 4]) - 128
    });
}

fn q4_0(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    blocks(BlockLayout::Q4_0, weights, input, tile, half_scale, |vectors, r, c| nibble(vectors, r, c) - 8);
}

fn q4_1(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    input.check();
    let layout = BlockLayout::Q4_1;
    let blocks = input.columns / BLOCK;
    fill(input.rows(), tile, |m, r| {
        let mut result = 0.0;
        for b in 0..blocks {
            let (scales, numbers) = layout.find(b);
            let values = &input.values[m * input.columns + b * BLOCK..][..BLOCK];
            let number = |c: usize| nibble(&weights[numbers..][..layout.numbers], r, c);
            let dot: i32 = (0..BLOCK).map(|c| number(c) * i32::from(values[c])).sum();
            let (d, minimum) = (half_at(weights, scales + 2 * r), half_at(weights, scales + 32 + 2 * r));
            let sum = input.sums[m * blocks + b] as f32;
            result += input.scales[m * blocks + b] * (d * dot as f32 + minimum * sum);
        }
        result
    });
}

fn q5_0(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    blocks(BlockLayout::Q5_0, weights, input, tile, half_scale, |vectors, r, c| {
        (nibble(vectors, r, c) | upper_bit(&vectors[4 * LINE..], r, c) << 4) - 16
    });
}

fn iq4_nl(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    blocks(BlockLayout::IQ4_NL, weights, input, tile, half_scale, |vectors, r, c| {
        i32::from(IQ4_NL_VALUES[nibble(vectors, r, c) as usize])
    });
}

fn mxfp4(weights: &[u8], input: Int8Rows<'_, 32>, tile: &mut Tile) {
    // The codes stand for half of the doubled values. Exponent 0 counts as 0 instead of 2^-127.
    let scale = |scales: &[u8], r: usize| 0.5 * f32::from_bits(u32::from(scales[r]) << 23);
    blocks(BlockLayout::MXFP4, weights, input, tile, scale, |vectors, r, c| {
        i32::from(MXFP4_DOUBLED[nibble(vectors, r, c) as usize])
    });
}

/// Rounds one block to integers within -127 to 127; returns the scale that undoes it. A block too small to divide by
/// becomes zero, and so does one with something that is no finite number, whose scale is "not a number": every product
/// with it is.
fn quantise(x: &[f32], values: &mut [i8]) -> f32 {
    let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().map_or(0.0, f32::from_bits);
    if largest < layout::SMALLEST || !largest.is_finite() {
        values.fill(0);
        return if largest.is_finite() { 0.0 } else { f32::NAN };
    }
    let inverse = 127.0 / largest;
    for (value, x) in values.iter_mut().zip(x) {
        *value = (x * inverse).round_ties_even() as i8;
    }
    largest / 127.0
}

fn sum(values: &[i8]) -> i32 {
    values.iter().map(|&value| i32::from(value)).sum()
}

/// The pairs of sums (see [`Int8Rows::pairs`]) from the sums of 16.
pub(super) fn pair_sums(sums: &[i32], pairs: &mut [i32]) {
    for (sums, pairs) in sums.chunks_exact(16).zip(pairs.chunks_exact_mut(4)) {
        let sum = |j: usize| sums[2 * j] + sums[2 * j + 1];
        for (pair, (low, high)) in pairs.iter_mut().zip([(0, 2), (1, 3), (4, 6), (5, 7)]) {
            *pair = (sum(low) & 0xffff) | sum(high) << 16;
        }
    }
}

fn quantise_256(x: &[f32], values: &mut [i8], scales: &mut [f32], sums: &mut [i32], pairs: &mut [i32]) {
    for (i, scale) in scales.iter_mut().enumerate() {
        *scale = quantise(&x[i * 256..][..256], &mut values[i * 256..][..256]);
    }
    for (sum_of_16, values) in sums.iter_mut().zip(values.chunks_exact(16)) {
        *sum_of_16 = sum(values);
    }
    pair_sums(sums, pairs);
}

fn quantise_32(x: &[f32], values: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    for (i, (scale, sum_of_32)) in scales.iter_mut().zip(sums).enumerate() {
        let values = &mut values[i * 32..][..32];
        *scale = quantise(&x[i * 32..][..32], values);
        *sum_of_32 = sum(values);
    }
}

/// Sum of `term(i)` for `i` below `len`, in 16 partial sums: as exact as the vectors are.
fn sum_of(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut partial = [0.0; 16];
    for i in 0..len {
        partial[i % 16] += term(i);
    }
    partial.iter().sum()
}

fn square_sum(x: &[f32]) -> f32 {
    sum_of(x.len(), |i| x[i] * x[i])
}

/// # Safety
/// `x` and `out` point to as many numbers as `weight` has; they may be the same.
unsafe fn scaled_mul(x: *const f32, weight: &[f32], factor: f32, out: *mut f32) {
    for (i, weight) in weight.iter().enumerate() {
        // SAFETY: `i` is below the length that the caller promises.
        unsafe { *out.add(i) = *x.add(i) * factor * weight }
    }
}

fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + (-gate).exp()) * up;
    }
}

fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
        // (1 + tanh(u)) / 2 loses its digits where tanh(u) comes near -1; this form of the same does not
        let u = (2.0 / std::f32::consts::PI).sqrt() * (gate + 0.044_715 * gate * gate * gate);
        *out = gate / (1.0 + (-2.0 * u).exp()) * up;
    }
}

fn gelu_erf(x: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        let t = 1.0 / (1.0 + ERFC_T * x.abs() * std::f32::consts::FRAC_1_SQRT_2);
        let sum = ERFC.into_iter().fold(0.0, |sum, factor| sum * t + factor);
        *out = x.max(0.0) - x.abs() * (0.5 * sum * t * (-0.5 * x * x).exp());
    }
}

fn sigmoid_mul(x: &mut [f32], gate: &[f32]) {
    x.iter_mut().zip(gate).for_each(|(x, gate)| *x /= 1.0 + (-gate).exp());
}

fn soft_cap(x: &mut [f32], cap: f32) {
    x.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
}

fn convolve(inputs: Strided<'_>, weights: Strided<'_>, taps: usize, out: &mut [f32]) {
    let at = |rows: Strided<'_>, tap: usize, c: usize| rows.values[tap * rows.stride + c];
    for (c, out) in out.iter_mut().enumerate() {
        let sum: f32 = (0..taps).map(|tap| at(inputs, tap, c) * at(weights, tap, c)).sum();
        *out = sum / (1.0 + (-sum).exp());
    }
}

fn delta_step(
    state: &mut [f32],
    key: &[f32],
    query: &[f32],
    gates: DeltaGates,
    values: &[f32],
    out: &mut [f32],
) {
    state.iter_mut().for_each(|s| *s *= gates.decay);
    for (column, (value, out)) in values.iter().zip(out).enumerate() {
        let at = |d: usize| d * DELTA_PANEL + column;
        let error = gates.beta * (value - sum_of(key.len(), |d| state[at(d)] * key[d]));
        (0..key.len()).for_each(|d| state[at(d)] += key[d] * error);
        *out = sum_of(key.len(), |d| state[at(d)] * query[d]);
    }
}

fn clamped_swiglu(gate: &[f32], up: &[f32], alpha: f32, limit: f32, out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        let gate = if gate > limit { limit } else { gate };
        let up = if up > limit { limit } else { up };
        let up = if up < -limit { -limit } else { up };
        *out = gate / (1.0 + (-alpha * gate).exp()) * (up + 1.0);
    }
}

fn axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum_of(x.len(), |i| x[i] * y[i])
}

fn dot_f16(x: &[f16], y: &[f32]) -> f32 {
    sum_of(x.len(), |i| x[i].to_f32() * y[i])
}

fn axpy_f16(factor: f32, x: &[f16], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x.to_f32());
}

fn positive_axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x.max(0.0));
}

fn to_f16(x: &[f32], out: &mut [f16]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = f16::from_f32(x));
}

fn max(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
    x.iter_mut().for_each(|x| *x = (*x - shift).exp());
    sum_of(x.len(), |i| x[i])
}

fn page_scores(queries: &[&[f32]], keys: &[f16], _ahead: &[f16], out: &mut PageWeights) {
    for (query, out) in queries.iter().zip(out) {
        for position in 0..PAGE {
            out[position] = sum_of(query.len(), |at| query[at] * keys[at * PAGE + position].to_f32());
        }
    }
}

fn page_accumulate(
    weights: &PageWeights,
    values: &[f16],
    positions: usize,
    _ahead: &[f16],
    out: &mut [&mut [f32]],
) {
    let width = values.len() / PAGE;
    for (weights, out) in weights.iter().zip(out) {
        for component in 0..width {
            out[component] += weighted(weights, values, positions, component, width);
        }
    }
}

/// Component `component` of the weighted sum of the first `positions` values.
pub(super) fn weighted(
    weights: &[f32; PAGE],
    values: &[f16],
    positions: usize,
    component: usize,
    width: usize,
) -> f32 {
    sum_of(positions, |at| weights[at] * values[at * width + component].to_f32())
}

/// Sums that the peaks keep apart, and the factors of each round.
const PEAK: usize = 64;

fn peak_integers(rounds: usize) -> u64 {
    let (weights, activations) = ([3u8; PEAK], [5i8; PEAK]);
    let mut sums = [0i32; PEAK];
    for _ in 0..rounds {
        let (weights, activations) = (black_box(&weights), black_box(&activations));
        for ((sum, &weight), &activation) in sums.iter_mut().zip(weights).zip(activations) {
            *sum = sum.wrapping_add(i32::from(weight) * i32::from(activation));
        }
    }
    black_box(sums);
    (rounds * PEAK) as u64
}

fn peak_words(rounds: usize) -> u64 {
    let (keys, queries) = ([3i16; PEAK], [500i16; PEAK]);
    let mut sums = [0i32; PEAK];
    for _ in 0..rounds {
        let (keys, queries) = (black_box(&keys), black_box(&queries));
        for ((sum, &key), &query) in sums.iter_mut().zip(keys).zip(queries) {
            *sum = sum.wrapping_add(i32::from(key) * i32::from(query));
        }
    }
    black_box(sums);
    (rounds * PEAK) as u64
}

fn peak_floats(rounds: usize) -> u64 {
    let (weights, activations) = ([1e-9f32; PEAK], [5.0f32; PEAK]);
    let mut sums = [0f32; PEAK];
    for _ in 0..rounds {
        let (weights, activations) = (black_box(&weights), black_box(&activations));
        for ((sum, &weight), &activation) in sums.iter_mut().zip(weights).zip(activations) {
            *sum += weight * activation;
        }
    }
    black_box(sums);
    (rounds * PEAK) as u64
}

fn read(bytes: &[u8]) {
    let mut any = [0u64; 16];
    for block in bytes.as_chunks::<128>().0 {
        for (any, word) in any.iter_mut().zip(block.as_chunks::<8>().0) {
            *any |= u64::from_le_bytes(*word);
        }
    }
    black_box(any);
}
