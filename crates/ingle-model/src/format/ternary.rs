//! The ternary formats TQ1_0 and TQ2_0: 256 numbers that are -1, 0 or 1 times a half-precision scale.
//!
//! TQ2_0 stores two bits per number. TQ1_0 stores five numbers per byte as the digits of `byte / 256` in base 3, so
//! that multiplying the byte by 3 brings a digit up into the ninth bit; the last 16 numbers lie four to a byte.

use super::block::{half, part, part_mut, reciprocal, set_half};

/// Numbers per block.
const N: usize = 256;
/// Powers of 3 that bring the digits of a TQ1_0 byte to its front.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
/// Runs of TQ1_0: first byte, bytes, digits per byte. Digit `n` of byte `i` is number `bytes * n + i` of the run.
const RUNS: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

pub(super) fn decode_tq1_0(block: &[u8; 54], out: &mut [f32; N]) {
    let d = half::<52, _>(block);
    let mut at = 0;
    for (first, bytes, digits) in RUNS {
        for &power in &POWERS[..digits] {
            for (out, byte) in out[at..at + bytes].iter_mut().zip(&block[first..first + bytes]) {
                let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
                *out = d * (f32::from(digit) - 1.0);
            }
            at += bytes;
        }
    }
}

pub(super) fn decode_tq2_0(block: &[u8; 66], out: &mut [f32; N]) {
    let d = half::<64, _>(block);
    let (halves, _) = part::<0, 64, _>(block).as_chunks::<32>();
    for (bytes, out) in halves.iter().zip(out.as_chunks_mut::<128>().0) {
        for place in 0..4 {
            for i in 0..32 {
                out[32 * place + i] = d * (f32::from(bytes[i] >> (2 * place) & 3) - 1.0);
            }
        }
    }
}

/// The scale (the largest magnitude) and the digits 0, 1, 2, as the published quantisers choose them.
fn digits(values: &[f32; N]) -> (f32, [u8; N]) {
    let d = values.iter().fold(0.0, |far: f32, v| if v.abs() > far { v.abs() } else { far });
    let inverse = reciprocal(d);
    (d, values.map(|v| ((v * inverse).round() as i8).saturating_add(1).clamp(0, 2) as u8))
}

pub(super) fn encode_tq1_0(values: &[f32; N]) -> [u8; 54] {
    let mut block = [0; 54];
    let (d, codes) = digits(values);
    let mut at = 0;
    for (first, bytes, digits) in RUNS {
        for i in 0..bytes {
            // A missing fifth digit counts as 0.
            let number = (0..5).fold(0, |number: u16, n| {
                number * 3 + if n < digits { u16::from(codes[at + bytes * n + i]) } else { 0 }
            });
            // The smallest byte whose fraction of 256 is not below number / 243.
            block[first + i] = (number * 256).div_ceil(243) as u8;
        }
        at += bytes * digits;
    }
    set_half::<52, _>(&mut block, d);
    block
}

pub(super) fn encode_tq2_0(values: &[f32; N]) -> [u8; 66] {
    let mut block = [0; 66];
    let (d, codes) = digits(values);
    for (i, byte) in part_mut::<0, 64, _>(&mut block).iter_mut().enumerate() {
        let first = i / 32 * 128 + i % 32;
        *byte = (0..4).fold(0, |byte, place| byte | codes[first + 32 * place] << (2 * place));
    }
    set_half::<64, _>(&mut block, d);
    block
}
