//! Products at the edges of what numbers can be: zeros, the largest and the smallest, and what is no finite number.

use half::f16;
use ingle_model::Format;

use super::tests::{
    PACKED, Random, decoded, half_scales, product, random_input, random_matrix, seen, tables,
};
use super::*;

const ROWS: usize = 20;
const COLUMNS: usize = 512;

/// The products on every table: what the table is called, the results, and how far they may be off the products of
/// `weights` with the activations that kernels see, computed in `f64`.
fn against_exact(format: Format, raw: &[u8], x: &[f32], check: impl Fn(&str, usize, f32, f64, f64)) {
    let weights = decoded(format, raw, ROWS, COLUMNS);
    for kernels in tables() {
        let cpu = Cpu::with(1, kernels);
        let matrix = Matrix::pack(format, ROWS, COLUMNS, raw, &cpu).unwrap();
        let (out, input) = product(&cpu, &matrix, x, x.len() / COLUMNS);
        let seen = seen(format, &input, x);
        let what = format!("{format} {}", kernels.isa().name());
        for (i, &got) in out.iter().enumerate() {
            let (row, at) = (&weights[i % ROWS * COLUMNS..][..COLUMNS], i / ROWS * COLUMNS);
            let terms = row.iter().zip(&seen[at..]).map(|(&w, x)| f64::from(w) * x);
            let (sum, norm) = terms.fold((0.0, 0.0), |(sum, norm), term| (sum + term, norm + term * term));
            check(&what, i, got, sum, 3e-6 * (norm.sqrt() + f64::abs(sum)));
        }
    }
}

fn assert_exact(format: Format, raw: &[u8], x: &[f32]) {
    against_exact(format, raw, x, |what, i, got, exact, close| {
        // what is smaller than normal numbers may be zero on the way
        let close = close + 1e-36;
        assert!((f64::from(got) - exact).abs() <= close, "{what}: {got} is not {exact} at {i}");
    });
}

/// A matrix whose scales are `scale(block)`.
fn with_scales(format: Format, random: &mut Random, scale: impl Fn(usize) -> f16) -> Vec<u8> {
    let mut raw = random_matrix(format, ROWS, COLUMNS, random);
    for (i, block) in raw.chunks_exact_mut(format.block_bytes()).enumerate() {
        for &at in half_scales(format) {
            block[at..at + 2].copy_from_slice(&scale(i).to_le_bytes());
        }
    }
    raw
}

#[test]
fn nothing_times_anything_is_nothing() {
    for format in PACKED {
        let mut raw = random_matrix(format, ROWS, COLUMNS, &mut Random(11));
        let row = raw.len() / ROWS;
        raw[..3 * row].fill(0);
        let mut x = random_input(3, COLUMNS, &mut Random(12));
        x[COLUMNS..2 * COLUMNS].fill(-0.0);
        against_exact(format, &raw, &x, |what, i, got, _, _| {
            // all bytes zero are codes of zero, but for the formats whose codes count from below it: their scale is zero
            let nothing = i % ROWS < 3 || i / ROWS == 1;
            assert!(!nothing || got == 0.0, "{what}: {got} at {i}");
        });
        assert_exact(format, &raw, &x);
    }
}

#[test]
fn one_activation_above_all_others_leaves_sums_exact() {
    for format in PACKED {
        let raw = random_matrix(format, ROWS, COLUMNS, &mut Random(13));
        for huge in [1e6, -1e30, 1e36] {
            let mut x = random_input(2, COLUMNS, &mut Random(14));
            (0..2 * COLUMNS).step_by(32).for_each(|block| x[block + block / 32 % 32] = huge);
            assert_exact(format, &raw, &x);
        }
    }
}

/// Whole blocks of activations below 1e-30 count as zero where they are rounded.
#[test]
fn the_smallest_activations_vanish_or_stay_exact() {
    for format in PACKED {
        let raw = random_matrix(format, ROWS, COLUMNS, &mut Random(15));
        for size in [f32::from_bits(1), 1e-40, 1e-38, 0.9e-30, 1.1e-30, 1e-20] {
            let mut random = Random(16);
            let x: Vec<f32> = (0..COLUMNS).map(|_| size * random.float()).collect();
            assert_exact(format, &raw, &x);
        }
    }
}

#[test]
fn scales_of_any_sign_and_size_are_exact() {
    let smallest = f16::from_bits(1);
    for format in PACKED.into_iter().filter(|&format| !half_scales(format).is_empty()) {
        let mut random = Random(17);
        let x = random_input(9, COLUMNS, &mut random);
        for scales in [
            [f16::ZERO, f16::NEG_ZERO],
            [f16::from_f32(-0.5), f16::from_f32(0.25)],
            [smallest, -smallest],
            [f16::from_bits(0x03ff), f16::MIN_POSITIVE],
            [f16::MAX, f16::MIN],
        ] {
            assert_exact(format, &with_scales(format, &mut random, |block| scales[block % 2]), &x);
        }
    }
}

/// Exponent 0 stands for 2^-127, which no sum of usual size can tell from the zero that kernels take it for; 255 stands
/// for "not a number", of which kernels make an infinity or that.
#[test]
fn mxfp4_is_exact_for_all_exponents_but_the_outermost() {
    let mut raw = random_matrix(Format::MXFP4, ROWS, COLUMNS, &mut Random(18));
    let blocks = COLUMNS / 32;
    let exponents = [0, 1, 2, 126, 127, 128, 252, 253, 254, 255];
    for (i, block) in raw.chunks_exact_mut(17).enumerate() {
        let exponent = exponents[i / blocks % exponents.len()];
        block[0] = exponent;
        if exponent > 252 {
            // twice this scale is beyond the floats that weights are compared as: codes of 0.5 and 1
            block[1..].fill(0x12);
        }
    }
    for size in [1e-6, 1.0] {
        let mut random = Random(19);
        let x: Vec<f32> = (0..2 * COLUMNS).map(|_| size * random.float()).collect();
        against_exact(Format::MXFP4, &raw, &x, |what, i, got, exact, close| {
            let (exponent, off) = (exponents[i % ROWS % exponents.len()], (f64::from(got) - exact).abs());
            match exponent {
                255 => assert!(!got.is_finite(), "{what}: {got} at {i}"),
                // sums beyond the largest float, or beyond half of it: codes are doubled on the way
                252.. if size == 1.0 => {}
                0 => assert!(off <= exact.abs() + 1e-36, "{what}: {got} is not {exact} at {i}"),
                _ => assert!(off <= close + 1e-36, "{what}: {got} is not {exact} at {i}"),
            }
        });
    }
}

/// An activation that is no finite number makes all results of its row such, and no others different.
#[test]
fn infinities_spoil_their_row_and_no_other() {
    for format in PACKED {
        let raw = random_matrix(format, ROWS, COLUMNS, &mut Random(20));
        for (at, bad) in
            [(0, f32::INFINITY), (100, f32::NEG_INFINITY), (COLUMNS - 1, f32::NAN), (300, -f32::NAN)]
        {
            for m in [3, 9, 20] {
                let mut x = vec![1.5; m * COLUMNS];
                for kernels in tables() {
                    let cpu = Cpu::with(1, kernels);
                    let matrix = Matrix::pack(format, ROWS, COLUMNS, &raw, &cpu).unwrap();
                    x[COLUMNS + at] = 1.5;
                    let (good, _) = product(&cpu, &matrix, &x, m);
                    x[COLUMNS + at] = bad;
                    let (got, _) = product(&cpu, &matrix, &x, m);
                    let what = format!("{format} {} {bad} among {m}", kernels.isa().name());
                    for (i, (got, good)) in got.iter().zip(&good).enumerate() {
                        let fine =
                            if i / ROWS == 1 { !got.is_finite() } else { got.to_bits() == good.to_bits() };
                        assert!(fine, "{what}: {got} instead of {good} at {i}");
                    }
                    if !Needs::of(format).floats {
                        assert!(got[ROWS..2 * ROWS].iter().all(|x| x.is_nan()), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn scales_that_are_no_numbers_spoil_their_row_and_no_other() {
    for format in PACKED.into_iter().filter(|&format| !half_scales(format).is_empty()) {
        let x = random_input(9, COLUMNS, &mut Random(21));
        for bad in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
            let blocks = COLUMNS / format.block_len();
            let scale =
                |bad| move |block| if block == 5 * blocks + blocks / 2 { bad } else { f16::from_f32(0.01) };
            let good = with_scales(format, &mut Random(22), scale(f16::ONE));
            let raw = with_scales(format, &mut Random(22), scale(bad));
            for kernels in tables() {
                let cpu = Cpu::with(1, kernels);
                let results = |raw: &[u8]| {
                    let matrix = Matrix::pack(format, ROWS, COLUMNS, raw, &cpu).unwrap();
                    product(&cpu, &matrix, &x, 9).0
                };
                let what = format!("{format} {} {bad}", kernels.isa().name());
                for (i, (got, good)) in results(&raw).iter().zip(results(&good)).enumerate() {
                    let fine = if i % ROWS == 5 { !got.is_finite() } else { got.to_bits() == good.to_bits() };
                    assert!(fine, "{what}: {got} instead of {good} at {i}");
                }
            }
        }
    }
}
