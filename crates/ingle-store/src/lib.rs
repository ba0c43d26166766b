//! Models on this machine: where other programs keep them, what they are called, and whether their bytes are those that were
//! published.
//!
//! Files are used where they lie; nothing is copied. What other programs wrote is not trusted: manifests are bounded and
//! checked, names become paths only if they are plain, and a folder that cannot be read is told of, not fatal.

mod bundle;
mod digest;
mod fetch;
mod folders;
mod found;
mod huggingface;
mod name;
mod ollama;
mod own;
mod pull;
mod remote;
mod tree;

pub use bundle::{BundleError, Bundled, bundle, import};
pub use digest::{Digest, Mismatch, NotADigest};
pub use fetch::{Client, FetchError, Wanted};
pub use folders::{Folders, Program};
pub use found::{Choice, Found, Kind, Listing};
pub use name::{NotAName, TaggedName};
pub use own::{Freed, Guard, Part, Store};
pub use pull::{PullError, Pulled, Step, pull};
pub use remote::{Bases, NotThere};
