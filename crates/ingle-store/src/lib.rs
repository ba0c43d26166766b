//! Models on this machine: where other programs keep them, what they are called, and whether their bytes are those that were
//! published.
//!
//! Files are used where they lie; nothing is copied. What other programs wrote is not trusted: manifests are bounded and
//! checked, names become paths only if they are plain, and a folder that cannot be read is told of, not fatal.

mod digest;
mod folders;
mod found;
mod huggingface;
mod name;
mod ollama;
mod tree;

pub use digest::{Digest, Mismatch, NotADigest};
pub use folders::{Folders, Program};
pub use found::{Choice, Found, Kind, Listing};
pub use name::{NotAName, TaggedName};
