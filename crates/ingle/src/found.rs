//! Models that this machine has already, wherever programs keep them.

use crate::env;
use crate::figures::bytes;
use ingle_store::{Folders, Found, Listing};
use std::path::PathBuf;

/// Folders that are looked in.
pub(crate) fn folders() -> Folders {
    let own = env::data_folder().map(|folder| folder.join("models"));
    Folders::of(&|name| env::set(name).map(PathBuf::from), own)
}

/// All of them.
pub(crate) fn here() -> Listing {
    Listing::of(&folders())
}

/// One among several of that name.
pub(crate) fn told(found: &Found) -> String {
    format!("{} ({}, {}: {})", found.name, bytes(found.bytes), found.program.name(), found.path.display())
}
