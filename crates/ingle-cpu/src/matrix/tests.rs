//! Every kernel table against the scalar one, against `f64` arithmetic on the decoded weights, and at the extremes.

use half::{bf16, f16};
use ingle_model::Format;
use ingle_model::format::dequantise;

use super::*;
use crate::kernels::{Isa, Kernels};

/// Formats with kernels of their own.
pub(super) const PACKED: [Format; 13] = [
    Format::F32,
    Format::F16,
    Format::BF16,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q5_0,
    Format::IQ4_NL,
    Format::MXFP4,
    Format::Q4_1,
    Format::IQ4_XS,
];

/// xorshift64*
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Between -1 and 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.next() & 0xff_ffff) as f32 / 8_388_608.0 - 1.0
    }
}

/// Where the half-precision scales of a block are.
pub(super) fn half_scales(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q6_K => &[208],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q4_1 | Format::Q5_1 => &[0, 2],
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::IQ4_NL | Format::IQ4_XS | Format::IQ3_S => &[0],
        _ => &[],
    }
}

/// A matrix as a file holds it: random numbers, with scales of usual sizes and some of zero.
pub(super) fn random_matrix(format: Format, rows: usize, columns: usize, random: &mut Random) -> Vec<u8> {
    let numbers = (0..rows * columns).map(|_| random.float()).collect::<Vec<_>>();
    match format {
        Format::F32 => return numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Format::F16 => return numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        Format::BF16 => return numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        _ => {}
    }
    let blocks = rows * columns / format.block_len();
    let mut raw: Vec<u8> = (0..blocks * format.block_bytes()).map(|_| random.next() as u8).collect();
    for block in raw.chunks_exact_mut(format.block_bytes()) {
        for &at in half_scales(format) {
            let scale = if random.next().is_multiple_of(8) { 0.0 } else { 0.01 * random.float() };
            block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        }
        if format == Format::MXFP4 {
            block[0] = 120 + (random.next() % 10) as u8;
        }
    }
    raw
}

/// Activations, with a block of zeros here and there.
pub(super) fn random_input(rows: usize, columns: usize, random: &mut Random) -> Vec<f32> {
    let mut x: Vec<f32> = (0..rows * columns).map(|_| 3.0 * random.float()).collect();
    for block in x.chunks_mut(columns.min(256)).step_by(5) {
        block.fill(0.0);
    }
    x
}

pub(super) fn decoded(format: Format, raw: &[u8], rows: usize, columns: usize) -> Vec<f32> {
    let mut weights = vec![0.0; rows * columns];
    dequantise(format, raw, &mut weights).unwrap();
    weights
}

pub(super) fn tables() -> Vec<&'static Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa).collect()
}

pub(super) fn product(cpu: &Cpu, matrix: &Matrix, x: &[f32], m: usize) -> (Vec<f32>, Activations) {
    let mut input = Activations::new();
    input.prepare(cpu, x, m, matrix.columns(), matrix.needs());
    let mut out = vec![f32::NAN; m * matrix.rows()];
    multiply(cpu, &input, &mut [Product::new(matrix, &mut out)]);
    (out, input)
}

/// The activations that the kernels of a format see.
pub(super) fn seen(format: Format, input: &Activations, x: &[f32]) -> Vec<f64> {
    let needs = Needs::of(format);
    if needs.blocks_of_256 {
        let int8 = input.blocks_of_256();
        return (0..x.len()).map(|i| f64::from(int8.values[i]) * f64::from(int8.scales[i / 256])).collect();
    }
    if needs.blocks_of_32 {
        let int8 = input.blocks_of_32();
        return (0..x.len()).map(|i| f64::from(int8.values[i]) * f64::from(int8.scales[i / 32])).collect();
    }
    x.iter().map(|&x| f64::from(x)).collect()
}

fn check(format: Format, m: usize, rows: usize, columns: usize) {
    let mut random = Random(0x1234_5678_9abc + (m * rows * columns) as u64);
    let raw = random_matrix(format, rows, columns, &mut random);
    let x = random_input(m, columns, &mut random);
    let weights = decoded(format, &raw, rows, columns);
    let mut scalar: Option<Vec<f32>> = None;
    for kernels in tables() {
        let cpu = Cpu::with(2, kernels);
        let matrix = Matrix::pack(format, rows, columns, &raw, &cpu).unwrap();
        let (out, input) = product(&cpu, &matrix, &x, m);
        let seen = seen(format, &input, &x);
        let what = format!("{format} {m} x {rows} x {columns}, {}", kernels.isa().name());
        for (i, &got) in out.iter().enumerate() {
            let (row, input_row) = (i % rows, i / rows);
            let (mut tight, mut loose, mut squares) = (0.0, 0.0, 0.0);
            for k in 0..columns {
                let w = f64::from(weights[row * columns + k]);
                let term = w * seen[input_row * columns + k];
                let exact = w * f64::from(x[input_row * columns + k]);
                tight += term;
                loose += exact;
                squares += exact * exact;
            }
            let norm = squares.sqrt();
            // Rounding errors of sums in `f32` grow with the sums and with the root of their length.
            let close = 2e-6 * (norm + tight.abs()) * (columns as f64 / 256.0).sqrt().max(1.0);
            let got = f64::from(got);
            assert!((got - tight).abs() <= close, "{what}: {got} is not {tight} (norm {norm}) at {i}");
            assert!((got - loose).abs() <= 0.05 * norm, "{what}: {got} is far from {loose} (norm {norm})");
            if let Some(scalar) = &scalar {
                let twin = f64::from(scalar[i]);
                assert!((got - twin).abs() <= close, "{what}: {got} is not the scalar {twin}");
            }
        }
        scalar.get_or_insert(out);
    }
}

#[test]
fn any_number_of_input_rows() {
    for format in PACKED {
        for m in [1, 2, 3, 4, 5, 6, 7, 8, 9, 23, 65] {
            check(format, m, 33, 512);
        }
    }
}

#[test]
fn any_number_of_matrix_rows() {
    for format in PACKED {
        for rows in [1, 15, 16, 17, 48, 100] {
            check(format, 3, rows, 256);
        }
    }
}

#[test]
fn any_number_of_columns() {
    for format in PACKED {
        for columns in [256, 768, 2816] {
            check(format, 1, 17, columns);
            check(format, 9, 17, columns);
        }
        if format.block_len() <= 32 {
            for columns in [32, 64, 96, 160, 288, 2880] {
                check(format, 2, 17, columns);
            }
        }
    }
    for format in [Format::F32, Format::F16, Format::BF16] {
        for columns in [1, 3, 7, 21] {
            check(format, 2, 17, columns);
        }
    }
}

#[test]
fn formats_without_kernels_go_the_generic_way() {
    for format in [Format::Q2_K, Format::Q3_K, Format::Q5_1, Format::IQ3_S, Format::I8] {
        let cpu = Cpu::new(1);
        let raw = random_matrix(format, 17, 256, &mut Random(5));
        assert!(Matrix::pack(format, 17, 256, &raw, &cpu).unwrap().is_generic());
        for (m, rows) in [(1, 17), (9, 1), (4, 16)] {
            check(format, m, rows, 512);
        }
    }
    let cpu = Cpu::new(1);
    let raw = random_matrix(Format::Q4_K, 16, 256, &mut Random(5));
    assert!(!Matrix::pack(Format::Q4_K, 16, 256, &raw, &cpu).unwrap().is_generic());
}

/// Largest weights and activations of all signs, scales of 1: results are integers that floats hold exactly, so any
/// saturation on the way shows.
#[test]
fn sums_within_a_block_are_exact() {
    let (rows, columns) = (16, 256);
    let one = f16::from_f32(1.0).to_le_bytes();
    for format in PACKED.into_iter().filter(|format| format.block_len() > 1) {
        for fill in [0x00, 0xff, 0x80, 0x7f, 0x08, 0x87, 0x78, 0xf0, 0x0f] {
            let mut raw = vec![fill; rows * format.row_bytes(columns).unwrap()];
            for block in raw.chunks_exact_mut(format.block_bytes()) {
                match format {
                    Format::MXFP4 => block[0] = 127,
                    _ => half_scales(format).iter().for_each(|&at| block[at..at + 2].copy_from_slice(&one)),
                }
                if format == Format::Q6_K {
                    // So that the sum stays below 2^24.
                    block[192..208].fill(3);
                }
                if format == Format::IQ4_XS {
                    // all scales 3, stored as 35
                    block[2..4].fill(0xaa);
                    block[4..8].fill(0x33);
                }
                if matches!(format, Format::Q4_K | Format::Q5_K) {
                    block[4..16].fill(3);
                }
            }
            let weights = decoded(format, &raw, rows, columns);
            for pattern in 0..4 {
                let sign = |k: usize| match pattern {
                    0 => 127.0,
                    1 => -127.0,
                    2 => [127.0, -127.0][k % 2],
                    _ => [127.0, 127.0, -127.0, -127.0][k % 4],
                };
                let x: Vec<f32> = (0..columns).map(sign).collect();
                for kernels in tables() {
                    let cpu = Cpu::with(1, kernels);
                    let matrix = Matrix::pack(format, rows, columns, &raw, &cpu).unwrap();
                    let (out, _) = product(&cpu, &matrix, &x, 1);
                    let exact: f64 = (0..columns).map(|k| f64::from(weights[k]) * f64::from(x[k])).sum();
                    let isa = kernels.isa().name();
                    for got in out {
                        assert_eq!(f64::from(got), exact, "{format} {fill:#x} pattern {pattern}, {isa}");
                    }
                }
            }
        }
    }
}

#[test]
fn several_matrices_share_an_input() {
    let mut random = Random(77);
    let columns = 512;
    let shapes =
        [(Format::Q4_K, 40), (Format::Q6_K, 16), (Format::Q8_0, 3), (Format::F32, 20), (Format::Q3_K, 18)];
    for kernels in tables() {
        let cpu = Cpu::with(2, kernels);
        for m in [1, 11] {
            let x = random_input(m, columns, &mut random);
            let matrices: Vec<Matrix> = shapes
                .iter()
                .map(|&(format, rows)| {
                    let raw = random_matrix(format, rows, columns, &mut random);
                    Matrix::pack(format, rows, columns, &raw, &cpu).unwrap()
                })
                .collect();
            let needs = matrices.iter().fold(Needs::default(), |needs, matrix| needs | matrix.needs());
            let mut input = Activations::new();
            input.prepare(&cpu, &x, m, columns, needs);
            let mut outs: Vec<Vec<f32>> =
                matrices.iter().map(|matrix| vec![f32::NAN; m * matrix.rows()]).collect();
            let mut products: Vec<Product<'_>> =
                matrices.iter().zip(&mut outs).map(|(matrix, out)| Product::new(matrix, out)).collect();
            multiply(&cpu, &input, &mut products);
            drop(products);
            for (matrix, out) in matrices.iter().zip(&outs) {
                let (alone, _) = product(&cpu, matrix, &x, m);
                assert_eq!(*out, alone, "{} among others differs from alone", matrix.format());
            }
        }
    }
}

#[test]
fn packing_keeps_the_density_of_the_file() {
    let cpu = Cpu::new(1);
    for format in PACKED {
        let (rows, columns) = (32, 2816);
        let raw = random_matrix(format, rows, columns, &mut Random(9));
        let matrix = Matrix::pack(format, rows, columns, &raw, &cpu).unwrap();
        let ratio = matrix.bytes() as f64 / raw.len() as f64;
        assert!((0.97..=1.03).contains(&ratio), "{format}: {ratio}");
    }
}

#[test]
fn what_is_no_matrix_is_refused() {
    let cpu = Cpu::new(1);
    let pack = |rows, columns, bytes| Matrix::pack(Format::Q4_K, rows, columns, &vec![0; bytes], &cpu);
    assert!(matches!(pack(2, 100, 288), Err(PackError::Columns { .. })));
    assert!(matches!(pack(2, 0, 0), Err(PackError::Columns { .. })));
    assert!(matches!(pack(2, 256, 287), Err(PackError::Bytes { .. })));
    assert!(matches!(pack(usize::MAX, 256, 288), Err(PackError::Bytes { .. })));
    assert_eq!(pack(0, 256, 0).unwrap().bytes(), 0);
}

#[test]
fn no_rows_in_is_no_rows_out() {
    let cpu = Cpu::new(2);
    let raw = random_matrix(Format::Q4_K, 16, 256, &mut Random(3));
    let matrix = Matrix::pack(Format::Q4_K, 16, 256, &raw, &cpu).unwrap();
    assert!(product(&cpu, &matrix, &[], 0).0.is_empty());
    let empty = Matrix::pack(Format::Q4_K, 0, 256, &[], &cpu).unwrap();
    assert!(product(&cpu, &empty, &[1.0; 256], 1).0.is_empty());
}

/// What is not a number must not turn into one.
#[test]
fn not_a_number_stays_visible() {
    for format in PACKED {
        let raw = random_matrix(format, 16, 256, &mut Random(3));
        let mut x = vec![1.0; 256];
        x[100] = f32::NAN;
        for kernels in tables() {
            let cpu = Cpu::with(1, kernels);
            let matrix = Matrix::pack(format, 16, 256, &raw, &cpu).unwrap();
            let (out, _) = product(&cpu, &matrix, &x, 1);
            assert!(out.iter().all(|x| x.is_nan()), "{format} {}: {out:?}", kernels.isa().name());
        }
    }
}
