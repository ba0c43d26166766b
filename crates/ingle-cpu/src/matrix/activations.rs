//! The input of matrix products, in every form that the matrices it meets ask for.
#![allow(unsafe_code)]

use std::ops::{BitOr, BitOrAssign};

use ingle_model::Format;

use crate::Cpu;
use crate::kernels::{FloatRows, GroupKernel, Int8Rows, Kernels};
use crate::pool::Shares;

/// Numbers below which starting the other threads costs more than it saves.
const WORTH_SHARING: usize = 16 * 1024;

/// The forms of the activations that products need; `a | b` is what both need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// As they are.
    pub floats: bool,
    /// As 8-bit integers with a scale per 256 columns.
    pub blocks_of_256: bool,
    /// As 8-bit integers with a scale per 32 columns.
    pub blocks_of_32: bool,
}

impl Needs {
    /// What matrices of that format need.
    pub fn of(format: Format) -> Needs {
        match Kernels::best().group(format) {
            Some(GroupKernel::Superblock(_)) => Needs { blocks_of_256: true, ..Needs::default() },
            Some(GroupKernel::Block(_)) => Needs { blocks_of_32: true, ..Needs::default() },
            Some(GroupKernel::Float(_)) | None => Needs { floats: true, ..Needs::default() },
        }
    }
}

impl BitOr for Needs {
    type Output = Needs;

    fn bitor(self, other: Needs) -> Needs {
        Needs {
            floats: self.floats || other.floats,
            blocks_of_256: self.blocks_of_256 || other.blocks_of_256,
            blocks_of_32: self.blocks_of_32 || other.blocks_of_32,
        }
    }
}

impl BitOrAssign for Needs {
    fn bitor_assign(&mut self, other: Needs) {
        *self = *self | other;
    }
}

/// Integers with a scale per block.
#[derive(Debug, Default)]
struct Int8 {
    values: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    pairs: Vec<i32>,
}

/// Scales, sums and pairs that so many numbers in blocks have (see [`Int8Rows`]).
fn per_block(numbers: usize, block: usize) -> [usize; 3] {
    match block {
        256 => [numbers / 256, numbers / 16, numbers / 64],
        _ => [numbers / block, numbers / block, 0],
    }
}

impl Int8 {
    fn resize(&mut self, numbers: usize, block: usize) {
        let [scales, sums, pairs] = per_block(numbers, block);
        self.values.resize(numbers, 0);
        self.scales.resize(scales, 0.0);
        self.sums.resize(sums, 0);
        self.pairs.resize(pairs, 0);
    }
}

/// Rows of activations, prepared for products. Reuse one: it allocates only while it grows.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    columns: usize,
    has: Needs,
    floats: Vec<f32>,
    int8_256: Int8,
    int8_32: Int8,
}

impl Activations {
    /// An empty buffer.
    pub fn new() -> Activations {
        Activations::default()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Takes `x`, `[rows][columns]`, in the forms that `needs` names.
    ///
    /// # Panics
    /// If `x` is not of that shape, or the columns are not whole blocks of a form that is needed. (Matrices that need
    /// a form have such columns.)
    pub fn prepare(&mut self, cpu: &Cpu, x: &[f32], rows: usize, columns: usize, needs: Needs) {
        assert!(x.len() == rows * columns, "{} activations are not {rows} x {columns}", x.len());
        assert!(
            !needs.blocks_of_256 || columns.is_multiple_of(256),
            "{columns} columns are not blocks of 256"
        );
        assert!(!needs.blocks_of_32 || columns.is_multiple_of(32), "{columns} columns are not blocks of 32");
        (self.rows, self.columns, self.has) = (rows, columns, needs);
        if needs.floats {
            self.floats.resize(x.len(), 0.0);
        }
        if needs.blocks_of_256 {
            self.int8_256.resize(x.len(), 256);
        }
        if needs.blocks_of_32 {
            self.int8_32.resize(x.len(), 32);
        }
        if x.is_empty() {
            return;
        }
        // Shared by rows if there are many, else by blocks. Parts are whole blocks either way.
        let part = match x.len() {
            len if len < WORTH_SHARING => len,
            _ if rows >= 4 * cpu.pool.threads() => columns,
            _ if columns.is_multiple_of(256) => 4096,
            _ => columns,
        };
        let floats = Shares::new(&mut self.floats);
        let (q256, q32) = (Parts::new(&mut self.int8_256), Parts::new(&mut self.int8_32));
        cpu.pool.for_chunks(x.len(), part, &|_, range| {
            let (x, start, end) = (&x[range.clone()], range.start, range.end);
            if needs.floats {
                // SAFETY: ranges of one region do not overlap.
                unsafe { floats.range(range) }.copy_from_slice(x);
            }
            if needs.blocks_of_256 {
                // SAFETY: as above; parts are whole blocks, so the scaled ranges do not overlap either.
                let (values, scales, sums, pairs) = unsafe {
                    (
                        q256.values.range(start..end),
                        q256.scales.range(start / 256..end / 256),
                        q256.sums.range(start / 16..end / 16),
                        q256.pairs.range(start / 64..end / 64),
                    )
                };
                cpu.kernels.quantise_256(x, values, scales, sums, pairs);
            }
            if needs.blocks_of_32 {
                // SAFETY: as above.
                let (values, scales, sums) = unsafe {
                    (
                        q32.values.range(start..end),
                        q32.scales.range(start / 32..end / 32),
                        q32.sums.range(start / 32..end / 32),
                    )
                };
                cpu.kernels.quantise_32(x, values, scales, sums);
            }
        });
    }

    /// Takes copies of `rows` of `from`, in this order, in the forms that `needs` names: what was rounded once is not
    /// rounded again for every expert that it goes to.
    ///
    /// # Panics
    /// If `from` lacks a row or a form.
    pub fn gather(&mut self, cpu: &Cpu, from: &Activations, rows: &[usize], needs: Needs) {
        let columns = from.columns;
        assert!(needs | from.has == from.has, "the activations lack {needs:?}");
        assert!(rows.iter().all(|&row| row < from.rows), "the activations have {} rows", from.rows);
        (self.rows, self.columns, self.has) = (rows.len(), columns, needs);
        let numbers = rows.len() * columns;
        if needs.floats {
            self.floats.resize(numbers, 0.0);
        }
        if needs.blocks_of_256 {
            self.int8_256.resize(numbers, 256);
        }
        if needs.blocks_of_32 {
            self.int8_32.resize(numbers, 32);
        }
        let floats = Shares::new(&mut self.floats);
        let (q256, q32) = (Parts::new(&mut self.int8_256), Parts::new(&mut self.int8_32));
        let chunk = (WORTH_SHARING / columns.max(1)).max(1);
        cpu.pool.for_chunks(rows.len(), 4 * chunk, &|_, range| {
            for (row, &source) in range.clone().zip(&rows[range]) {
                // SAFETY: in all of these, rows are taken once.
                unsafe {
                    if needs.floats {
                        copy_row(&floats, &from.floats, columns, row, source);
                    }
                    if needs.blocks_of_256 {
                        q256.copy_row(&from.int8_256, columns, 256, row, source);
                    }
                    if needs.blocks_of_32 {
                        q32.copy_row(&from.int8_32, columns, 32, row, source);
                    }
                }
            }
        });
    }

    /// The rows as floats.
    pub(super) fn floats(&self) -> FloatRows<'_> {
        assert!(self.has.floats, "the activations were prepared without floats");
        FloatRows { columns: self.columns, values: &self.floats }
    }

    /// The rows in blocks of 256.
    pub(super) fn blocks_of_256(&self) -> Int8Rows<'_, 256> {
        assert!(self.has.blocks_of_256, "the activations were prepared without blocks of 256");
        rows_of(&self.int8_256, self.columns)
    }

    /// The rows in blocks of 32.
    pub(super) fn blocks_of_32(&self) -> Int8Rows<'_, 32> {
        assert!(self.has.blocks_of_32, "the activations were prepared without blocks of 32");
        rows_of(&self.int8_32, self.columns)
    }
}

fn rows_of<const BLOCK: usize>(int8: &Int8, columns: usize) -> Int8Rows<'_, BLOCK> {
    let Int8 { values, scales, sums, pairs } = int8;
    Int8Rows { columns, values, scales, sums, pairs }
}

struct Parts<'a> {
    values: Shares<'a, i8>,
    scales: Shares<'a, f32>,
    sums: Shares<'a, i32>,
    pairs: Shares<'a, i32>,
}

impl<'a> Parts<'a> {
    fn new(int8: &'a mut Int8) -> Parts<'a> {
        Parts {
            values: Shares::new(&mut int8.values),
            scales: Shares::new(&mut int8.scales),
            sums: Shares::new(&mut int8.sums),
            pairs: Shares::new(&mut int8.pairs),
        }
    }

    /// Copies row `source` of `from` to row `row`.
    ///
    /// # Safety
    /// Nothing else uses that row.
    unsafe fn copy_row(&self, from: &Int8, columns: usize, block: usize, row: usize, source: usize) {
        let [scales, sums, pairs] = per_block(columns, block);
        // SAFETY: the caller's promise.
        unsafe {
            copy_row(&self.values, &from.values, columns, row, source);
            copy_row(&self.scales, &from.scales, scales, row, source);
            copy_row(&self.sums, &from.sums, sums, row, source);
            copy_row(&self.pairs, &from.pairs, pairs, row, source);
        }
    }
}

/// Copies row `source` of `from` to row `row` of `to`, both `width` wide.
///
/// # Safety
/// Nothing else uses that row of `to`.
unsafe fn copy_row<T: Copy>(to: &Shares<'_, T>, from: &[T], width: usize, row: usize, source: usize) {
    // SAFETY: the caller's promise.
    let to = unsafe { to.range(row * width..(row + 1) * width) };
    to.copy_from_slice(&from[source * width..(source + 1) * width]);
}
