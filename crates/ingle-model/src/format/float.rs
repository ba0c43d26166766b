//! Plain numbers: floats and integers, one at a time.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Defines a decoder of little-endian numbers.
macro_rules! decoder {
    ($name:ident, $bytes:literal, $decode:expr) => {
        pub(super) fn $name(raw: &[u8], out: &mut [f32]) {
            let (numbers, _) = raw.as_chunks::<$bytes>();
            for (out, &number) in out.iter_mut().zip(numbers) {
                *out = $decode(number);
            }
        }
    };
}

/// Defines an encoder to little-endian numbers.
macro_rules! encoder {
    ($name:ident, $bytes:literal, $encode:expr) => {
        pub(super) fn $name(values: &[f32], raw: &mut [u8]) {
            let (numbers, _) = raw.as_chunks_mut::<$bytes>();
            for (number, &value) in numbers.iter_mut().zip(values) {
                *number = $encode(value).to_le_bytes();
            }
        }
    };
}

decoder!(f32_to_f32, 4, f32::from_le_bytes);
decoder!(bf16_to_f32, 2, |b| bf16::from_le_bytes(b).to_f32());
decoder!(f64_to_f32, 8, |b| f64::from_le_bytes(b) as f32);
decoder!(i8_to_f32, 1, |b| f32::from(i8::from_le_bytes(b)));
decoder!(i16_to_f32, 2, |b| f32::from(i16::from_le_bytes(b)));
decoder!(i32_to_f32, 4, |b| i32::from_le_bytes(b) as f32);
decoder!(i64_to_f32, 8, |b| i64::from_le_bytes(b) as f32);
decoder!(u8_to_f32, 1, |b: [u8; 1]| f32::from(b[0]));

encoder!(f32_from_f32, 4, |v: f32| v);
encoder!(bf16_from_f32, 2, bf16::from_f32);
encoder!(f64_from_f32, 8, f64::from);

/// Numbers converted together, so that the processor's own conversion, where it has one, is asked for only once.
const TOGETHER: usize = 256;

pub(super) fn f16_to_f32(raw: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; TOGETHER];
    for (raw, out) in raw.chunks(2 * TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(raw.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(out);
    }
}

pub(super) fn f16_from_f32(values: &[f32], raw: &mut [u8]) {
    let mut halves = [f16::ZERO; TOGETHER];
    for (values, raw) in values.chunks(TOGETHER).zip(raw.chunks_mut(2 * TOGETHER)) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (half, bytes) in halves.iter().zip(raw.as_chunks_mut().0) {
            *bytes = half.to_le_bytes();
        }
    }
}

/// Decodes 8-bit floats: sign, 4 exponent bits biased by 7, 3 fraction bits, no infinities, NaN at all ones.
/// Values only; the scales such tensors come with are other tensors.
pub(super) fn e4m3_to_f32(raw: &[u8], out: &mut [f32]) {
    let values: [f32; 256] = std::array::from_fn(|byte| e4m3(byte as u8));
    for (out, &byte) in out.iter_mut().zip(raw) {
        *out = values[usize::from(byte)];
    }
}

fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2f32.powi(-9),
        _ => (8.0 + fraction) * 2f32.powi(exponent - 10),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}
