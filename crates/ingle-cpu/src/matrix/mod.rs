//! Weight matrices resident in memory, and their products with activations.

mod activations;
#[cfg(test)]
mod error_tests;
#[cfg(test)]
mod extreme_tests;
mod gemm;
#[cfg(test)]
mod gemm_tests;
mod multiply;
mod pack;
mod pack_groups;
mod pack_rows;
#[cfg(test)]
mod pack_tests;
mod panels;
mod stack;
#[cfg(test)]
mod stack_tests;
#[cfg(test)]
mod tests;

pub use activations::{Activations, Needs};
pub use multiply::{Bucket, Product, StackProduct, multiply, multiply_stacks};
pub use pack::StoredRows;
pub use stack::Stack;

use ingle_model::Format;
use pack::InMemory;

use crate::Cpu;
use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::{GROUP, layout};

/// Why a matrix could not be made resident.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A row is empty or not a whole number of the format's blocks.
    #[error(
        "{columns} columns of {format} are not one or more whole blocks of {block}; the file is damaged or not what it claims",
        format = .format.name(), block = .format.block_len()
    )]
    Columns {
        /// The format.
        format: Format,
        /// The number of columns.
        columns: usize,
    },
    /// The bytes are not as many as the rows take.
    #[error(
        "{rows} rows of {columns} columns of {format} do not take {bytes} bytes; the file is damaged",
        format = .format.name()
    )]
    Bytes {
        /// The format.
        format: Format,
        /// The number of rows.
        rows: usize,
        /// The number of columns.
        columns: usize,
        /// The bytes given.
        bytes: usize,
    },
    /// The rows cannot be read.
    #[error(transparent)]
    Source(#[from] ingle_model::Error),
    /// The system has not enough memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    format: Format,
    rows: usize,
    columns: usize,
    /// Bytes of a row in the file.
    row_bytes: usize,
    /// Bytes of 16 rows.
    group_bytes: usize,
    /// Bytes of the whole matrix; what cannot be counted is too much for any buffer.
    bytes: usize,
    generic: bool,
}

impl Layout {
    /// The layout of `rows` rows of `columns` numbers.
    fn of(format: Format, rows: usize, columns: usize) -> Result<Layout, PackError> {
        let row_bytes = format.row_bytes(columns).filter(|&bytes| bytes > 0);
        let row_bytes = row_bytes.ok_or(PackError::Columns { format, columns })?;
        let packed = layout::group_bytes(format, columns);
        Ok(Layout {
            format,
            rows,
            columns,
            row_bytes,
            group_bytes: packed.unwrap_or(row_bytes.saturating_mul(GROUP)),
            bytes: match packed {
                Some(group_bytes) => group_bytes.saturating_mul(rows.div_ceil(GROUP)),
                None => row_bytes.saturating_mul(rows),
            },
            generic: packed.is_none(),
        })
    }

    /// Groups of 16 rows, the last of which may have fewer.
    fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    /// Whether `raw` is such a matrix, as in the file.
    fn check(&self, raw: &[u8]) -> Result<(), PackError> {
        let &Layout { format, rows, columns, .. } = self;
        if self.row_bytes.checked_mul(rows) == Some(raw.len()) {
            return Ok(());
        }
        Err(PackError::Bytes { format, rows, columns, bytes: raw.len() })
    }
}

/// A matrix of `rows` outputs by `columns` inputs in the memory layout of the kernels.
///
/// It keeps the file's bits per weight: common formats lie interleaved in groups of 16 rows (see
/// [`layout`]), others as they are in the file, decoded row by row at every use
/// ([`is_generic`](View::is_generic)).
#[derive(Debug)]
pub struct Matrix {
    layout: Layout,
    buffer: Buffer,
}

impl Matrix {
    /// Makes the matrix of `raw` resident: `rows` rows of `columns` numbers stored as `format`, as in the file.
    /// `raw` is read once, in parallel, and not kept.
    ///
    /// # Errors
    /// [`PackError`] if `raw` is not exactly such a matrix, or there is no memory for it.
    pub fn pack(
        format: Format,
        rows: usize,
        columns: usize,
        raw: &[u8],
        cpu: &Cpu,
    ) -> Result<Matrix, PackError> {
        let layout = Layout::of(format, rows, columns)?;
        layout.check(raw)?;
        Matrix::fill(layout, &InMemory { bytes: raw, row_bytes: layout.row_bytes }, cpu)
    }

    /// The same from rows that are read as they are needed.
    ///
    /// # Errors
    /// [`PackError`] if rows cannot be read or are not such rows, or there is no memory.
    pub fn read(
        format: Format,
        rows: usize,
        columns: usize,
        from: &impl StoredRows,
        cpu: &Cpu,
    ) -> Result<Matrix, PackError> {
        Matrix::fill(Layout::of(format, rows, columns)?, from, cpu)
    }

    fn fill(layout: Layout, from: &impl StoredRows, cpu: &Cpu) -> Result<Matrix, PackError> {
        let mut buffer = Buffer::zeroed_beside_others(layout.bytes)?;
        pack::pack(&layout, &[(0, 0)], from, buffer.bytes_mut(), cpu)?;
        Ok(Matrix { layout, buffer })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.layout.columns
    }

    /// The format its numbers keep.
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// The bytes it is kept as.
    pub fn packed(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes().len()
    }

    /// Whether its format has no kernel of its own: rows are decoded at every use, several times slower.
    pub fn is_generic(&self) -> bool {
        self.layout.generic
    }

    /// What its products need of the activations.
    pub fn needs(&self) -> Needs {
        Needs::of(self.layout.format)
    }

    /// The matrix, borrowed.
    pub fn view(&self) -> View<'_> {
        View { layout: self.layout, bytes: self.buffer.bytes() }
    }
}

/// A resident matrix, or one of a [`Stack`], borrowed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    layout: Layout,
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// The format its numbers keep.
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether its format has no kernel of its own: rows are decoded at every use, several times slower.
    pub fn is_generic(&self) -> bool {
        self.layout.generic
    }

    /// Everything from byte `at` of a group on.
    fn from(&self, group: usize, at: usize) -> &'a [u8] {
        let (start, all) = (group * self.layout.group_bytes + at, self.bytes);
        &all[start.min(all.len())..]
    }

    /// Bytes of the 16 rows (the last time fewer, of generic matrices) of a group.
    fn group(&self, group: usize) -> &'a [u8] {
        let (start, all) = (group * self.layout.group_bytes, self.bytes);
        &all[start..all.len().min(start + self.layout.group_bytes)]
    }
}
