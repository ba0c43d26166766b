//! Packing row by row: what the layouts mean, number by number, and the way of groups with fewer than 16 rows.
//! [`pack_groups`](super::pack_groups) has the fast way of whole groups, which is tested against this one.

use half::f16;
use ingle_model::Format;

use crate::kernels::GROUP;
use crate::kernels::layout::{
    BlockLayout, IQ4_XS_BYTES, IQ4_XS_NUMBERS, IQ4_XS_SCALES, LINE, NUMBERS, Q4_K_BYTES, Q5_K_BYTES,
    Q6_K_BYTES, Q6_K_NUMBERS, Q6_K_SCALES, SCALE_LINES,
};

/// Packs up to 16 rows into a group; bytes of missing rows stay as they are.
pub(super) fn pack_rows(format: Format, rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    let rows = rows.chunks_exact(row_bytes).enumerate();
    match format {
        Format::F32 => rows.for_each(|(r, row)| plain::<4>(row, r, out)),
        Format::F16 | Format::BF16 => rows.for_each(|(r, row)| plain::<2>(row, r, out)),
        Format::Q4_K => rows.for_each(|(r, row)| superblocks(row, r, out, q4_k)),
        Format::Q5_K => rows.for_each(|(r, row)| superblocks(row, r, out, q5_k)),
        Format::Q6_K => rows.for_each(|(r, row)| superblocks(row, r, out, q6_k)),
        Format::IQ4_XS => rows.for_each(|(r, row)| superblocks(row, r, out, iq4_xs)),
        Format::Q8_0 => rows.for_each(|(r, row)| blocks(row, r, out, BlockLayout::Q8_0, q8_0)),
        Format::Q4_0 => rows.for_each(|(r, row)| {
            blocks(row, r, out, BlockLayout::Q4_0, |block: &[u8; 18], r, out| halves(&block[2..], r, out))
        }),
        Format::IQ4_NL => rows.for_each(|(r, row)| {
            blocks(row, r, out, BlockLayout::IQ4_NL, |block: &[u8; 18], r, out| halves(&block[2..], r, out))
        }),
        Format::Q4_1 => rows.for_each(|(r, row)| q4_1(row, r, out)),
        Format::Q5_0 => rows.for_each(|(r, row)| blocks(row, r, out, BlockLayout::Q5_0, q5_0)),
        Format::MXFP4 => rows.for_each(|(r, row)| {
            blocks(row, r, out, BlockLayout::MXFP4, |block: &[u8; 17], r, out| halves(&block[1..], r, out))
        }),
        _ => rows.for_each(|(r, row)| out[r * row_bytes..][..row_bytes].copy_from_slice(row)),
    }
}

fn plain<const SIZE: usize>(row: &[u8], r: usize, out: &mut [u8]) {
    let numbers = row.as_chunks::<SIZE>().0;
    for (number, column) in numbers.iter().zip(out.chunks_exact_mut(GROUP * SIZE)) {
        column[r * SIZE..][..SIZE].copy_from_slice(number);
    }
}

/// Puts 4 bytes into lane `r` of vector `vector`.
fn put(out: &mut [u8], vector: usize, r: usize, bytes: [u8; 4]) {
    out[vector * LINE + 4 * r..][..4].copy_from_slice(&bytes);
}

/// Packs numbers below 16 as nibble vectors, 8 columns each. Upper bits are cut off.
fn put_nibbles(out: &mut [u8], r: usize, numbers: &[u8]) {
    for (vector, eight) in numbers.as_chunks::<8>().0.iter().enumerate() {
        put(out, vector, r, std::array::from_fn(|x| eight[x] & 15 | eight[x + 4] << 4));
    }
}

/// Packs the fifth bits of 32 numbers as one vector.
fn put_fifth_bits(out: &mut [u8], r: usize, numbers: &[u8; 32]) {
    let bits = |x: usize| (0..8).fold(0, |byte, t| byte | (numbers[4 * t + x] >> 4 & 1) << t);
    put(out, 0, r, std::array::from_fn(bits));
}

/// Packs a row superblock by superblock: `B` bytes in the file to `P` bytes per 16 rows.
fn superblocks<const B: usize, const P: usize>(
    row: &[u8],
    r: usize,
    out: &mut [u8],
    pack: impl Fn(&[u8; B], usize, &mut [u8; P]),
) {
    for (block, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        pack(block, r, out);
    }
}

/// Scales and minima of a Q4_K or Q5_K superblock, from the first 16 bytes of the block.
fn put_scales(block: &[u8], r: usize, out: &mut [u8]) {
    out[2 * r..2 * r + 2].copy_from_slice(&block[..2]);
    out[2 * GROUP + 2 * r..][..2].copy_from_slice(&block[2..4]);
    let packed = &block[4..16];
    let scale = |j: usize| match j {
        0..4 => packed[j] & 63,
        _ => packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
    };
    let minimum = |j: usize| match j {
        0..4 => packed[j + 4] & 63,
        _ => packed[j + 4] >> 4 | packed[j] >> 6 << 4,
    };
    let lines = &mut out[SCALE_LINES..NUMBERS];
    put(lines, 0, r, std::array::from_fn(|x| scale(x) | (minimum(4 + x) & 3) << 6));
    put(lines, 1, r, std::array::from_fn(|x| scale(4 + x) | (minimum(4 + x) >> 2 & 3) << 6));
    put(lines, 2, r, std::array::from_fn(|x| minimum(x) | (minimum(4 + x) >> 4 & 3) << 6));
}

fn q4_k(block: &[u8; 144], r: usize, out: &mut [u8; Q4_K_BYTES]) {
    put_scales(block, r, out);
    // 32 bytes hold 64 columns: the first 32 in their low nibbles.
    for (pair, bytes) in block[16..].as_chunks::<32>().0.iter().enumerate() {
        let numbers = &mut out[NUMBERS + pair * 8 * LINE..][..8 * LINE];
        let (low, high) = numbers.split_at_mut(4 * LINE);
        put_nibbles(low, r, bytes);
        put_nibbles(high, r, &bytes.map(|byte| byte >> 4));
    }
}

fn q5_k(block: &[u8; 176], r: usize, out: &mut [u8; Q5_K_BYTES]) {
    put_scales(block, r, out);
    let fifths = &block[16..48];
    for (pair, bytes) in block[48..].as_chunks::<32>().0.iter().enumerate() {
        for half in 0..2 {
            let j = 2 * pair + half;
            let number = |c: usize| bytes[c] >> (4 * half) & 15 | (fifths[c] >> j & 1) << 4;
            let numbers: [u8; 32] = std::array::from_fn(number);
            let vectors = &mut out[NUMBERS + j * 5 * LINE..][..5 * LINE];
            put_nibbles(vectors, r, &numbers);
            put_fifth_bits(&mut vectors[4 * LINE..], r, &numbers);
        }
    }
}

fn q6_k(block: &[u8; 210], r: usize, out: &mut [u8; Q6_K_BYTES]) {
    let (lower, upper, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16::from_le_bytes([block[208], block[209]]).to_f32();
    out[4 * r..4 * r + 4].copy_from_slice(&d.to_le_bytes());
    for (line, scales) in scales.as_chunks::<4>().0.iter().enumerate() {
        put(&mut out[Q6_K_SCALES..], line, r, *scales);
    }
    // Each half of 128 columns: 64 bytes of lower nibbles and 32 bytes of upper bits, whose `q`-th parts are the `q`-th
    // 32 columns'.
    for (j, vectors) in out[Q6_K_NUMBERS..].chunks_exact_mut(3 * LINE).enumerate() {
        let (half, quarter, first) = (j / 8, j / 2 % 4, j % 2 * 16);
        let number = |c: usize| {
            let low = lower[half * 64 + quarter % 2 * 32 + first + c] >> (quarter / 2 * 4) & 15;
            low | (upper[half * 32 + first + c] >> (2 * quarter) & 3) << 4
        };
        let numbers: [u8; 16] = std::array::from_fn(number);
        put_nibbles(vectors, r, &numbers);
        let bits = |x: usize| (0..4).fold(0, |byte, t| byte | numbers[4 * t + x] >> 4 << (2 * t));
        put(vectors, 2, r, std::array::from_fn(bits));
    }
}

/// Packs a row block by block: `S` bytes of scale and numbers of 32 columns each, `B` bytes in all.
fn blocks<const B: usize>(
    row: &[u8],
    r: usize,
    out: &mut [u8],
    layout: BlockLayout,
    pack: impl Fn(&[u8; B], usize, &mut [u8]),
) {
    let scale = layout.scale / GROUP;
    for (b, block) in row.as_chunks::<B>().0.iter().enumerate() {
        let (scales, numbers) = layout.find(b);
        out[scales + scale * r..][..scale].copy_from_slice(&block[..scale]);
        pack(block, r, &mut out[numbers..][..layout.numbers]);
    }
}

fn q8_0(block: &[u8; 34], r: usize, out: &mut [u8]) {
    for (vector, four) in block[2..].as_chunks::<4>().0.iter().enumerate() {
        put(out, vector, r, four.map(|byte| byte ^ 0x80));
    }
}

fn q4_1(row: &[u8], r: usize, out: &mut [u8]) {
    for (b, block) in row.as_chunks::<20>().0.iter().enumerate() {
        let (scales, numbers) = BlockLayout::Q4_1.find(b);
        out[scales + 2 * r..][..2].copy_from_slice(&block[..2]);
        out[scales + 2 * GROUP + 2 * r..][..2].copy_from_slice(&block[2..4]);
        halves(&block[4..], r, &mut out[numbers..][..BlockLayout::Q4_1.numbers]);
    }
}

/// The scales of an IQ4_XS superblock.
pub(super) fn iq4_xs_scales(block: &[u8; 136], r: usize, out: &mut [u8; IQ4_XS_BYTES]) {
    out[2 * r..2 * r + 2].copy_from_slice(&block[..2]);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    let scale = |j: usize| (block[4 + j / 2] >> (j % 2 * 4) & 15) | ((upper >> (2 * j) & 3) as u8 ^ 2) << 4;
    let pair = |x: usize| scale(x) >> 4 | scale(4 + x) >> 4 << 2;
    let upper: [u8; 2] = std::array::from_fn(|x| pair(x) | pair(2 + x) << 4);
    out[IQ4_XS_SCALES + 2 * r..][..2].copy_from_slice(&upper);
    let lower = std::array::from_fn(|x| scale(x) & 15 | scale(4 + x) << 4);
    put(&mut out[IQ4_XS_SCALES + 2 * GROUP..], 0, r, lower);
}

fn iq4_xs(block: &[u8; 136], r: usize, out: &mut [u8; IQ4_XS_BYTES]) {
    iq4_xs_scales(block, r, out);
    let numbers = out[IQ4_XS_NUMBERS..].as_chunks_mut::<{ 4 * LINE }>().0;
    for (bytes, numbers) in block[8..].as_chunks::<16>().0.iter().zip(numbers) {
        halves(bytes, r, numbers);
    }
}

/// 16 bytes whose low nibbles are the first 16 columns.
fn halves(bytes: &[u8], r: usize, out: &mut [u8]) {
    let numbers: [u8; 32] = std::array::from_fn(|c| if c < 16 { bytes[c] & 15 } else { bytes[c - 16] >> 4 });
    put_nibbles(out, r, &numbers);
}

fn q5_0(block: &[u8; 22], r: usize, out: &mut [u8]) {
    let fifths = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let bytes = &block[6..];
    let numbers: [u8; 32] = std::array::from_fn(|c| {
        let low = if c < 16 { bytes[c] & 15 } else { bytes[c - 16] >> 4 };
        low | ((fifths >> c & 1) as u8) << 4
    });
    put_nibbles(out, r, &numbers);
    put_fifth_bits(&mut out[4 * LINE..], r, &numbers);
}
