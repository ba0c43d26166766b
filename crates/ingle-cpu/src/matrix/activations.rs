//! The input of matrix products, in every form that the matrices it meets ask for.
#![allow(unsafe_code)]

use std::ops::{BitOr, BitOrAssign, Range};

use ingle_model::Format;

use crate::Cpu;
use crate::kernels::{FloatRows, GroupKernel, Int8Rows, Kernels};
use crate::pool::Shares;

/// Numbers below which starting the other threads costs more than it saves.
const WORTH_SHARING: usize = 16 * 1024;
/// The same where the numbers are made first.
const WORTH_MAKING: usize = 8 * 1024;
/// Numbers made at a time: whole blocks of every form, and few enough to stay in the nearest cache until they are
/// rounded.
const PIECE: usize = 1024;

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
        let forms = self.resize(rows, columns, needs);
        // Shared by rows if there are many, else by blocks. Parts are whole blocks either way.
        let part = match x.len() {
            len if len < WORTH_SHARING => len,
            _ if rows >= 4 * cpu.pool.threads() => columns,
            _ if columns.is_multiple_of(256) => 4096,
            _ => columns,
        };
        cpu.pool.for_chunks(x.len(), part, &|_, range| {
            // SAFETY: ranges of one region do not overlap, and parts are whole blocks.
            unsafe { forms.take(cpu, range.start, &x[range]) };
        });
    }

    /// Makes the rows of `x`, `[rows][columns]`, by `make(row, numbers)`, and takes each in the forms that `needs` names
    /// while it is in the cache of the core that made it. One region.
    ///
    /// # Panics
    /// As [`prepare`](Self::prepare).
    pub fn prepare_rows(
        &mut self,
        cpu: &Cpu,
        x: &mut [f32],
        rows: usize,
        columns: usize,
        needs: Needs,
        make: &(impl Fn(usize, &mut [f32]) + Sync),
    ) {
        assert!(x.len() == rows * columns, "{} activations are not {rows} x {columns}", x.len());
        let forms = self.resize(rows, columns, needs);
        let x = Shares::new(x);
        cpu.pool.for_chunks(rows, (WORTH_MAKING / 4 / columns.max(1)).max(1), &|_, range| {
            for row in range {
                let start = row * columns;
                // SAFETY: each row belongs to one task.
                unsafe {
                    let numbers = x.range(start..start + columns);
                    make(row, numbers);
                    forms.take(cpu, start, numbers);
                }
            }
        });
    }

    /// The same where every number is made by itself: `make(row, columns, numbers)` makes some columns of a row, which
    /// are kept in no other form than those that `needs` names.
    ///
    /// # Panics
    /// As [`prepare`](Self::prepare).
    pub fn prepare_numbers(
        &mut self,
        cpu: &Cpu,
        rows: usize,
        columns: usize,
        needs: Needs,
        make: &(impl Fn(usize, Range<usize>, &mut [f32]) + Sync),
    ) {
        let forms = self.resize(rows, columns, needs);
        // a row is made in pieces, all but the last of which are whole blocks of every form
        let pieces = columns.div_ceil(PIECE);
        let worth = rows * columns >= WORTH_MAKING;
        let chunk =
            if worth { (rows * pieces / (8 * cpu.pool.threads())).clamp(1, 4) } else { rows * pieces };
        cpu.pool.for_chunks(rows * pieces, chunk, &|_, range| {
            let mut numbers = [0.0; PIECE];
            for piece in range {
                let (row, first) = (piece / pieces, piece % pieces * PIECE);
                let made = first..columns.min(first + PIECE);
                let numbers = &mut numbers[..made.len()];
                make(row, made, numbers);
                // SAFETY: each piece belongs to one task.
                unsafe { forms.take(cpu, row * columns + first, numbers) };
            }
        });
    }

    /// Makes room for rows in the forms that `needs` names.
    fn resize(&mut self, rows: usize, columns: usize, needs: Needs) -> Forms<'_> {
        assert!(
            !needs.blocks_of_256 || columns.is_multiple_of(256),
            "{columns} columns are not blocks of 256"
        );
        assert!(!needs.blocks_of_32 || columns.is_multiple_of(32), "{columns} columns are not blocks of 32");
        (self.rows, self.columns, self.has) = (rows, columns, needs);
        let numbers = rows * columns;
        if needs.floats {
            self.floats.resize(numbers, 0.0);
        }
        if needs.blocks_of_256 {
            self.int8_256.resize(numbers, 256);
        }
        if needs.blocks_of_32 {
            self.int8_32.resize(numbers, 32);
        }
        Forms {
            needs,
            floats: Shares::new(&mut self.floats),
            q256: Parts::new(&mut self.int8_256),
            q32: Parts::new(&mut self.int8_32),
        }
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
        let Forms { floats, q256, q32, .. } = self.resize(rows.len(), columns, needs);
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

/// The forms of a step's rows, filled by the threads of a region.
struct Forms<'a> {
    needs: Needs,
    floats: Shares<'a, f32>,
    q256: Parts<'a>,
    q32: Parts<'a>,
}

impl Forms<'_> {
    /// Takes the numbers from `start` on, whole blocks.
    ///
    /// # Safety
    /// No other thread takes any of them.
    unsafe fn take(&self, cpu: &Cpu, start: usize, x: &[f32]) {
        let end = start + x.len();
        if self.needs.floats {
            // SAFETY: the caller's promise.
            unsafe { self.floats.range(start..end) }.copy_from_slice(x);
        }
        if self.needs.blocks_of_256 {
            let to = &self.q256;
            // SAFETY: the caller's promise; of whole blocks, the scaled ranges do not overlap either.
            let (values, scales, sums, pairs) = unsafe {
                (
                    to.values.range(start..end),
                    to.scales.range(start / 256..end / 256),
                    to.sums.range(start / 16..end / 16),
                    to.pairs.range(start / 64..end / 64),
                )
            };
            cpu.kernels.quantise_256(x, values, scales, sums, pairs);
        }
        if self.needs.blocks_of_32 {
            let to = &self.q32;
            // SAFETY: as above.
            let (values, scales, sums) = unsafe {
                (
                    to.values.range(start..end),
                    to.scales.range(start / 32..end / 32),
                    to.sums.range(start / 32..end / 32),
                )
            };
            cpu.kernels.quantise_32(x, values, scales, sums);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Needs = Needs { floats: true, blocks_of_256: true, blocks_of_32: true };

    fn same(a: &Activations, b: &Activations) {
        assert_eq!((a.rows, a.columns, a.has), (b.rows, b.columns, b.has));
        let numbers = a.rows * a.columns;
        assert_eq!(a.floats[..numbers], b.floats[..numbers]);
        for (a, b) in [(&a.int8_256, &b.int8_256), (&a.int8_32, &b.int8_32)] {
            assert_eq!(a.values[..numbers], b.values[..numbers]);
            assert_eq!((&a.scales, &a.sums, &a.pairs), (&b.scales, &b.sums, &b.pairs));
        }
    }

    /// Numbers that are made on the way are taken as those that were there, whatever their shape.
    #[test]
    fn what_is_made_is_taken_as_what_is_given() {
        for threads in [1, 3] {
            let cpu = Cpu::new(threads);
            let (mut given, mut rows_made, mut numbers_made) = Default::default();
            for (rows, columns) in
                [(1, 256), (3, 256), (1, 9728), (2, 1280), (40, 768), (7, 2816), (300, 256), (0, 512)]
            {
                let value = |at: usize| ((at * 7919) % 1000) as f32 / 7.0 - 60.0;
                let x: Vec<f32> = (0..rows * columns).map(value).collect();
                Activations::prepare(&mut given, &cpu, &x, rows, columns, ALL);
                let mut y = vec![0.0; x.len()];
                Activations::prepare_rows(&mut rows_made, &cpu, &mut y, rows, columns, ALL, &|row, out| {
                    out.copy_from_slice(&x[row * columns..][..columns]);
                });
                assert_eq!(x, y);
                same(&given, &rows_made);
                let make = |row: usize, part: Range<usize>, out: &mut [f32]| {
                    out.copy_from_slice(&x[row * columns..][part]);
                };
                Activations::prepare_numbers(&mut numbers_made, &cpu, rows, columns, ALL, &make);
                same(&given, &numbers_made);
            }
        }
    }
}
