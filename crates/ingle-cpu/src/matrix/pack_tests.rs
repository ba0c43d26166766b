//! Whole groups against row by row, byte for byte; rows that are read as they are needed.

use super::tests::{PACKED, Random, random_matrix};
use super::*;
use crate::buffer::OutOfMemory;
use std::ops::Range;

/// Row by row.
fn plain(layout: &Layout, raw: &[u8]) -> Vec<u8> {
    let mut out = vec![0; layout.bytes];
    for (raw, out) in raw.chunks(GROUP * layout.row_bytes).zip(out.chunks_mut(layout.group_bytes)) {
        pack_rows::pack_rows(layout.format, raw, layout.row_bytes, out);
    }
    out
}

#[test]
fn sixteen_rows_at_once_are_sixteen_rows_one_by_one() {
    for format in PACKED {
        let widths: &[usize] = match format.block_len() {
            256 => &[256, 768, 2816],
            32 => &[32, 64, 96, 160, 288, 2880],
            _ => &[1, 7, 15, 16, 31, 32, 33, 48, 100],
        };
        for &columns in widths {
            let layout = Layout::of(format, 16, columns).unwrap();
            let mut random = Random(7 + columns as u64);
            let raw = random_matrix(format, 16, columns, &mut random);
            // what lay in a place before must not matter
            let mut out = vec![0xa5; layout.bytes];
            assert!(pack_groups::pack_group(format, &raw, layout.row_bytes, &mut out), "{format}");
            assert!(out == plain(&layout, &raw), "{format}, {columns} columns");
        }
    }
}

#[test]
fn a_last_group_with_fewer_rows_is_packed_row_by_row() {
    let cpu = Cpu::new(2);
    for format in PACKED.into_iter().chain([Format::Q3_K]) {
        for rows in [1, 15, 16, 17, 31, 48, 1000] {
            let layout = Layout::of(format, rows, 512).unwrap();
            let raw = random_matrix(format, rows, 512, &mut Random(rows as u64));
            let matrix = Matrix::pack(format, rows, 512, &raw, &cpu).unwrap();
            assert!(matrix.packed() == plain(&layout, &raw), "{format}, {rows} rows");
        }
    }
}

/// Rows that are copied into the buffer, and cannot be read from some row on.
struct Copied {
    raw: Vec<u8>,
    row_bytes: usize,
    readable: usize,
}

impl StoredRows for Copied {
    fn read<'a>(&'a self, rows: Range<usize>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], PackError> {
        if rows.end > self.readable {
            return Err(OutOfMemory { bytes: 42 }.into());
        }
        buffer.clear();
        buffer.extend_from_slice(&self.raw[rows.start * self.row_bytes..rows.end * self.row_bytes]);
        Ok(buffer)
    }
}

#[test]
fn stacks_are_filled_across_the_borders_of_their_matrices() {
    let (count, rows, columns) = (40, 24, 2048);
    for format in [Format::Q4_K, Format::MXFP4, Format::Q3_K] {
        for threads in [1, 2] {
            let cpu = Cpu::new(threads);
            let raw = random_matrix(format, count * rows, columns, &mut Random(11));
            let row_bytes = raw.len() / (count * rows);
            let from = Copied { row_bytes, readable: count * rows, raw: raw.clone() };
            let mut stack = Stack::zeroed(format, count, rows, columns).unwrap();
            // the last first, so that every matrix moves
            let moves: Vec<(usize, usize)> = (0..count).map(|to| ((to + 5) % count, to)).collect();
            stack.read(&moves[..3], &from, &cpu).unwrap();
            stack.read(&moves[3..], &from, &cpu).unwrap();
            for (index, raw) in raw.chunks_exact(rows * row_bytes).enumerate() {
                let alone = Matrix::pack(format, rows, columns, raw, &cpu).unwrap();
                let index = (index + count - 5) % count;
                assert!(stack.view(index).bytes == alone.packed(), "{format} {index}, {threads} threads");
            }
        }
    }
}

#[test]
#[should_panic(expected = "two matrices to place 1")]
fn two_matrices_in_one_place_are_refused() {
    let from = Copied { raw: vec![0; 2 * 16 * 144], row_bytes: 144, readable: 32 };
    let mut stack = Stack::zeroed(Format::Q4_K, 2, 16, 256).unwrap();
    let _ = stack.read(&[(0, 1), (1, 1)], &from, &Cpu::new(1));
}

#[test]
fn rows_that_cannot_be_read_are_an_error_whichever_thread_meets_them() {
    let (rows, columns) = (4096, 4096);
    let row_bytes = Format::Q4_K.row_bytes(columns).unwrap();
    for readable in [0, 16, 3000, rows] {
        let from = Copied { raw: vec![0; rows * row_bytes], row_bytes, readable };
        let read = Matrix::read(Format::Q4_K, rows, columns, &from, &Cpu::new(2));
        match read {
            Ok(_) => assert_eq!(readable, rows),
            Err(error) => assert!(matches!(error, PackError::Memory(OutOfMemory { bytes: 42 })), "{error}"),
        }
    }
    // rows of another length
    let from = Copied { raw: vec![0; rows * row_bytes], row_bytes: row_bytes - 1, readable: rows };
    let read = Matrix::read(Format::Q4_K, rows, columns, &from, &Cpu::new(2));
    assert!(matches!(read, Err(PackError::Bytes { .. })));
}
