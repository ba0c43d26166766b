//! Writing the K formats: what [`k_fit`](super::k_fit) chose, packed as [`k`](super::k) reads it.

use half::f16;

use super::block::part_mut;
use super::k::N;
use super::k_fit;

/// A block's numbers as sub-blocks of `L`.
fn sub_blocks<const S: usize, const L: usize>(values: &[f32; N]) -> &[[f32; L]; S] {
    const { assert!(S * L == N, "sub-blocks that do not fill the block") };
    values.as_chunks().0.first_chunk().expect("S sub-blocks fill the block")
}

fn put_half<const AT: usize, const B: usize>(block: &mut [u8; B], value: f16) {
    *part_mut::<AT, 2, B>(block) = value.to_le_bytes();
}

/// Packs the 6-bit scales and minima of Q4_K and Q5_K.
fn pack_scales_and_minima(scales: &[u8; 8], minima: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | scales[4 + i] >> 4 << 6;
        packed[4 + i] = minima[i] | minima[4 + i] >> 4 << 6;
        packed[8 + i] = scales[4 + i] & 15 | (minima[4 + i] & 15) << 4;
    }
    packed
}

/// Packs the 6-bit scales of Q3_K.
fn pack_q3_k_scales(scales: &[i8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (i, &scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        packed[i % 8] |= (scale & 15) << (i / 8 * 4);
        packed[8 + i % 4] |= scale >> 4 << (i / 4 * 2);
    }
    packed
}

/// Packs the low two bits of 16 sub-blocks of 16 codes as Q2_K and Q3_K have them.
fn pack_two_bits(codes: &[[u8; 16]; 16], qs: &mut [u8; 64]) {
    for (s, codes) in codes.iter().enumerate() {
        let (first, shift) = (s / 8 * 32 + s % 2 * 16, s / 2 % 4 * 2);
        for (byte, code) in qs[first..first + 16].iter_mut().zip(codes) {
            *byte |= (code & 3) << shift;
        }
    }
}

/// Packs the low four bits of 8 sub-blocks of 32 codes as Q4_K and Q5_K have them.
fn pack_four_bits(codes: &[[u8; 32]; 8], qs: &mut [u8; 128]) {
    for (s, codes) in codes.iter().enumerate() {
        for (byte, code) in qs[s / 2 * 32..][..32].iter_mut().zip(codes) {
            *byte |= (code & 15) << (s % 2 * 4);
        }
    }
}

pub(super) fn encode_q2_k(values: &[f32; N]) -> [u8; 84] {
    let mut block = [0; 84];
    let fit = k_fit::affine::<16, 16>(sub_blocks(values), 15, 3);
    *part_mut::<0, 16, _>(&mut block) = std::array::from_fn(|s| fit.scales[s] | fit.minima[s] << 4);
    pack_two_bits(&fit.codes, part_mut::<16, 64, _>(&mut block));
    put_half::<80, _>(&mut block, fit.d);
    put_half::<82, _>(&mut block, fit.dmin);
    block
}

pub(super) fn encode_q3_k(values: &[f32; N]) -> [u8; 110] {
    let mut block = [0; 110];
    let fit = k_fit::signed::<16, 16>(sub_blocks(values), 32, 4);
    let third = part_mut::<0, 32, _>(&mut block);
    for (s, codes) in fit.codes.iter().enumerate() {
        for (byte, code) in third[s % 2 * 16..][..16].iter_mut().zip(codes) {
            *byte |= code >> 2 << (s / 2);
        }
    }
    pack_two_bits(&fit.codes, part_mut::<32, 64, _>(&mut block));
    *part_mut::<96, 12, _>(&mut block) = pack_q3_k_scales(&fit.scales);
    put_half::<108, _>(&mut block, fit.d);
    block
}

pub(super) fn encode_q4_k(values: &[f32; N]) -> [u8; 144] {
    let mut block = [0; 144];
    let fit = k_fit::affine::<8, 32>(sub_blocks(values), 63, 15);
    put_half::<0, _>(&mut block, fit.d);
    put_half::<2, _>(&mut block, fit.dmin);
    *part_mut::<4, 12, _>(&mut block) = pack_scales_and_minima(&fit.scales, &fit.minima);
    pack_four_bits(&fit.codes, part_mut::<16, 128, _>(&mut block));
    block
}

pub(super) fn encode_q5_k(values: &[f32; N]) -> [u8; 176] {
    let mut block = [0; 176];
    let fit = k_fit::affine::<8, 32>(sub_blocks(values), 63, 31);
    put_half::<0, _>(&mut block, fit.d);
    put_half::<2, _>(&mut block, fit.dmin);
    *part_mut::<4, 12, _>(&mut block) = pack_scales_and_minima(&fit.scales, &fit.minima);
    for (s, codes) in fit.codes.iter().enumerate() {
        for (byte, code) in part_mut::<16, 32, _>(&mut block).iter_mut().zip(codes) {
            *byte |= code >> 4 << s;
        }
    }
    pack_four_bits(&fit.codes, part_mut::<48, 128, _>(&mut block));
    block
}

pub(super) fn encode_q6_k(values: &[f32; N]) -> [u8; 210] {
    let mut block = [0; 210];
    let fit = k_fit::signed::<16, 16>(sub_blocks(values), 128, 32);
    for (s, codes) in fit.codes.iter().enumerate() {
        let (run, within) = (s / 2, s % 2 * 16);
        let low = run / 4 * 64 + run % 2 * 32 + within;
        for (byte, code) in block[low..low + 16].iter_mut().zip(codes) {
            *byte |= (code & 15) << (run / 2 % 2 * 4);
        }
        let high = 128 + run / 4 * 32 + within;
        for (byte, code) in block[high..high + 16].iter_mut().zip(codes) {
            *byte |= code >> 4 << (run % 4 * 2);
        }
    }
    *part_mut::<192, 16, _>(&mut block) = fit.scales.map(|scale| scale as u8);
    put_half::<208, _>(&mut block, fit.d);
    block
}
