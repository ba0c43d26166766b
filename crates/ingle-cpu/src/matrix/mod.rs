//! Weight matrices resident in memory, and their products with activations.

mod activations;
mod multiply;
mod pack;
#[cfg(test)]
mod tests;

pub use activations::{Activations, Needs};
pub use multiply::{Product, multiply};

use ingle_model::Format;

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
    /// The system has not enough memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// A matrix of `rows` outputs by `columns` inputs in the memory layout of the kernels.
///
/// It keeps the file's bits per weight: common formats lie interleaved in groups of 16 rows (see
/// [`layout`]), others as they are in the file, decoded row by row at every use
/// ([`is_generic`](Self::is_generic)).
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    columns: usize,
    /// Bytes of 16 rows.
    group_bytes: usize,
    generic: bool,
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
        let row_bytes = format.row_bytes(columns).filter(|&bytes| bytes > 0);
        let row_bytes = row_bytes.ok_or(PackError::Columns { format, columns })?;
        if row_bytes.checked_mul(rows) != Some(raw.len()) {
            return Err(PackError::Bytes { format, rows, columns, bytes: raw.len() });
        }
        let packed = layout::group_bytes(format, columns);
        let group_bytes = packed.unwrap_or(GROUP * row_bytes);
        let len = match packed {
            Some(bytes) => {
                bytes.checked_mul(rows.div_ceil(GROUP)).ok_or(OutOfMemory { bytes: usize::MAX })?
            }
            None => raw.len(),
        };
        let mut buffer = Buffer::zeroed(len)?;
        pack::pack(format, columns, raw, group_bytes, &mut buffer, cpu);
        Ok(Matrix { format, rows, columns, group_bytes, generic: packed.is_none(), buffer })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The format its numbers keep.
    pub fn format(&self) -> Format {
        self.format
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
        self.generic
    }

    /// What its products need of the activations.
    pub fn needs(&self) -> Needs {
        Needs::of(self.format)
    }

    /// Bytes of the 16 rows (the last time fewer, of generic matrices) of a group.
    fn group(&self, group: usize) -> &[u8] {
        let (start, all) = (group * self.group_bytes, self.buffer.bytes());
        &all[start..all.len().min(start + self.group_bytes)]
    }
}
