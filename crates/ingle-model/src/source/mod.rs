//! A model on disk: a GGUF file (or its splits) or a Hugging Face folder, opened by memory-mapping.

use crate::format::Format;
use std::path::PathBuf;

/// One stored tensor: where it lies and how.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: String,
    /// Outermost first (`[rows, columns]`, `[experts, rows, columns]`), whatever the file's own order is.
    pub shape: Vec<usize>,
    /// Stored number format.
    pub format: Format,
    /// Index into the source's files.
    pub file: usize,
    /// First byte in that file.
    pub offset: usize,
    /// Bytes stored.
    pub bytes: usize,
}

/// An opened model.
#[derive(Debug)]
pub struct Source {
    /// What was opened.
    pub path: PathBuf,
}
