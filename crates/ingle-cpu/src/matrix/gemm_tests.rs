//! Tiles and panels against the kernels for few rows, which other tests hold against arithmetic in 64 bits: bit by bit, because
//! what becomes of a token must not depend on how many come with it.

use ingle_model::Format;

use super::gemm::multiply_tiles;
use super::panels::Interleaved;
use super::tests::{PACKED, Random, product, random_input, random_matrix, tables};
use super::*;
use crate::pool::Shares;

/// Products of some ranges of `x`, all others left as they were, by tile kernels however few the rows are.
fn by_tiles(cpu: &Cpu, matrix: &Matrix, x: &[f32], ranges: &[std::ops::Range<usize>]) -> Option<Vec<f32>> {
    let kernel = cpu.kernels.tile(matrix.format())?;
    let m = x.len() / matrix.columns();
    let mut input = Activations::new();
    input.prepare(cpu, x, m, matrix.columns(), matrix.needs());
    let mut panels = Interleaved::default();
    panels.fill(cpu, &input, ranges.iter().cloned(), matrix.needs());
    let mut out = vec![7.0; m * matrix.rows()];
    let shares = Shares::new(&mut out);
    let groups = matrix.layout.groups();
    for range in ranges {
        // in two claims, the second of which begins between two groups that could go together
        for groups in [0..groups.min(3), groups.min(3)..groups] {
            multiply_tiles(cpu, kernel, &panels, range, matrix.view(), groups, &shares);
        }
    }
    Some(out)
}

fn same(format: Format, m: usize, rows: usize, columns: usize) {
    let mut random = Random(0x5eed + (m * rows * columns) as u64);
    let raw = random_matrix(format, rows, columns, &mut random);
    let x = random_input(m, columns, &mut random);
    for kernels in tables() {
        let cpu = Cpu::with(2, kernels);
        let matrix = Matrix::pack(format, rows, columns, &raw, &cpu).unwrap();
        let Some(got) = by_tiles(&cpu, &matrix, &x, std::slice::from_ref(&(0..m))) else { continue };
        for row in 0..m {
            let (alone, _) = product(&cpu, &matrix, &x[row * columns..][..columns], 1);
            let what = format!("{format} row {row} of {m}, {rows} x {columns}, {}", kernels.isa().name());
            assert!(got[row * rows..][..rows] == alone, "{what}");
        }
    }
}

fn of_integers() -> impl Iterator<Item = Format> {
    PACKED.into_iter().filter(|format| format.block_len() > 1)
}

#[test]
fn any_number_of_rows_in_a_panel() {
    for format in of_integers() {
        for m in [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 23, 65] {
            same(format, m, 33, if format.block_len() == 256 { 256 } else { 96 });
        }
    }
}

#[test]
fn any_number_of_groups() {
    for format in of_integers() {
        for rows in [1, 15, 16, 17, 31, 48, 80, 129] {
            for m in [9, 66] {
                same(format, m, rows, if format.block_len() == 256 { 512 } else { 288 });
            }
        }
    }
}

#[test]
fn any_number_of_columns() {
    for format in of_integers() {
        let widths: &[usize] =
            if format.block_len() == 256 { &[256, 768, 1280] } else { &[32, 64, 96, 256, 544, 2880] };
        for &columns in widths {
            for m in [5, 70] {
                same(format, m, 17, columns);
            }
        }
    }
}

/// Panels of several ranges lie beside each other, and rows in no range stay as they are.
#[test]
fn ranges_do_not_meet() {
    let (rows, columns, m) = (40, 512, 60);
    for format in of_integers() {
        let mut random = Random(99);
        let raw = random_matrix(format, rows, columns, &mut random);
        let x = random_input(m, columns, &mut random);
        for kernels in tables() {
            let cpu = Cpu::with(3, kernels);
            let matrix = Matrix::pack(format, rows, columns, &raw, &cpu).unwrap();
            let ranges = [0..1, 1..14, 20..28, 30..53, 53..59];
            let Some(got) = by_tiles(&cpu, &matrix, &x, &ranges) else { continue };
            let (wanted, _) = product(&cpu, &matrix, &x, m);
            for row in 0..m {
                let place = row * rows..(row + 1) * rows;
                let there = ranges.iter().any(|range| range.contains(&row));
                let same = if there { got[place.clone()] == wanted[place] } else { got[place] == [7.0; 40] };
                assert!(same, "{format} row {row}, {}", kernels.isa().name());
            }
        }
    }
}
