//! What a model is, as data: the files it comes in, the numbers its weights are stored as, and the
//! [`ModelSpec`](spec::ModelSpec) that describes its network completely and contains no code.
//!
//! This crate knows no threads, no devices and no network. Every file it reads is untrusted: counts, offsets and
//! lengths are checked against the file before anything is allocated or sliced.

pub mod error;
pub mod executor;
pub mod families;
pub mod format;
pub mod gguf;
pub mod metadata;
pub mod source;
pub mod spec;
mod string_list;

pub use error::{Error, Result};
pub use format::Format;
pub use metadata::{Metadata, Value};
pub use source::{Source, TensorInfo};
pub use spec::ModelSpec;
pub use string_list::StringList;
