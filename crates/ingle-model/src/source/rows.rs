//! Rows of a network's tensors, wherever and however a file keeps them: the one place that turns bound tensors into
//! numbers.

use super::{Source, TensorInfo};
use crate::error::{Error, Result};
use crate::format::{Format, dequantise, quantise};
use crate::spec::{Encoding, Piece, TensorSpec};
use std::ops::Range;

/// How far ahead of its use a file is asked for: what a disk of some GB per second reads while a few parts are packed.
const READ_AHEAD: usize = 32 << 20;
/// Weights per block of MXFP4.
const MXFP4_BLOCK: usize = 32;

impl TensorSpec {
    /// The format in which [`Source::raw_rows`] hands out this tensor's rows: the stored one, without loss. Only fp8
    /// weights with block scales have no block format of their own: they come as Q8_0, whose error lies far below
    /// fp8's own rounding, or as F32 where a row is not whole blocks.
    pub fn raw_format(&self) -> Format {
        let of = |piece: &Piece| match piece.encoding {
            Encoding::Plain => piece.stored.format,
            Encoding::SplitMxfp4 { .. } => Format::MXFP4,
            Encoding::BlockScaled { .. } if self.columns().is_multiple_of(32) => Format::Q8_0,
            Encoding::BlockScaled { .. } => Format::F32,
        };
        let mut formats = self.pieces.iter().map(of);
        let first = formats.next().unwrap_or(Format::F32);
        if formats.all(|format| format == first) { first } else { Format::F32 }
    }

    /// Bytes of all its rows in the [raw format](Self::raw_format): what an executor holds that keeps it resident.
    pub fn raw_bytes(&self) -> u64 {
        let row = self.raw_format().row_bytes(self.columns());
        row.map_or_else(|| self.bytes(), |row| row as u64 * self.rows() as u64)
    }

    /// The piece that holds a row, and which row of the stored tensor it is.
    fn locate(&self, row: usize) -> Option<(&Piece, usize)> {
        let mut before = 0;
        for piece in &self.pieces {
            if row < before + piece.rows {
                return Some((piece, piece.first + (row - before) * piece.stride));
            }
            before += piece.rows;
        }
        None
    }
}

impl Source {
    /// Row `row` of a bound tensor as numbers, `[columns]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a row the tensor does not have, or bytes that do not fit.
    pub fn row(&self, tensor: &TensorSpec, row: usize, out: &mut [f32]) -> Result<()> {
        let (piece, row) = tensor.locate(row).ok_or_else(|| no_row(tensor, row))?;
        match &piece.encoding {
            Encoding::Plain => dequantise(piece.stored.format, self.row_bytes(piece, row)?, out),
            Encoding::BlockScaled { scales, block } => {
                dequantise(piece.stored.format, self.row_bytes(piece, row)?, out)?;
                self.scale(piece, row, scales, *block, out)
            }
            Encoding::SplitMxfp4 { scales } => {
                let mut blocks = Vec::new();
                self.joined_mxfp4(piece, row, scales, &mut blocks)?;
                dequantise(Format::MXFP4, &blocks, out)
            }
        }
    }

    /// All numbers of a bound tensor: norms, biases and other short ones.
    ///
    /// # Errors
    /// As [`Source::row`].
    pub fn values(&self, tensor: &TensorSpec) -> Result<Vec<f32>> {
        let columns = tensor.columns();
        let mut values = vec![0.0; tensor.shape.iter().product()];
        if let [piece] = &tensor.pieces[..]
            && piece.encoding == Encoding::Plain
            && piece.rows == piece.stored_rows
        {
            dequantise(piece.stored.format, self.bytes(&piece.stored), &mut values)?;
            return Ok(values);
        }
        for (row, out) in values.chunks_exact_mut(columns.max(1)).enumerate() {
            self.row(tensor, row, out)?;
        }
        Ok(values)
    }

    /// Rows of a bound tensor as bytes of its [raw format](TensorSpec::raw_format): the mapped file's own bytes where
    /// they lie together, else gathered in `buffer`.
    ///
    /// # Errors
    /// As [`Source::row`].
    pub fn raw_rows<'a>(
        &'a self,
        tensor: &TensorSpec,
        rows: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        buffer.clear();
        if rows.is_empty() {
            return Ok(buffer);
        }
        let (columns, format) = (tensor.columns(), tensor.raw_format());
        if let Some((piece, first)) = tensor.locate(rows.start)
            && let Some((last_piece, last)) = tensor.locate(rows.end - 1)
            && std::ptr::eq(piece, last_piece)
            && piece.encoding == Encoding::Plain
            && piece.stored.format == format
            && last - first == rows.len() - 1
        {
            let bytes = self.bytes(&piece.stored);
            let row_bytes = bytes.len() / piece.stored_rows.max(1);
            let range = first * row_bytes..(last + 1) * row_bytes;
            return bytes.get(range).ok_or_else(|| no_row(tensor, rows.end - 1));
        }
        let mut numbers = vec![0.0; columns];
        for row in rows {
            let (piece, at) = tensor.locate(row).ok_or_else(|| no_row(tensor, row))?;
            match &piece.encoding {
                Encoding::Plain if piece.stored.format == format => {
                    buffer.extend_from_slice(self.row_bytes(piece, at)?);
                }
                Encoding::SplitMxfp4 { scales } if format == Format::MXFP4 => {
                    self.joined_mxfp4(piece, at, scales, buffer)?;
                }
                _ => {
                    self.row(tensor, row, &mut numbers)?;
                    let start = buffer.len();
                    buffer.resize(start + format.row_bytes(columns).unwrap_or(0), 0);
                    quantise(format, &numbers, &mut buffer[start..])?;
                }
            }
        }
        Ok(buffer)
    }

    /// Says that the file's pages behind a bound tensor are no longer needed in memory.
    pub fn release_tensor(&self, tensor: &TensorSpec) {
        for piece in &tensor.pieces {
            self.release(&piece.stored);
        }
    }

    /// The same for some rows of it. Where rows of another tensor lie between them, those pages go too, and come back
    /// from the file when they are read.
    pub fn release_rows(&self, tensor: &TensorSpec, rows: Range<usize>) {
        stored_parts(tensor, rows, |file, offset, bytes| {
            if let Some(file) = self.files.get(file) {
                file.bytes.release(offset, bytes);
            }
        });
    }

    /// Says that some rows of a bound tensor are read now, and what follows them in the file soon.
    pub fn read_ahead(&self, tensor: &TensorSpec, rows: Range<usize>) {
        stored_parts(tensor, rows, |file, offset, bytes| {
            self.ask_for(file, offset..offset.saturating_add(bytes).saturating_add(READ_AHEAD));
        });
    }

    /// Says that some rows of a bound tensor are read soon.
    pub fn will_need_rows(&self, tensor: &TensorSpec, rows: Range<usize>) {
        stored_parts(tensor, rows, |file, offset, bytes| {
            if let Some(file) = self.files.get(file) {
                file.bytes.will_need(offset, bytes);
            }
        });
    }

    /// Asks the system for bytes of a file, as far as they were not asked for before.
    fn ask_for(&self, number: usize, wanted: Range<usize>) {
        let Some(file) = self.files.get(number) else { return };
        let Ok(mut asked) = self.asked.lock() else { return };
        let (before, range) = &mut *asked;
        let start = match *before == number && range.contains(&wanted.start) {
            true if wanted.end < range.end.saturating_add(READ_AHEAD / 8) => return,
            true => range.end,
            false => wanted.start,
        };
        *asked = (number, start.min(wanted.start)..wanted.end);
        drop(asked);
        file.bytes.will_need(start, wanted.end.saturating_sub(start));
    }

    fn row_bytes(&self, piece: &Piece, row: usize) -> Result<&[u8]> {
        stored_row(self.bytes(&piece.stored), piece.stored_rows, row, &piece.stored)
    }

    /// Multiplies a row by the factors of the blocks it passes through.
    fn scale(
        &self,
        piece: &Piece,
        row: usize,
        scales: &TensorInfo,
        [block_rows, block_columns]: [usize; 2],
        out: &mut [f32],
    ) -> Result<()> {
        // rows are counted within a matrix of a stack: blocks do not reach across matrices
        let matrix_rows = piece.stored.shape.iter().rev().nth(1).copied().unwrap_or(1).max(1);
        let (matrix, row) = (row / matrix_rows, row % matrix_rows);
        let across = out.len().div_ceil(block_columns.max(1));
        let down = matrix_rows.div_ceil(block_rows.max(1));
        let scales_row = matrix * down + row / block_rows.max(1);
        let all_rows = scales.shape.iter().product::<usize>() / across.max(1);
        let mut factors = vec![0.0; across];
        dequantise(
            scales.format,
            stored_row(self.bytes(scales), all_rows, scales_row, scales)?,
            &mut factors,
        )?;
        for (block, factor) in out.chunks_mut(block_columns.max(1)).zip(factors) {
            block.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(())
    }

    /// Appends a row's blocks, exponent and nibbles together as in GGUF: there byte `i` of a block holds weights `i`
    /// and `i + 16`, in the checkpoint `2i` and `2i + 1`.
    fn joined_mxfp4(&self, piece: &Piece, row: usize, scales: &TensorInfo, out: &mut Vec<u8>) -> Result<()> {
        let pairs = self.row_bytes(piece, row)?;
        let exponents = stored_row(self.bytes(scales), piece.stored_rows, row, scales)?;
        for (block, exponent) in pairs.as_chunks::<{ MXFP4_BLOCK / 2 }>().0.iter().zip(exponents) {
            out.push(*exponent);
            out.extend_from_slice(&halves_of_pairs(u128::from_le_bytes(*block)).to_le_bytes());
        }
        Ok(())
    }
}

/// Calls `take(file, offset, bytes)` for the parts of files that hold some rows of a bound tensor.
fn stored_parts(tensor: &TensorSpec, rows: Range<usize>, mut take: impl FnMut(usize, usize, usize)) {
    let mut before = 0;
    for piece in &tensor.pieces {
        let (start, end) = (rows.start.max(before), rows.end.min(before + piece.rows));
        if start < end {
            let at = |row: usize| piece.first + (row - before) * piece.stride;
            let row_bytes = piece.stored.bytes / piece.stored_rows.max(1);
            let (first, last) = (at(start), at(end - 1));
            take(piece.stored.file, piece.stored.offset + first * row_bytes, (last + 1 - first) * row_bytes);
        }
        before += piece.rows;
    }
}

/// One of `rows` equal parts of a stored tensor's bytes.
fn stored_row<'a>(bytes: &'a [u8], rows: usize, row: usize, stored: &TensorInfo) -> Result<&'a [u8]> {
    let row_bytes = bytes.len() / rows.max(1);
    let short = || Error::tensor(&stored.name, format!("is too short to hold row {row}"));
    bytes.get(row * row_bytes..).and_then(|rest| rest.get(..row_bytes)).ok_or_else(short)
}

/// 32 nibbles in order as 16 bytes of nibble `i` and nibble `i + 16`.
fn halves_of_pairs(nibbles: u128) -> u128 {
    /// 16 nibbles as 16 bytes.
    fn spread(nibbles: u64) -> u128 {
        let spread = u128::from(nibbles);
        let spread = (spread | spread << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
        let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
        (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f
    }
    spread(nibbles as u64) | spread((nibbles >> 64) as u64) << 4
}

fn no_row(tensor: &TensorSpec, row: usize) -> Error {
    let name = tensor.pieces.first().map_or("", |piece| &piece.stored.name);
    Error::tensor(name, format!("has no row {row}; {} are bound", tensor.rows()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_in_order_become_halves_as_in_gguf() {
        let block: [u8; 16] = std::array::from_fn(|i| (i * 73 + 41) as u8 ^ (i as u8) << 3);
        let weight = |at: usize| block[at / 2] >> (4 * (at % 2)) & 15;
        let plain: [u8; 16] = std::array::from_fn(|at| weight(at) | weight(at + 16) << 4);
        assert_eq!(halves_of_pairs(u128::from_le_bytes(block)).to_le_bytes(), plain);
    }
}
