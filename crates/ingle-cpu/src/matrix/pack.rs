//! From the rows of a file to groups of 16 interleaved rows (the layouts are in [`crate::kernels::layout`]).
//!
//! Bits move, nothing is rounded: a packed weight has exactly the value that the file's has.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Layout, PackError, pack_groups, pack_rows};
use crate::Cpu;
use crate::kernels::GROUP;
use crate::pool::Shares;

/// Bytes of the file a thread packs at once: long enough for the system to read ahead.
const AT_ONCE: usize = 1 << 20;

/// Rows of numbers as a file keeps them, for packing.
pub trait StoredRows: Sync {
    /// The bytes of some rows, one after the other: where they are, or gathered in `buffer`. Called on any thread, for
    /// every row once.
    ///
    /// # Errors
    /// What keeps the rows from being read.
    fn read<'a>(&'a self, rows: Range<usize>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], PackError>;

    /// Hears that these rows were packed.
    fn done(&self, _rows: Range<usize>) {}
}

/// Rows that are in memory.
pub(super) struct InMemory<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) row_bytes: usize,
}

impl StoredRows for InMemory<'_> {
    fn read<'a>(&'a self, rows: Range<usize>, _: &'a mut Vec<u8>) -> Result<&'a [u8], PackError> {
        Ok(&self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes])
    }
}

/// A matrix among those that stand in some rows one below the other, and its place among those in memory.
pub(super) type Move = (usize, usize);

/// Packs matrices of that layout, in parallel: of each of `moves` the first, counted in `rows`, to the second, counted in
/// `out`.
///
/// # Panics
/// If two go to one place, or one to none.
pub(super) fn pack(
    layout: &Layout,
    moves: &[Move],
    rows: &impl StoredRows,
    out: &mut [u8],
    cpu: &Cpu,
) -> Result<(), PackError> {
    for (at, (_, to)) in moves.iter().enumerate() {
        assert!(moves[..at].iter().all(|(_, other)| other != to), "two matrices to place {to}");
    }
    let packed = Shares::new(out);
    let groups = layout.groups();
    let chunk = AT_ONCE.div_ceil(GROUP * layout.row_bytes);
    let failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    cpu.pool.for_chunks(groups * moves.len(), chunk, &|_, range| {
        let mut buffer = Vec::new();
        let (mut from, end) = (range.start, range.end);
        while from < end && !failed.load(Ordering::Relaxed) {
            // to the end of the range or of the matrix
            let ((matrix, to), first) = (moves[from / groups], from % groups);
            let last = groups.min(first + end - from);
            let of_layout = first * GROUP..layout.rows.min(last * GROUP);
            let start = matrix * layout.rows;
            let own = start + of_layout.start..start + of_layout.end;
            let at = to * layout.bytes + first * layout.group_bytes;
            let bytes = (last * layout.group_bytes).min(layout.bytes) - first * layout.group_bytes;
            // SAFETY: each group is packed once, and groups do not overlap.
            let out = unsafe { packed.range(at..at + bytes) };
            let read = rows.read(own.clone(), &mut buffer);
            match read.and_then(|raw| pack_part(layout, of_layout.len(), raw, out)) {
                Ok(()) => rows.done(own),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                }
            }
            from += last - first;
        }
    });
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}

/// Packs `rows` rows, from the first of a group on, into the groups of `out`.
fn pack_part(layout: &Layout, rows: usize, raw: &[u8], out: &mut [u8]) -> Result<(), PackError> {
    let &Layout { format, columns, row_bytes, group_bytes, .. } = layout;
    if raw.len() != rows * row_bytes {
        return Err(PackError::Bytes { format, rows, columns, bytes: raw.len() });
    }
    for (raw, out) in raw.chunks(GROUP * row_bytes).zip(out.chunks_mut(group_bytes)) {
        if raw.len() < GROUP * row_bytes || !pack_groups::pack_group(format, raw, row_bytes, out) {
            pack_rows::pack_rows(format, raw, row_bytes, out);
        }
    }
    Ok(())
}
