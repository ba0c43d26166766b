//! Hugging Face's cache: `models--OWNER--NAME/snapshots/REVISION/`, whose files are links to `blobs/`.

use crate::folders::Program;
use crate::found::{Kind, Listing};
use crate::tree;
use std::path::{Path, PathBuf};

/// Finds the models of the newest revision of every repository.
pub(crate) fn find(hub: &Path, listing: &mut Listing) {
    let entries = match std::fs::read_dir(hub) {
        Ok(entries) => entries,
        Err(error) => return listing.troubles.push(format!("{} cannot be read: {error}", hub.display())),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(repository) = name.to_str().and_then(|name| name.strip_prefix("models--")) else { continue };
        let Some(snapshot) = snapshot(&entry.path()) else { continue };
        let first = listing.models.len();
        tree::find(&snapshot, &repository.replacen("--", "/", 1), Program::HuggingFace, listing);
        // a checkpoint of parts is one that lacks what has not been fetched yet
        let whole = |path: &Path| {
            path.join("model.safetensors.index.json").is_file() || path.join("model.safetensors").is_file()
        };
        let found = listing.models.split_off(first);
        listing
            .models
            .extend(found.into_iter().filter(|model| model.kind == Kind::Gguf || whole(&model.path)));
    }
}

/// The revision that `main` means, or else the one that was changed last.
fn snapshot(repository: &Path) -> Option<PathBuf> {
    let snapshots = repository.join("snapshots");
    let main = std::fs::read_to_string(repository.join("refs/main")).unwrap_or_default();
    let revision = main.trim();
    // it becomes a part of a path
    let plain =
        !revision.is_empty() && revision.len() <= 64 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain && snapshots.join(revision).is_dir() {
        return Some(snapshots.join(revision));
    }
    let folders = std::fs::read_dir(snapshots).ok()?.flatten().filter(|entry| entry.path().is_dir());
    folders
        .max_by_key(|entry| entry.metadata().and_then(|about| about.modified()).ok())
        .map(|entry| entry.path())
}
