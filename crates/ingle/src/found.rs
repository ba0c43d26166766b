//! Models that this machine has already, wherever programs keep them.

use crate::figures::bytes;
use crate::{env, errors, messages};
use anyhow::Result;
use ingle_store::{Choice, Folders, Found, Listing, Program, Store, TaggedName};
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

/// The same, for commands that need one.
///
/// # Errors
/// A system without a home.
pub(crate) fn own_store() -> Result<Store> {
    store().ok_or_else(|| anyhow::Error::msg(messages::NO_HOME))
}

/// The model of this program's own that a word means.
pub(crate) fn ours(listing: &Listing, word: &str) -> Result<TaggedName> {
    let refuse = |message: String| Err(errors::Usage(message).into());
    match listing.choose(word) {
        Choice::None => refuse(messages::not_listed(word)),
        Choice::Several(all) => {
            let all: Vec<String> = all.iter().map(|found| told(found)).collect();
            refuse(messages::several_models(word, &all))
        }
        Choice::One(found) => match found.name.parse() {
            Ok(name) if found.program == Program::Ingle => Ok(name),
            _ => refuse(messages::not_ours(&told(found))),
        },
    }
}
