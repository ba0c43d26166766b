//! GGUF files, version 2 and 3, split or whole: reading and writing.
//!
//! A file is a header (magic, version, counts, typed key/value metadata, tensor table), padding to the alignment,
//! and the tensors' bytes, each beginning at a multiple of the alignment. All numbers are little-endian.
//! [`read_header`] is a pure function over the bytes; [`Writer`] streams a file out; [`split`] knows how a model
//! is spread over several files.

mod cursor;
mod read;
pub mod split;
mod tensors;
mod types;
mod write;

pub use read::read_header;
pub use write::{Entry, WriteOptions, Writer, write_files};

use crate::metadata::Metadata;
use crate::source::TensorInfo;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Alignment of the tensors' bytes when the metadata does not say.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// The metadata key that says the alignment of the tensors' bytes.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// Most dimensions a tensor in a GGUF file can have.
pub const MAX_DIMENSIONS: usize = 4;

/// What stands before the tensors' bytes of one GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// A power of two; every tensor begins at a multiple of it.
    pub alignment: usize,
    /// Key/value pairs in the file's order.
    pub metadata: Metadata,
    /// Tensors in the file's order; offsets count from the beginning of the file, `file` is 0.
    pub tensors: Vec<TensorInfo>,
    /// First byte of the first tensor's place: the end of the header, padded to the alignment.
    pub data_start: usize,
}
