//! Products of matrices with one input, in one parallel region.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use super::gemm::multiply_tiles;
use super::panels::Interleaved;
use super::{Activations, Matrix, Needs, Stack, View};
use crate::Cpu;
use ingle_model::Format;

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

/// One of the products of a [`multiply_stacks`].
pub struct StackProduct<'a> {
    stack: &'a Stack,
    out: Shares<'a, f32>,
}

impl<'a> StackProduct<'a> {
    /// The products of input rows with matrices of `stack`, written to `out`, `[input rows][matrix rows]`.
    pub fn new(stack: &'a Stack, out: &'a mut [f32]) -> StackProduct<'a> {
        StackProduct { stack, out: Shares::new(out) }
    }
}

/// Input rows that meet one matrix of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Index of the matrix.
    pub matrix: usize,
    /// The rows, of which no other bucket of the same [`multiply_stacks`] has any.
    pub rows: Range<usize>,
}

thread_local! {
    /// A decoded row of a generic matrix.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Input rows in panels, of the thread that asks for products.
    static PANELS: RefCell<Interleaved> = RefCell::default();
}

/// Where products take the input rows from.
#[derive(Clone, Copy)]
struct Input<'a> {
    rows: &'a Activations,
    /// Those of ranges that are long enough for the tile kernel of a format, in the forms that they need.
    panels: &'a Interleaved,
}

/// Calls `run` with the input rows, those of long ranges also in panels, as the formats need them.
fn with_panels(
    cpu: &Cpu,
    rows: &Activations,
    ranges: impl Iterator<Item = Range<usize>>,
    formats: impl Iterator<Item = Format>,
    run: impl FnOnce(Input<'_>),
) {
    let (mut needs, mut least) = (Needs::default(), usize::MAX);
    for format in formats {
        if let Some(kernel) = cpu.kernels.tile(format) {
            needs |= Needs::of(format);
            least = least.min(kernel.least);
        }
    }
    let mut ranges = ranges.filter(|range| range.len() >= least).peekable();
    PANELS.with_borrow_mut(|panels| {
        if ranges.peek().is_some() {
            panels.fill(cpu, rows, ranges, needs);
        }
        run(Input { rows, panels });
    });
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
        check(input, matrix.columns(), matrix.rows(), &product.out);
        groups += matrix.layout.groups();
        bytes += matrix.bytes();
    }
    if groups == 0 || input.rows() == 0 {
        return;
    }
    // With many input rows a group is more work, and claims may be shorter.
    let least = LEAST_BYTES * groups / (bytes.max(1) * input.rows().div_ceil(BATCH));
    let products = &*products;
    let formats = products.iter().map(|product| product.matrix.format());
    with_panels(cpu, input, std::iter::once(0..input.rows()), formats, |input| {
        multiply_shared(cpu, input, products, groups, least);
    });
}

/// All products, whose `groups` groups are claimed at least `least` at a time.
fn multiply_shared(cpu: &Cpu, input: Input<'_>, products: &[Product<'_>], groups: usize, least: usize) {
    cpu.pool.for_shares(groups, least, &|_, range| {
        let mut first = 0;
        for product in products {
            let end = first + product.matrix.layout.groups();
            let (from, to) = (range.start.clamp(first, end), range.end.clamp(first, end));
            if from < to {
                let rows = 0..input.rows.rows();
                multiply_groups(
                    cpu,
                    input,
                    rows,
                    product.matrix.view(),
                    from - first..to - first,
                    &product.out,
                );
            }
            first = end;
        }
    });
}

/// Computes, for every bucket and product, `out[m][r] = sum over k of input[m][k] * matrix[r][k]` with the bucket's
/// matrix of the product's stack, for the bucket's rows `m`. Rows in no bucket are left as they are. Otherwise as
/// [`multiply`].
///
/// # Panics
/// If a shape does not fit, a bucket's matrix or rows do not exist, buckets overlap, or the input was prepared without a
/// form that a stack [needs](Stack::needs).
pub fn multiply_stacks(
    cpu: &Cpu,
    input: &Activations,
    buckets: &[Bucket],
    products: &mut [StackProduct<'_>],
) {
    let mut end = 0;
    for bucket in buckets {
        let Range { start, end: next } = bucket.rows;
        assert!(end <= start && start <= next, "{bucket:?} overlaps the one before it or is out of order");
        end = next;
    }
    assert!(end <= input.rows(), "buckets reach to row {end} of {}", input.rows());
    let (mut work, mut group_bytes) = (0, 0);
    let all_passes: usize = buckets.iter().map(passes).sum();
    for product in products.iter() {
        let stack = product.stack;
        check(input, stack.columns(), stack.rows(), &product.out);
        work += stack.layout().groups() * all_passes;
        group_bytes = stack.layout().group_bytes.max(group_bytes);
    }
    if work == 0 {
        return;
    }
    // Work is counted in passes over a group, so that a claim is the same time whichever experts are in demand. A group
    // belongs to the claim that has its first pass.
    let least = LEAST_BYTES.div_ceil(group_bytes.max(1));
    let products = &*products;
    let formats = products.iter().map(|product| product.stack.layout().format);
    let ranges = buckets.iter().map(|bucket| bucket.rows.clone());
    with_panels(cpu, input, ranges, formats, |input| {
        multiply_stacks_shared(cpu, input, buckets, products, work, least);
    });
}

/// All products of all buckets, `work` passes in all, of which at least `least` are claimed at a time.
fn multiply_stacks_shared(
    cpu: &Cpu,
    input: Input<'_>,
    buckets: &[Bucket],
    products: &[StackProduct<'_>],
    work: usize,
    least: usize,
) {
    cpu.pool.for_shares(work, least, &|_, range| {
        let mut first = 0;
        for product in products {
            let groups = product.stack.layout().groups();
            for bucket in buckets {
                let passes = passes(bucket);
                let end = first + groups * passes;
                let (from, to) = (range.start.clamp(first, end), range.end.clamp(first, end));
                if from < to {
                    let own = (from - first).div_ceil(passes)..(to - first).div_ceil(passes);
                    let view = product.stack.view(bucket.matrix);
                    multiply_groups(cpu, input, bucket.rows.clone(), view, own, &product.out);
                }
                first = end;
            }
        }
    });
}

/// How many times a kernel runs over each group for a bucket.
fn passes(bucket: &Bucket) -> usize {
    bucket.rows.len().div_ceil(BATCH)
}

fn check(input: &Activations, columns: usize, rows: usize, out: &Shares<'_, f32>) {
    assert!(columns == input.columns(), "{columns} columns cannot meet {} activations", input.columns());
    assert!(out.len() == input.rows() * rows, "the output has another shape");
}

/// The products of some groups of 16 rows of one matrix with some input rows.
fn multiply_groups(
    cpu: &Cpu,
    input: Input<'_>,
    input_rows: Range<usize>,
    matrix: View<'_>,
    groups: Range<usize>,
    out: &Shares<'_, f32>,
) {
    let (kernels, columns) = (cpu.kernels, matrix.layout.columns);
    if let Some(kernel) = kernels.tile(matrix.layout.format)
        && input_rows.len() >= kernel.least
    {
        return multiply_tiles(cpu, kernel, input.panels, &input_rows, matrix, groups, out);
    }
    let input = input.rows;
    match kernels.group(matrix.layout.format) {
        Some(GroupKernel::Superblock(kernel)) => {
            let rows = input.blocks_of_256();
            let slice = |first, count| rows.slice(first, count);
            for_tiles(matrix, out, input_rows, columns, groups, slice, |weights, rows, tile| {
                kernels.run_superblock(kernel, weights, rows, tile);
            });
        }
        Some(GroupKernel::Block(kernel)) => {
            let rows = input.blocks_of_32();
            let slice = |first, count| rows.slice(first, count);
            for_tiles(matrix, out, input_rows, columns, groups, slice, |weights, rows, tile| {
                kernels.run_block(kernel, weights, rows, tile);
            });
        }
        Some(GroupKernel::Float(kernel)) => {
            let rows = input.floats();
            let slice = |first, count| rows.slice(first, count);
            for_tiles(matrix, out, input_rows, 4 * columns, groups, slice, |weights, rows, tile| {
                kernels.run_float(kernel, weights, rows, tile);
            });
        }
        None => multiply_generic(cpu, input, input_rows, matrix, groups, out),
    }
}

/// Runs a kernel over groups and input rows, so that the input rows stay in cache from group to group and the weights
/// of a group from one batch of input rows to the next. `slice` gives so many input rows from the given one on, `run`
/// fills a tile with the products of a group's weights and such rows.
fn for_tiles<R: Copy>(
    matrix: View<'_>,
    out: &Shares<'_, f32>,
    input_rows: Range<usize>,
    row_bytes: usize,
    groups: Range<usize>,
    slice: impl Fn(usize, usize) -> R,
    run: impl Fn(&[u8], R, &mut Tile),
) {
    let rows = matrix.layout.rows;
    let at_once = (INPUT_BYTES / row_bytes.max(1)).next_multiple_of(BATCH).max(BATCH);
    let mut tile: Tile = [[0.0; GROUP]; BATCH];
    for first_row in input_rows.clone().step_by(at_once) {
        let last_row = input_rows.end.min(first_row + at_once);
        for group in groups.clone() {
            let weights = matrix.group(group);
            let columns = group * GROUP..rows.min((group + 1) * GROUP);
            for first in (first_row..last_row).step_by(BATCH) {
                let count = BATCH.min(last_row - first);
                run(weights, slice(first, count), &mut tile);
                for (m, results) in tile[..count].iter().enumerate() {
                    let start = (first + m) * rows;
                    // SAFETY: no other thread has this group of this matrix for these input rows, and ranges of other
                    // groups and rows do not overlap this one.
                    let out = unsafe { out.range(start + columns.start..start + columns.end) };
                    match out.first_chunk_mut::<GROUP>() {
                        // of a known size: a move, no call
                        Some(whole) => *whole = *results,
                        None => out.copy_from_slice(&results[..columns.len()]),
                    }
                }
            }
        }
    }
}

/// Decodes row after row and multiplies it as floats.
fn multiply_generic(
    cpu: &Cpu,
    input: &Activations,
    input_rows: Range<usize>,
    matrix: View<'_>,
    groups: Range<usize>,
    out: &Shares<'_, f32>,
) {
    let layout = matrix.layout;
    let input = input.floats();
    ROW.with_borrow_mut(|row| {
        row.resize(layout.columns, 0.0);
        for group in groups {
            for (r, raw) in matrix.group(group).chunks_exact(layout.row_bytes).enumerate() {
                ingle_model::format::dequantise(layout.format, raw, row)
                    .expect("the matrix was made of whole rows of its format");
                for m in input_rows.clone() {
                    let at = m * layout.rows + group * GROUP + r;
                    // SAFETY: no other thread has this row of this matrix for this input row.
                    let out = unsafe { out.range(at..at + 1) };
                    out[0] = cpu.kernels.dot(row, input.slice(m, 1).values);
                }
            }
        }
    });
}
