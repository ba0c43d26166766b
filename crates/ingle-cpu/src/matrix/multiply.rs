//! Products of matrices with one input, in one parallel region.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use super::{Activations, Matrix};
use crate::Cpu;
use crate::kernels::{BATCH, GROUP, GroupKernel, Tile};
use crate::pool::Shares;

/// Least bytes of weights a thread takes at once: shorter runs lose what the prefetcher has fetched ahead.
const LEAST_BYTES: usize = 64 * 1024;
/// Bytes of activations that stay in a core's second-level cache beside the weights of a group.
const INPUT_BYTES: usize = 256 * 1024;

/// One of the products of a [`multiply`].
pub struct Product<'a> {
    matrix: &'a Matrix,
    out: Shares<'a, f32>,
}

impl<'a> Product<'a> {
    /// The product of the input with `matrix`, written to `out`, `[input rows][matrix rows]`.
    pub fn new(matrix: &'a Matrix, out: &'a mut [f32]) -> Product<'a> {
        Product { matrix, out: Shares::new(out) }
    }
}

/// Fills a tile: of the weights of a group and so many input rows from the given one on.
type Run<'a> = &'a dyn Fn(&[u8], usize, usize, &mut Tile);

thread_local! {
    /// A decoded row of a generic matrix.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes all products: `out[m][r] = sum over k of input[m][k] * matrix[r][k]`.
///
/// Matrices of block formats meet the input rounded to 8-bit integers, sums within a block are exact; matrices of
/// plain floats and generic ones meet it as it is.
///
/// # Panics
/// If a shape does not fit or the input was prepared without a form that a matrix [needs](Matrix::needs).
pub fn multiply(cpu: &Cpu, input: &Activations, products: &mut [Product<'_>]) {
    let (mut groups, mut bytes) = (0, 0);
    for product in products.iter() {
        let matrix = product.matrix;
        assert!(
            matrix.columns == input.columns(),
            "{} columns cannot meet {} activations",
            matrix.columns,
            input.columns()
        );
        assert!(product.out.len() == input.rows() * matrix.rows, "the output has another shape");
        groups += matrix.rows.div_ceil(GROUP);
        bytes += matrix.bytes();
    }
    if groups == 0 || input.rows() == 0 {
        return;
    }
    // With many input rows a group is more work, and claims may be shorter.
    let least = LEAST_BYTES * groups / (bytes.max(1) * input.rows().div_ceil(BATCH));
    let products = &*products;
    cpu.pool.for_shares(groups, least, &|_, range| {
        let mut first = 0;
        for product in products {
            let end = first + product.matrix.rows.div_ceil(GROUP);
            let (from, to) = (range.start.clamp(first, end), range.end.clamp(first, end));
            if from < to {
                multiply_groups(cpu, input, product, from - first..to - first);
            }
            first = end;
        }
    });
}

/// The products of some groups of 16 rows of one matrix with all input rows.
fn multiply_groups(cpu: &Cpu, input: &Activations, product: &Product<'_>, groups: Range<usize>) {
    let matrix = product.matrix;
    let kernels = cpu.kernels;
    let each = |input_row_bytes: usize, run: Run<'_>| {
        for_tiles(matrix, &product.out, input.rows(), input_row_bytes, groups.clone(), run);
    };
    match kernels.group(matrix.format) {
        Some(GroupKernel::Superblock(kernel)) => {
            let rows = input.blocks_of_256();
            each(matrix.columns, &|weights, first, count, tile| {
                kernels.run_superblock(kernel, weights, rows.slice(first, count), tile);
            });
        }
        Some(GroupKernel::Block(kernel)) => {
            let rows = input.blocks_of_32();
            each(matrix.columns, &|weights, first, count, tile| {
                kernels.run_block(kernel, weights, rows.slice(first, count), tile);
            });
        }
        Some(GroupKernel::Float(kernel)) => {
            let rows = input.floats();
            each(4 * matrix.columns, &|weights, first, count, tile| {
                kernels.run_float(kernel, weights, rows.slice(first, count), tile);
            });
        }
        None => multiply_generic(cpu, input, product, groups),
    }
}

/// Runs a kernel over groups and input rows, so that the input rows stay in cache from group to group and the weights
/// of a group from one batch of input rows to the next.
fn for_tiles(
    matrix: &Matrix,
    out: &Shares<'_, f32>,
    rows: usize,
    row_bytes: usize,
    groups: Range<usize>,
    run: Run<'_>,
) {
    let at_once = (INPUT_BYTES / row_bytes.max(1)).next_multiple_of(BATCH).max(BATCH);
    let mut tile: Tile = [[0.0; GROUP]; BATCH];
    for first_row in (0..rows).step_by(at_once) {
        let last_row = rows.min(first_row + at_once);
        for group in groups.clone() {
            let weights = matrix.group(group);
            let columns = group * GROUP..matrix.rows.min((group + 1) * GROUP);
            for first in (first_row..last_row).step_by(BATCH) {
                let count = BATCH.min(last_row - first);
                run(weights, first, count, &mut tile);
                for (m, results) in tile[..count].iter().enumerate() {
                    let start = (first + m) * matrix.rows;
                    // SAFETY: no other thread has this group of this matrix, and ranges of other groups do not
                    // overlap this one.
                    let out = unsafe { out.range(start + columns.start..start + columns.end) };
                    out.copy_from_slice(&results[..columns.len()]);
                }
            }
        }
    }
}

/// Decodes row after row and multiplies it as floats.
fn multiply_generic(cpu: &Cpu, input: &Activations, product: &Product<'_>, groups: Range<usize>) {
    let matrix = product.matrix;
    let rows = input.floats();
    let row_bytes = matrix.group_bytes / GROUP;
    ROW.with_borrow_mut(|row| {
        row.resize(matrix.columns, 0.0);
        for group in groups {
            for (r, raw) in matrix.group(group).chunks_exact(row_bytes).enumerate() {
                ingle_model::format::dequantise(matrix.format, raw, row)
                    .expect("the matrix was made of whole rows of its format");
                for (m, x) in rows.values.chunks_exact(rows.columns).enumerate() {
                    let at = m * matrix.rows + group * GROUP + r;
                    // SAFETY: no other thread has this row of this matrix.
                    let out = unsafe { product.out.range(at..at + 1) };
                    out[0] = cpu.kernels.dot(row, x);
                }
            }
        }
    });
}
