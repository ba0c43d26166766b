//! The 32-number blocks with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! A block is a half-precision scale `d`, for the `_1` formats a half-precision minimum `m`, for the five-bit formats
//! 32 fifth bits (bit `j` belongs to number `j`), then the codes: number `j` in the low and number `j + 16` in the
//! high nibble of byte `j`. Values are `d * (code - 8)` (Q4_0), `d * (code - 16)` (Q5_0), `d * code + m` (`_1`).
//!
//! The quantisers give the bytes of the published ones, which round each number by itself and search nothing.

use super::block::{half, part, part_mut, reciprocal, set_half};

/// Numbers per block.
const N: usize = 32;

/// Decodes the 4-bit codes.
#[inline]
fn nibbles(qs: &[u8; 16]) -> [u8; N] {
    let mut codes = [0; N];
    for j in 0..16 {
        codes[j] = qs[j] & 15;
        codes[j + 16] = qs[j] >> 4;
    }
    codes
}

/// Decodes the 5-bit codes.
#[inline]
fn five_bits(qh: [u8; 4], qs: &[u8; 16]) -> [u8; N] {
    let fifth = u32::from_le_bytes(qh);
    let mut codes = nibbles(qs);
    for j in 0..N {
        codes[j] |= ((fifth >> j & 1) << 4) as u8;
    }
    codes
}

pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let codes = nibbles(part::<2, 16, _>(block));
    for j in 0..N {
        out[j] = d * f32::from(codes[j] as i8 - 8);
    }
}

pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; N]) {
    let (d, m) = (half::<0, _>(block), half::<2, _>(block));
    let codes = nibbles(part::<4, 16, _>(block));
    for j in 0..N {
        out[j] = d * f32::from(codes[j]) + m;
    }
}

pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let codes = five_bits(*part::<2, 4, _>(block), part::<6, 16, _>(block));
    for j in 0..N {
        out[j] = d * f32::from(codes[j] as i8 - 16);
    }
}

pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; N]) {
    let (d, m) = (half::<0, _>(block), half::<2, _>(block));
    let codes = five_bits(*part::<4, 4, _>(block), part::<8, 16, _>(block));
    for j in 0..N {
        out[j] = d * f32::from(codes[j]) + m;
    }
}

pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let codes = part::<2, N, _>(block);
    for j in 0..N {
        out[j] = d * f32::from(codes[j] as i8);
    }
}

/// Of the numbers furthest from 0 the first, with its sign.
fn furthest(values: &[f32; N]) -> f32 {
    values.iter().fold(0.0, |far: f32, &v| if v.abs() > far.abs() { v } else { far })
}

/// Smallest and largest number.
fn extremes(values: &[f32; N]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &v| {
        (if v < min { v } else { min }, if v > max { v } else { max })
    })
}

/// Codes of a block that is symmetric about `zero`: the furthest number takes the code 0 (or its neighbour `2 zero`,
/// which does not exist, where rounding goes the other way). Returns the scale too.
fn symmetric(values: &[f32; N], zero: u8) -> (f32, [u8; N]) {
    let d = furthest(values) / -f32::from(zero);
    let inverse = reciprocal(d);
    (d, values.map(|v| ((v * inverse + (f32::from(zero) + 0.5)) as u8).min(2 * zero - 1)))
}

/// Codes `0..=top` between the smallest and the largest number. Returns the scale and the minimum too.
fn between_extremes(values: &[f32; N], top: u8) -> (f32, f32, [u8; N]) {
    let (min, max) = extremes(values);
    let d = (max - min) / f32::from(top);
    let inverse = reciprocal(d);
    (d, min, values.map(|v| (((v - min) * inverse + 0.5) as u8).min(top)))
}

fn pack_nibbles(codes: &[u8; N], qs: &mut [u8; 16]) {
    for j in 0..16 {
        qs[j] = codes[j] & 15 | codes[j + 16] << 4;
    }
}

fn fifth_bits(codes: &[u8; N]) -> [u8; 4] {
    let bits = (0..N).fold(0, |bits, j| bits | u32::from(codes[j] >> 4 & 1) << j);
    bits.to_le_bytes()
}

pub(super) fn encode_q4_0(values: &[f32; N]) -> [u8; 18] {
    let mut block = [0; 18];
    let (d, codes) = symmetric(values, 8);
    set_half::<0, _>(&mut block, d);
    pack_nibbles(&codes, part_mut::<2, 16, _>(&mut block));
    block
}

pub(super) fn encode_q4_1(values: &[f32; N]) -> [u8; 20] {
    let mut block = [0; 20];
    let (d, m, codes) = between_extremes(values, 15);
    set_half::<0, _>(&mut block, d);
    set_half::<2, _>(&mut block, m);
    pack_nibbles(&codes, part_mut::<4, 16, _>(&mut block));
    block
}

pub(super) fn encode_q5_0(values: &[f32; N]) -> [u8; 22] {
    let mut block = [0; 22];
    let (d, codes) = symmetric(values, 16);
    set_half::<0, _>(&mut block, d);
    *part_mut::<2, 4, _>(&mut block) = fifth_bits(&codes);
    pack_nibbles(&codes, part_mut::<6, 16, _>(&mut block));
    block
}

pub(super) fn encode_q5_1(values: &[f32; N]) -> [u8; 24] {
    let mut block = [0; 24];
    let (d, m, codes) = between_extremes(values, 31);
    set_half::<0, _>(&mut block, d);
    set_half::<2, _>(&mut block, m);
    *part_mut::<4, 4, _>(&mut block) = fifth_bits(&codes);
    pack_nibbles(&codes, part_mut::<8, 16, _>(&mut block));
    block
}

pub(super) fn encode_q8_0(values: &[f32; N]) -> [u8; 34] {
    let mut block = [0; 34];
    let d = furthest(values).abs() / 127.0;
    let inverse = reciprocal(d);
    set_half::<0, _>(&mut block, d);
    // `round` takes halves away from 0, as the published quantiser does.
    *part_mut::<2, N, _>(&mut block) = values.map(|v| (v * inverse).round() as i8 as u8);
    block
}
