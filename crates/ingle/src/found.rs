//! Models that this machine has already, wherever programs keep them.

use crate::env;
use crate::figures::bytes;
use ingle_store::{Folders, Found, Listing, Store};
use std::path::PathBuf;

/// Folders that are looked in.
pub(crate) fn folders() -> Folders {
    let own = env::data_folder().map(|folder| folder.join("models"));
    Folders::of(&|name| env::set(name).map(PathBuf::from), own)
}

/// Where this program keeps what it has fetched; `None` where the system names no home.
pub(crate) fn store() -> Option<Store> {
    Some(Store::at(env::data_folder()?.join("store")))
}

/// All of them.
pub(crate) fn here() -> Listing {
    let listing = Listing::of(&folders());
    match store() {
        Some(store) => listing.with(&store),
        None => listing,
    }
}

/// One among several of that name.
pub(crate) fn told(found: &Found) -> String {
    format!("{} ({}, {}: {})", found.name, bytes(found.bytes), found.program.name(), found.path.display())
}
