//! Packing 16 rows at once: words of 4 bytes change places between rows and lanes, then the bits of all 16 lanes move
//! together.
//!
//! A word of 4 bytes of each row is one [`Words`], which is a vector of the layout. So bytes that hold 4 consecutive
//! columns only change places, and nibbles and upper bits are put together by shifts and masks that are the same in
//! every lane, which the compiler turns into vector instructions of whatever processor.

use half::f16;
use ingle_model::Format;

use super::pack_rows::iq4_xs_scales;
use crate::kernels::GROUP;
use crate::kernels::layout::{
    BlockLayout, IQ4_XS_BYTES, IQ4_XS_NUMBERS, LINE, NUMBERS, Q4_K_BYTES, Q5_K_BYTES, Q6_K_BYTES,
    Q6_K_NUMBERS, Q6_K_SCALES, SCALE_LINES,
};

/// A word of each of 16 rows.
type Words = [u32; GROUP];
/// The same block of each of 16 rows.
type Blocks<'a, const B: usize> = [&'a [u8; B]; GROUP];

/// Packs 16 rows into a group, every byte of it; `false`, and nothing done, for formats that are packed row by row.
pub(super) fn pack_group(format: Format, rows: &[u8], row_bytes: usize, out: &mut [u8]) -> bool {
    match format {
        Format::F32 => float_32(rows, row_bytes, out),
        Format::F16 | Format::BF16 => float_16(rows, row_bytes, out),
        Format::Q4_K => superblocks(rows, row_bytes, out, q4_k),
        Format::Q5_K => superblocks(rows, row_bytes, out, q5_k),
        Format::Q6_K => superblocks(rows, row_bytes, out, q6_k),
        Format::IQ4_XS => superblocks(rows, row_bytes, out, iq4_xs),
        Format::Q8_0 => blocks::<34, 2>(rows, row_bytes, out, BlockLayout::Q8_0, q8_0),
        Format::Q4_0 => blocks::<18, 2>(rows, row_bytes, out, BlockLayout::Q4_0, four_bits::<18, 2>),
        Format::IQ4_NL => blocks::<18, 2>(rows, row_bytes, out, BlockLayout::IQ4_NL, four_bits::<18, 2>),
        Format::Q4_1 => blocks::<20, 4>(rows, row_bytes, out, BlockLayout::Q4_1, four_bits::<20, 4>),
        Format::Q5_0 => blocks::<22, 2>(rows, row_bytes, out, BlockLayout::Q5_0, q5_0),
        Format::MXFP4 => blocks::<17, 1>(rows, row_bytes, out, BlockLayout::MXFP4, four_bits::<17, 1>),
        _ => return false,
    }
    true
}

/// The rows, each as its blocks.
fn in_blocks<const B: usize>(rows: &[u8], row_bytes: usize) -> [&[[u8; B]]; GROUP] {
    std::array::from_fn(|r| rows[r * row_bytes..][..row_bytes].as_chunks().0)
}

/// `N` words of each row's block, from byte `at` on.
fn words<const B: usize, const N: usize>(blocks: &Blocks<'_, B>, at: usize) -> [Words; N] {
    let mut words = [[0; GROUP]; N];
    for (r, block) in blocks.iter().enumerate() {
        for (words, word) in words.iter_mut().zip(block[at..at + 4 * N].as_chunks().0) {
            words[r] = u32::from_le_bytes(*word);
        }
    }
    words
}

/// A word of each lane made of others of the same lane.
fn each(of: impl Fn(usize) -> u32) -> Words {
    std::array::from_fn(of)
}

/// Writes a vector.
fn put(out: &mut [u8], vector: usize, words: &Words) {
    let out = out[vector * LINE..][..LINE].as_chunks_mut().0;
    for (out, word) in out.iter_mut().zip(words) {
        *out = word.to_le_bytes();
    }
}

/// A nibble vector: the low nibbles of `low`, and those of `high`.
fn nibbles(low: &Words, high: &Words) -> Words {
    each(|r| low[r] & 0x0f0f_0f0f | (high[r] & 0x0f0f_0f0f) << 4)
}

/// Nibble vectors of bytes that hold two columns each: first the vectors of their low nibbles, then those of their high
/// ones.
fn put_halves<const N: usize>(words: &[Words; N], out: &mut [u8]) {
    for (pair, [even, odd]) in words.as_chunks().0.iter().enumerate() {
        put(out, pair, &nibbles(even, odd));
        put(out, N / 2 + pair, &each(|r| even[r] >> 4 & 0x0f0f_0f0f | odd[r] & 0xf0f0_f0f0));
    }
}

/// Packs rows superblock by superblock: `B` bytes in the file to `P` bytes per 16 rows.
fn superblocks<const B: usize, const P: usize>(
    rows: &[u8],
    row_bytes: usize,
    out: &mut [u8],
    pack: impl Fn(&Blocks<'_, B>, &mut [u8; P]),
) {
    let rows = in_blocks::<B>(rows, row_bytes);
    for (b, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        pack(&rows.map(|row| &row[b]), out);
    }
}

/// Scales and minima of Q4_K or Q5_K, from the first 16 bytes of the blocks.
fn put_scales<const B: usize>(blocks: &Blocks<'_, B>, out: &mut [u8]) {
    let [both, first, second, last]: [Words; 4] = words(blocks, 0);
    for r in 0..GROUP {
        out[2 * r..2 * r + 2].copy_from_slice(&(both[r] as u16).to_le_bytes());
        out[2 * GROUP + 2 * r..][..2].copy_from_slice(&((both[r] >> 16) as u16).to_le_bytes());
    }
    let lines = &mut out[SCALE_LINES..NUMBERS];
    let low_six = |word: u32| word & 0x3f3f_3f3f;
    // minima 4 to 7: four bits from the last word, two from the upper ends of the second
    let minima = each(|r| last[r] >> 4 & 0x0f0f_0f0f | second[r] >> 2 & 0x3030_3030);
    let scales = each(|r| last[r] & 0x0f0f_0f0f | first[r] >> 2 & 0x3030_3030);
    put(lines, 0, &each(|r| low_six(first[r]) | (minima[r] & 0x0303_0303) << 6));
    put(lines, 1, &each(|r| scales[r] | (minima[r] & 0x0c0c_0c0c) << 4));
    put(lines, 2, &each(|r| low_six(second[r]) | (minima[r] & 0x3030_3030) << 2));
}

fn q4_k(blocks: &Blocks<'_, 144>, out: &mut [u8; Q4_K_BYTES]) {
    put_scales(blocks, out);
    for (pair, out) in out[NUMBERS..].as_chunks_mut::<{ 8 * LINE }>().0.iter_mut().enumerate() {
        put_halves::<8>(&words(blocks, 16 + 32 * pair), out);
    }
}

fn q5_k(blocks: &Blocks<'_, 176>, out: &mut [u8; Q5_K_BYTES]) {
    put_scales(blocks, out);
    let fifths: [Words; 8] = words(blocks, 16);
    let (numbers, _) = out[NUMBERS..].as_chunks_mut::<{ 10 * LINE }>();
    for (pair, out) in numbers.iter_mut().enumerate() {
        let words: [Words; 8] = words(blocks, 48 + 32 * pair);
        for half in 0..2 {
            let out = &mut out[half * 5 * LINE..][..5 * LINE];
            for (t, [even, odd]) in words.as_chunks().0.iter().enumerate() {
                let shifted = |words: &Words| each(|r| words[r] >> (4 * half));
                put(out, t, &nibbles(&shifted(even), &shifted(odd)));
            }
            let bit = 2 * pair + half;
            let mut upper = [0; GROUP];
            for (t, fifths) in fifths.iter().enumerate() {
                upper = each(|r| upper[r] | (fifths[r] >> bit & 0x0101_0101) << t);
            }
            put(out, 4, &upper);
        }
    }
}

fn q6_k(blocks: &Blocks<'_, 210>, out: &mut [u8; Q6_K_BYTES]) {
    for (r, block) in blocks.iter().enumerate() {
        let d = f16::from_le_bytes([block[208], block[209]]).to_f32();
        out[4 * r..4 * r + 4].copy_from_slice(&d.to_le_bytes());
    }
    let scales: [Words; 4] = words(blocks, 192);
    for (line, scales) in scales.iter().enumerate() {
        put(&mut out[Q6_K_SCALES..], line, scales);
    }
    let (numbers, _) = out[Q6_K_NUMBERS..].as_chunks_mut::<{ 24 * LINE }>();
    for (half, out) in numbers.iter_mut().enumerate() {
        let lower: [Words; 16] = words(blocks, 64 * half);
        let upper: [Words; 8] = words(blocks, 128 + 32 * half);
        for (j, out) in out.as_chunks_mut::<{ 3 * LINE }>().0.iter_mut().enumerate() {
            let (quarter, first) = (j / 2, j % 2 * 4);
            let shift = quarter / 2 * 4;
            let lower = &lower[quarter % 2 * 8 + first..][..4];
            let upper = &upper[first..][..4];
            for t in 0..2 {
                let number = |t: usize| each(|r| lower[t][r] >> shift);
                put(out, t, &nibbles(&number(2 * t), &number(2 * t + 1)));
            }
            let mut bits = [0; GROUP];
            for (t, upper) in upper.iter().enumerate() {
                bits = each(|r| bits[r] | (upper[r] >> (2 * quarter) & 0x0303_0303) << (2 * t));
            }
            put(out, 2, &bits);
        }
    }
}

fn iq4_xs(blocks: &Blocks<'_, 136>, out: &mut [u8; IQ4_XS_BYTES]) {
    for (r, block) in blocks.iter().enumerate() {
        iq4_xs_scales(block, r, out);
    }
    for (j, out) in out[IQ4_XS_NUMBERS..].as_chunks_mut::<{ 4 * LINE }>().0.iter_mut().enumerate() {
        put_halves::<4>(&words(blocks, 8 + 16 * j), out);
    }
}

/// Packs rows block by block: `S` bytes of scale and then numbers of 32 columns each, `B` bytes in all. What is two
/// numbers of a block (scale and minimum) is apart: 16 of the one, then 16 of the other.
fn blocks<const B: usize, const S: usize>(
    rows: &[u8],
    row_bytes: usize,
    out: &mut [u8],
    layout: BlockLayout,
    pack: impl Fn(&Blocks<'_, B>, &mut [u8]),
) {
    let rows = in_blocks::<B>(rows, row_bytes);
    let count = row_bytes / B;
    let part = S.min(2);
    for b in 0..count {
        let blocks = rows.map(|row| &row[b]);
        let (scales, numbers) = layout.find(b);
        if b % layout.run() == 0 {
            // a line that the last blocks do not fill is zero to its end
            out[scales..][..LINE].fill(0);
        }
        for (r, block) in blocks.iter().enumerate() {
            for (p, scale) in block[..S].chunks_exact(part).enumerate() {
                out[scales + (p * GROUP + r) * part..][..part].copy_from_slice(scale);
            }
        }
        pack(&blocks, &mut out[numbers..][..layout.numbers]);
    }
}

fn q8_0(blocks: &Blocks<'_, 34>, out: &mut [u8]) {
    for (t, words) in words::<34, 8>(blocks, 2).iter().enumerate() {
        put(out, t, &each(|r| words[r] ^ 0x8080_8080));
    }
}

/// 16 bytes from `S` on whose low nibbles are the first 16 columns.
fn four_bits<const B: usize, const S: usize>(blocks: &Blocks<'_, B>, out: &mut [u8]) {
    put_halves::<4>(&words(blocks, S), out);
}

fn q5_0(blocks: &Blocks<'_, 22>, out: &mut [u8]) {
    put_halves::<4>(&words(blocks, 6), out);
    let [fifths]: [Words; 1] = words(blocks, 2);
    let mut upper = [0; GROUP];
    for t in 0..8 {
        // bit `x` of the nibble goes to byte `x`
        upper = each(|r| upper[r] | (((fifths[r] >> (4 * t) & 15) * 0x0020_4081) & 0x0101_0101) << t);
    }
    put(out, 4, &upper);
}

/// Columns whose words are taken together: a line of each row.
const RUN: usize = LINE / 4;

fn float_32(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    let (lines, rest) = (in_blocks::<LINE>(rows, row_bytes), row_bytes / LINE * LINE);
    for (b, out) in out.as_chunks_mut::<{ RUN * LINE }>().0.iter_mut().enumerate() {
        let words: [Words; RUN] = words(&lines.map(|row| &row[b]), 0);
        words.iter().enumerate().for_each(|(t, words)| put(out, t, words));
    }
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (number, column) in
            row[rest..].as_chunks::<4>().0.iter().zip(out[rest * GROUP..].chunks_mut(LINE))
        {
            column[4 * r..][..4].copy_from_slice(number);
        }
    }
}

fn float_16(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    let (lines, rest) = (in_blocks::<LINE>(rows, row_bytes), row_bytes / LINE * LINE);
    for (b, out) in out.as_chunks_mut::<{ RUN * LINE }>().0.iter_mut().enumerate() {
        let words: [Words; RUN] = words(&lines.map(|row| &row[b]), 0);
        for (words, out) in words.iter().zip(out.as_chunks_mut::<LINE>().0) {
            // a word is two columns
            for (r, word) in words.iter().enumerate() {
                out[2 * r..2 * r + 2].copy_from_slice(&(*word as u16).to_le_bytes());
                out[2 * GROUP + 2 * r..][..2].copy_from_slice(&((word >> 16) as u16).to_le_bytes());
            }
        }
    }
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (number, column) in
            row[rest..].as_chunks::<2>().0.iter().zip(out[rest * GROUP..].chunks_mut(2 * GROUP))
        {
            column[2 * r..][..2].copy_from_slice(number);
        }
    }
}
