//! What rounding activations to 8 bits costs a product, bounded for every packed format over a grid of shapes.
//!
//! A product is the sum over `k` of `w[k] x[k]`. Each activation is rounded to a multiple of its block's scale `s`, so it is off
//! by at most `s / 2`, and the product by at most the sum of `|w[k]| s / 2`: no output may be off by more. Errors of
//! single activations are independent, so the outputs of a whole product together are off by much less.

use ingle_model::Format;

use super::tests::{PACKED, Random, decoded, product, random_input, random_matrix, seen, tables};
use super::*;

/// Half the distance of two activations that kernels of the format can tell apart, for each activation.
fn half_steps(format: Format, input: &Activations, len: usize) -> Vec<f64> {
    let needs = Needs::of(format);
    let scale = |i: usize| match needs {
        Needs { blocks_of_256: true, .. } => input.blocks_of_256().scales[i / 256],
        Needs { blocks_of_32: true, .. } => input.blocks_of_32().scales[i / 32],
        _ => 0.0,
    };
    (0..len).map(|i| 0.5 * f64::from(scale(i))).collect()
}

/// Dot products of a weight row with an input row.
struct Exact {
    /// With the activations as they are.
    full: f64,
    /// With those that the kernels see.
    rounded: f64,
    /// How far the two may be apart.
    apart: f64,
    /// Root of the sum of squares of the terms: the measure of what sums in 32 bits lose.
    norm: f64,
}

fn bounded(format: Format, m: usize, rows: usize, columns: usize, seed: u64) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let raw = random_matrix(format, rows, columns, &mut random);
    let x = random_input(m, columns, &mut random);
    let weights = decoded(format, &raw, rows, columns);
    let mut exact: Vec<Exact> = Vec::new();
    for kernels in tables() {
        let cpu = Cpu::with(2, kernels);
        let matrix = Matrix::pack(format, rows, columns, &raw, &cpu).unwrap();
        let (out, input) = product(&cpu, &matrix, &x, m);
        if exact.is_empty() {
            // the activations are the same for all tables: a test of theirs says so
            let (seen, steps) = (seen(format, &input, &x), half_steps(format, &input, x.len()));
            exact = (0..m * rows)
                .map(|i| {
                    let (row, at) = (&weights[i % rows * columns..][..columns], i / rows * columns);
                    let mut sums = Exact { full: 0.0, rounded: 0.0, apart: 0.0, norm: 0.0 };
                    for (k, &w) in row.iter().enumerate() {
                        let (w, term) = (f64::from(w), f64::from(w) * f64::from(x[at + k]));
                        sums.full += term;
                        sums.rounded += w * seen[at + k];
                        sums.apart += w.abs() * steps[at + k];
                        sums.norm += term * term;
                    }
                    sums.norm = sums.norm.sqrt();
                    sums
                })
                .collect();
        }
        let what = format!("{format} {m} x {rows} x {columns}, seed {seed}, {}", kernels.isa().name());
        let (mut errors, mut all) = (0.0, 0.0);
        for (i, (&got, exact)) in out.iter().zip(&exact).enumerate() {
            let Exact { full, rounded, apart, norm } = *exact;
            let got = f64::from(got);
            let close = 2e-6 * (norm + rounded.abs()) * (columns as f64 / 256.0).sqrt().max(1.0);
            assert!((got - rounded).abs() <= close, "{what}: {got} is not {rounded} (norm {norm}) at {i}");
            assert!((got - full).abs() <= 1.0001 * apart + close, "{what}: {got} is off {full} at {i}");
            errors += (got - full).powi(2);
            all += norm * norm;
        }
        assert!(errors.sqrt() <= 0.01 * all.sqrt(), "{what}: {} of {}", errors.sqrt(), all.sqrt());
    }
}

/// One block and several, of blocks of the format's length.
fn widths(format: Format) -> &'static [usize] {
    match Needs::of(format) {
        Needs { blocks_of_256: true, .. } => &[256, 768, 512],
        Needs { blocks_of_32: true, .. } => &[32, 96, 2880],
        _ => &[1, 33, 768],
    }
}

#[test]
fn all_shapes_around_whole_groups_and_batches() {
    for (seed, format) in (1..).zip(PACKED) {
        let columns = widths(format)[1];
        for m in [1, 2, 3, 4, 5, 8, 9, 12, 23] {
            for rows in [1, 15, 16, 17, 33, 80] {
                bounded(format, m, rows, columns, seed * 1000 + (m * 100 + rows) as u64);
            }
        }
    }
}

#[test]
fn all_widths_and_many_input_rows() {
    for (seed, format) in (1..).zip(PACKED) {
        for &columns in widths(format) {
            for (m, rows) in [(1, 33), (8, 17)] {
                bounded(format, m, rows, columns, seed * 1000 + columns as u64);
            }
        }
        for (m, rows) in [(16, 48), (17, 31), (64, 80), (131, 15)] {
            bounded(format, m, rows, widths(format)[2], seed * 1000 + m as u64);
        }
        bounded(format, 512, 33, widths(format)[0], seed);
        bounded(format, 512, 1, widths(format)[1], seed);
    }
}
