//! The four-bit floats with shared eight-bit scales: MXFP4 and NVFP4.
//!
//! Codes are E2M1 floats (sign, two exponent bits, one fraction bit). MXFP4 shares one power of two (E8M0) among 32
//! numbers; NVFP4 an unsigned E4M3 float among 16, four such groups to a block. The table holds twice the value, an
//! integer, and the scale carries the other half.

use super::block::{decode, part, part_mut};

/// Twice the value of each four-bit float.
const E2M1_DOUBLED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// Half of the power of two that an E8M0 byte stands for: 2^(byte - 128). 255, which the OCP specification reserves
/// for NaN, is a power of two like the others in GGUF files.
fn e8m0_half(byte: u8) -> f32 {
    match byte {
        0 | 1 => f32::from_bits(0x0020_0000 << byte),
        _ => f32::from_bits(u32::from(byte - 1) << 23),
    }
}

pub(super) fn decode_mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = e8m0_half(block[0]);
    let codes = part::<1, 16, _>(block);
    for j in 0..16 {
        out[j] = d * E2M1_DOUBLED[usize::from(codes[j] & 15)];
        out[j + 16] = d * E2M1_DOUBLED[usize::from(codes[j] >> 4)];
    }
}

/// As the published quantiser: the power of two from the largest magnitude, then each number's nearest code, the
/// first of two that are equally near.
pub(super) fn encode_mxfp4(values: &[f32; 32]) -> [u8; 17] {
    let mut block = [0; 17];
    let far = values.iter().fold(0.0, |far: f32, v| if v.abs() > far { v.abs() } else { far });
    if far > 0.0 {
        // 4 = 2^2 is the largest power of two among the codes, 127 the bias. The cast keeps to 0..=255.
        block[0] = (far.log2().floor() + 125.0) as u8;
    }
    let d = e8m0_half(block[0]);
    let codes = values.map(|value| {
        let error = |code: u8| (d * E2M1_DOUBLED[usize::from(code)] - value).abs();
        (1..16).fold(0, |best, code| if error(code) < error(best) { code } else { best })
    });
    for (j, byte) in part_mut::<1, 16, _>(&mut block).iter_mut().enumerate() {
        *byte = codes[j] | codes[j + 16] << 4;
    }
    block
}

/// Half of the value of an unsigned E4M3 float; 0x7f, NaN by the specification, counts as 0 in GGUF files, and the
/// top bit is not looked at.
fn ue4m3_half(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => fraction * 2f32.powi(-10),
        _ => (8.0 + fraction) * 2f32.powi(exponent - 11),
    }
}

pub(super) fn decode_nvfp4(raw: &[u8], out: &mut [f32]) {
    let scales: [f32; 256] = std::array::from_fn(|byte| ue4m3_half(byte as u8));
    decode(raw, out, |block: &[u8; 36], out: &mut [f32; 64]| {
        let (groups, _) = part::<4, 32, _>(block).as_chunks::<8>();
        let (outs, _) = out.as_chunks_mut::<16>();
        for ((&scale, codes), out) in part::<0, 4, _>(block).iter().zip(groups).zip(outs) {
            let d = scales[usize::from(scale)];
            for j in 0..8 {
                out[j] = d * E2M1_DOUBLED[usize::from(codes[j] & 15)];
                out[j + 8] = d * E2M1_DOUBLED[usize::from(codes[j] >> 4)];
            }
        }
    });
}
