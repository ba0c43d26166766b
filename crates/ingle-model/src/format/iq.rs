//! The IQ formats: points of a fixed grid, or of a fixed uneven scale (IQ4), times a scale, some with separate signs.
//!
//! Except for IQ4_NL (32) a block holds 256 numbers. The grids are in [`iq_grids`](super::iq_grids).

use super::block::{half, part, word};
use super::iq_grids::{IQ1, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};

/// Numbers per block.
const N: usize = 256;

/// The 16 values of the IQ4 formats, a constant of the published format.
const IQ4_VALUES: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// How far the IQ1 formats move a group's points up or down.
const IQ1_SHIFT: f32 = 0.125;

/// Signs of eight numbers from seven bits: the eighth makes the number of minus signs even.
#[inline]
fn even_signs(index: u32) -> u8 {
    let seven = (index & 127) as u8;
    seven | ((seven.count_ones() & 1) << 7) as u8
}

/// `D` numbers: a grid point times a scale, bit `first + i` of `signs` set where number `i` is negative.
#[inline]
fn signed_point<const D: usize>(out: &mut [f32], scale: f32, point: &[i8; D], signs: u8, first: usize) {
    for i in 0..D {
        let value = scale * f32::from(point[i]);
        out[i] = f32::from_bits(value.to_bits() ^ u32::from(signs >> (first + i) & 1) << 31);
    }
}

/// Eight numbers from two four-number points.
#[inline]
fn signed_pair(out: &mut [f32], scale: f32, low: &[i8; 4], high: &[i8; 4], signs: u8) {
    signed_point(out, scale, low, signs, 0);
    signed_point(&mut out[4..], scale, high, signs, 4);
}

pub(super) fn decode_iq2_xxs(block: &[u8; 66], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let (groups, _) = part::<2, 64, _>(block).as_chunks::<8>();
    for (group, out) in groups.iter().zip(out.as_chunks_mut::<32>().0) {
        let packed = u32::from_le_bytes(*part::<4, 4, _>(group));
        let scale = d * (0.5 + (packed >> 28) as f32) * 0.25;
        for l in 0..4 {
            let point = &IQ2_XXS[usize::from(group[l])];
            signed_point(&mut out[8 * l..], scale, point, even_signs(packed >> (7 * l)), 0);
        }
    }
}

pub(super) fn decode_iq2_xs(block: &[u8; 74], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let (qs, scales) = (part::<2, 64, _>(block), part::<66, 8, _>(block));
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * (0.5 + f32::from(scales[i / 4] >> (i / 2 % 2 * 4) & 15)) * 0.25;
        let code = word(qs, i);
        let signs = even_signs(u32::from(code >> 9));
        signed_point(out, scale, &IQ2_XS[usize::from(code & 511)], signs, 0);
    }
}

pub(super) fn decode_iq2_s(block: &[u8; 82], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let (qs, signs) = (part::<2, 32, _>(block), part::<34, 32, _>(block));
    let (qh, scales) = (part::<66, 8, _>(block), part::<74, 8, _>(block));
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * (0.5 + f32::from(scales[i / 4] >> (i / 2 % 2 * 4) & 15)) * 0.25;
        let index = usize::from(qs[i]) | usize::from(qh[i / 4] >> (i % 4 * 2) & 3) << 8;
        signed_point(out, scale, &IQ2_S[index], signs[i], 0);
    }
}

pub(super) fn decode_iq3_xxs(block: &[u8; 98], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let (qs, _) = part::<2, 64, _>(block).as_chunks::<8>();
    let (packed, _) = part::<66, 32, _>(block).as_chunks::<4>();
    for ((qs, packed), out) in qs.iter().zip(packed).zip(out.as_chunks_mut::<32>().0) {
        let packed = u32::from_le_bytes(*packed);
        let scale = d * (0.5 + (packed >> 28) as f32) * 0.5;
        for l in 0..4 {
            let (low, high) = (&IQ3_XXS[usize::from(qs[2 * l])], &IQ3_XXS[usize::from(qs[2 * l + 1])]);
            signed_pair(&mut out[8 * l..], scale, low, high, even_signs(packed >> (7 * l)));
        }
    }
}

pub(super) fn decode_iq3_s(block: &[u8; 110], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let (qs, qh) = (part::<2, 64, _>(block), part::<66, 8, _>(block));
    let (signs, scales) = (part::<74, 32, _>(block), part::<106, 4, _>(block));
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * f32::from(1 + 2 * (scales[i / 8] >> (i / 4 % 2 * 4) & 15));
        let point = |j: usize| &IQ3_S[usize::from(qs[j]) | usize::from(qh[j / 8] >> (j % 8) & 1) << 8];
        signed_pair(out, scale, point(2 * i), point(2 * i + 1), signs[i]);
    }
}

/// Eight numbers: a point moved by `shift`, times a scale.
#[inline]
fn shifted_point(out: &mut [f32; 8], scale: f32, index: usize, down: bool) {
    let shift = if down { -IQ1_SHIFT } else { IQ1_SHIFT };
    let point = &IQ1[index];
    for i in 0..8 {
        out[i] = scale * (f32::from(point[i]) + shift);
    }
}

pub(super) fn decode_iq1_s(block: &[u8; 50], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let (qs, qh) = (part::<2, 32, _>(block), part::<34, 16, _>(block));
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // One word per 32 numbers: three high bits of each of the four indices, three of scale, the shift's sign.
        let packed = word(qh, i / 4);
        let scale = d * f32::from(2 * (packed >> 12 & 7) + 1);
        let index = usize::from(qs[i]) | usize::from(packed >> (i % 4 * 3) & 7) << 8;
        shifted_point(out, scale, index, packed & 0x8000 != 0);
    }
}

pub(super) fn decode_iq1_m(block: &[u8; 56], out: &mut [f32; N]) {
    let (qs, qh, scales) = (part::<0, 32, _>(block), part::<32, 16, _>(block), part::<48, 8, _>(block));
    // Each of the four words of scales carries a nibble of the half-precision scale on top.
    let bits = (0..4).fold(0, |bits, i| bits | (word(scales, i) >> 12) << (4 * i));
    let d = half::<0, _>(&bits.to_le_bytes());
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * f32::from(2 * (word(scales, i / 8) >> (i / 2 % 4 * 3) & 7) + 1);
        let high = qh[i / 2] >> (i % 2 * 4);
        let index = usize::from(qs[i]) | usize::from(high & 7) << 8;
        shifted_point(out, scale, index, high & 8 != 0);
    }
}

/// 32 numbers of the uneven scale: number `j` in the low, number `j + 16` in the high nibble of byte `j`.
#[inline]
fn uneven(codes: &[u8; 16], d: f32, out: &mut [f32; 32]) {
    for j in 0..16 {
        out[j] = d * IQ4_VALUES[usize::from(codes[j] & 15)];
        out[j + 16] = d * IQ4_VALUES[usize::from(codes[j] >> 4)];
    }
}

pub(super) fn decode_iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    uneven(part::<2, 16, _>(block), half::<0, _>(block), out);
}

pub(super) fn decode_iq4_xs(block: &[u8; 136], out: &mut [f32; N]) {
    let d = half::<0, _>(block);
    let high = word(part::<2, 2, _>(block), 0);
    let low = part::<4, 4, _>(block);
    let (codes, _) = part::<8, 128, _>(block).as_chunks::<16>();
    for (g, (codes, out)) in codes.iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
        let scale = u16::from(low[g / 2] >> (g % 2 * 4) & 15) | (high >> (2 * g) & 3) << 4;
        uneven(codes, d * (f32::from(scale) - 32.0), out);
    }
}
