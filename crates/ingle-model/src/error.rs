//! One error type for everything that can be wrong with a model's files.
//!
//! Every message says what happened, to what (file, offset, key or tensor), and what to do next.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a model's files or with what they describe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file system refused to take a file.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file's bytes are not what its format says.
    #[error("{path} is damaged or not what it claims to be: at byte {offset}, {what}; fetch the file again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file is not what it was when it was opened.
    #[error(
        "{path} was changed or shortened while its model was loaded, which reads from it: load the model again, and replace \
         files by renaming new ones into their place"
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file is fine, but of a kind this program does not read.
    #[error("{path}: {what}")]
    Unsupported {
        /// The file or folder.
        path: PathBuf,
        /// What is not supported, and what is.
        what: String,
    },
    /// A metadata key is missing or holds something unusable.
    #[error("metadata key `{key}` {what}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor is missing, or its shape or format is not the one the network needs.
    #[error("tensor `{name}` {what}")]
    Tensor {
        /// The tensor's name in the file.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// No family here describes this architecture.
    #[error("the architecture `{architecture}` is unknown here; known are: {known}")]
    UnknownArchitecture {
        /// As the file spells it.
        architecture: String,
        /// What could be read instead.
        known: String,
    },
    /// Values handed to a block format do not fit it.
    #[error("{what}")]
    Format {
        /// What does not fit.
        what: String,
    },
}

impl Error {
    /// A metadata key that is missing or unusable.
    pub fn metadata(key: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Metadata { key: printable(&key.into()), what: what.into() }
    }

    /// A tensor that is missing or unusable.
    pub fn tensor(name: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Tensor { name: printable(&name.into()), what: what.into() }
    }

    /// Bytes at `offset` of `path` that are not what the format says.
    pub fn damaged(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.into(), offset, what: what.into() }
    }

    /// A failed system call on `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Error {
        Error::Io { path: path.into(), source }
    }
}

/// A name that came from a file, shortened and without control characters, so that it can stand in a message.
pub(crate) fn printable(name: &str) -> String {
    const MOST: usize = 80;
    let shown: String = name.chars().take(MOST).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST).is_some() { shown + "…" } else { shown }
}
