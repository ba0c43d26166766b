//! The K formats Q2_K to Q6_K: 256 numbers in sub-blocks of 16 or 32 whose scales are themselves quantised.
//!
//! Q2_K, Q4_K and Q5_K have a scale and a minimum per sub-block, both counted in units of the block's two
//! half-precision scales: `d * scale * code - dmin * min`. Q3_K and Q6_K have a signed scale only:
//! `d * scale * (code - zero)`.

use super::block::{half, part};

/// Numbers per block.
pub(super) const N: usize = 256;

/// The eight 6-bit scales and the eight 6-bit minima of Q4_K and Q5_K.
///
/// Bytes 0..4 hold scales 0..4, bytes 4..8 minima 0..4, bytes 8..12 the low four bits of scale (low nibble) and minimum
/// (high nibble) 4..8, whose two high bits top the bytes of scale and minimum 0..4.
#[inline]
pub(super) fn unpack_scales_and_minima(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for i in 0..4 {
        let (s, m, low) = (packed[i], packed[4 + i], packed[8 + i]);
        (scales[i], minima[i]) = (s & 63, m & 63);
        (scales[4 + i], minima[4 + i]) = (low & 15 | s >> 6 << 4, low >> 4 | m >> 6 << 4);
    }
    (scales, minima)
}

/// The sixteen 6-bit scales of Q3_K, 32 taken off: low nibbles in bytes 0..8 (scale `i` and `i + 8` in byte `i`), two
/// high bits in bytes 8..12 (scales `i`, `i + 4`, `i + 8`, `i + 12` in byte `8 + i`).
#[inline]
pub(super) fn unpack_q3_k_scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|i| {
        let low = packed[i % 8] >> (i / 8 * 4) & 15;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

pub(super) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; N]) {
    let scales = part::<0, 16, _>(block);
    let (codes, _) = part::<16, 64, _>(block).as_chunks::<32>();
    let (d, dmin) = (half::<80, _>(block), half::<82, _>(block));
    // Two bits of 32 bytes are two sub-blocks of 16.
    for (s, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (codes, shift) = (&codes[s / 8], s / 2 % 4 * 2);
        let (scale, min) = (d * f32::from(scales[s] & 15), dmin * f32::from(scales[s] >> 4));
        for l in 0..16 {
            out[l] = scale * f32::from(codes[s % 2 * 16 + l] >> shift & 3) - min;
        }
    }
}

pub(super) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; N]) {
    let third = part::<0, 32, _>(block);
    let (codes, _) = part::<32, 64, _>(block).as_chunks::<32>();
    let scales = unpack_q3_k_scales(part::<96, 12, _>(block));
    let d = half::<108, _>(block);
    for (s, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (codes, shift) = (&codes[s / 8], s / 2 % 4 * 2);
        let scale = d * f32::from(scales[s]);
        for l in 0..16 {
            let byte = s % 2 * 16 + l;
            let code = codes[byte] >> shift & 3 | (third[byte] >> (s / 2) & 1) << 2;
            out[l] = scale * f32::from(code as i8 - 4);
        }
    }
}

pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; N]) {
    let (d, dmin) = (half::<0, _>(block), half::<2, _>(block));
    let (scales, minima) = unpack_scales_and_minima(part::<4, 12, _>(block));
    let (codes, _) = part::<16, 128, _>(block).as_chunks::<32>();
    for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (codes, shift) = (&codes[s / 2], s % 2 * 4);
        let (scale, min) = (d * f32::from(scales[s]), dmin * f32::from(minima[s]));
        for l in 0..32 {
            out[l] = scale * f32::from(codes[l] >> shift & 15) - min;
        }
    }
}

pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; N]) {
    let (d, dmin) = (half::<0, _>(block), half::<2, _>(block));
    let (scales, minima) = unpack_scales_and_minima(part::<4, 12, _>(block));
    let fifth = part::<16, 32, _>(block);
    let (codes, _) = part::<48, 128, _>(block).as_chunks::<32>();
    for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (codes, shift) = (&codes[s / 2], s % 2 * 4);
        let (scale, min) = (d * f32::from(scales[s]), dmin * f32::from(minima[s]));
        for l in 0..32 {
            out[l] = scale * f32::from(codes[l] >> shift & 15 | (fifth[l] >> s & 1) << 4) - min;
        }
    }
}

pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; N]) {
    let (low, _) = part::<0, 128, _>(block).as_chunks::<32>();
    let (high, _) = part::<128, 64, _>(block).as_chunks::<32>();
    let scales = part::<192, 16, _>(block);
    let d = half::<208, _>(block);
    // Eight runs of 32: within each half the four-bit parts take turns over two runs of bytes, the two-bit parts stay.
    for (r, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (low, low_shift) = (&low[r / 4 * 2 + r % 2], r / 2 % 2 * 4);
        let (high, high_shift) = (&high[r / 4], r % 4 * 2);
        for (s, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(scales[2 * r + s] as i8);
            for l in 0..16 {
                let byte = 16 * s + l;
                let code = low[byte] >> low_shift & 15 | (high[byte] >> high_shift & 3) << 4;
                out[l] = scale * f32::from(code as i8 - 32);
            }
        }
    }
}
