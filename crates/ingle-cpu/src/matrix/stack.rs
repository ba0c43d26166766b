//! Equal matrices in one buffer: the experts of a layer, or what each attention head has of its own.

use ingle_model::Format;

use super::pack::{self, InMemory, StoredRows};
use super::{Layout, Needs, PackError, View};
use crate::Cpu;
use crate::buffer::{Buffer, OutOfMemory};

/// Matrices of one shape and format in one mapping (a network may have tens of thousands of them, more than a process
/// may have mappings), filled one by one so that no more than one need be in memory twice.
#[derive(Debug)]
pub struct Stack {
    count: usize,
    layout: Layout,
    buffer: Buffer,
}

impl Stack {
    /// `count` matrices of `rows` by `columns` numbers that will be stored as `format`, all zero.
    ///
    /// # Errors
    /// [`PackError`] if the format has no such rows, or there is no memory.
    pub fn zeroed(format: Format, count: usize, rows: usize, columns: usize) -> Result<Stack, PackError> {
        let layout = Layout::of(format, rows, columns)?;
        let bytes = layout.bytes.checked_mul(count).ok_or(OutOfMemory { bytes: usize::MAX })?;
        Ok(Stack { count, layout, buffer: Buffer::zeroed_beside_others(bytes)? })
    }

    /// Makes the matrix of `raw`, as in the file, resident as number `index`. `raw` is read once, in parallel, and not
    /// kept.
    ///
    /// # Errors
    /// [`PackError::Bytes`] if `raw` is not exactly such a matrix.
    ///
    /// # Panics
    /// If there is no such index.
    pub fn pack(&mut self, index: usize, raw: &[u8], cpu: &Cpu) -> Result<(), PackError> {
        assert!(index < self.count, "matrix {index} of {}", self.count);
        self.layout.check(raw)?;
        let out = &mut self.buffer.bytes_mut()[index * self.layout.bytes..][..self.layout.bytes];
        pack::pack(
            &self.layout,
            &[(0, 0)],
            &InMemory { bytes: raw, row_bytes: self.layout.row_bytes },
            out,
            cpu,
        )
    }

    /// Makes matrices resident, in one parallel region: of each of `moves` the first, which is rows `first * rows` and the
    /// following of `from`, as the second of the stack.
    ///
    /// # Errors
    /// [`PackError`] if rows cannot be read or are not such rows.
    ///
    /// # Panics
    /// If there is no such place, or two are to go to one.
    pub fn read(
        &mut self,
        moves: &[(usize, usize)],
        from: &impl StoredRows,
        cpu: &Cpu,
    ) -> Result<(), PackError> {
        pack::pack(&self.layout, moves, from, self.buffer.bytes_mut(), cpu)
    }

    /// Matrices.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Outputs of each.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Inputs of each.
    pub fn columns(&self) -> usize {
        self.layout.columns
    }

    /// What products need of the activations.
    pub fn needs(&self) -> Needs {
        Needs::of(self.layout.format)
    }

    /// All of them as one, for counting.
    pub fn whole(&self) -> View<'_> {
        View { layout: self.layout, bytes: self.buffer.bytes() }
    }

    /// Matrix `index`.
    ///
    /// # Panics
    /// If there is no such index.
    pub fn view(&self, index: usize) -> View<'_> {
        assert!(index < self.count, "matrix {index} of {}", self.count);
        let bytes = self.layout.bytes;
        View { layout: self.layout, bytes: &self.buffer.bytes()[index * bytes..][..bytes] }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}
