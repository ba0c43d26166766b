//! Models in a folder and the folders in it.

use crate::digest::Digest;
use crate::folders::Program;
use crate::found::{Found, Kind, Listing};
use std::fs::{DirEntry, Metadata};
use std::path::{Path, PathBuf};

/// How deep folders are gone into.
const DEPTH: usize = 5;
/// Most files and folders that are looked at.
const MOST: usize = 20_000;

/// Finds models in `root`; their names are their paths from there, behind `before`.
pub(crate) fn find(root: &Path, before: &str, program: Program, listing: &mut Listing) {
    let mut left = MOST;
    let mut folders = vec![(root.to_owned(), before.to_owned(), 0)];
    while let Some((folder, name, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                listing.troubles.push(format!("{} cannot be read: {error}", folder.display()));
                continue;
            }
        };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            if left == 0 {
                listing
                    .troubles
                    .push(format!("{} holds more than {MOST} files; not all were looked at", root.display()));
                return;
            }
            left -= 1;
            let Some(word) = entry.file_name().to_str().map(str::to_owned) else { continue };
            // a link to a folder may lead back
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH && !word.starts_with('.') => {
                    folders.push((entry.path(), join(&name, &word), depth + 1));
                }
                Ok(kind) if !kind.is_dir() => files.extend(file(entry, word)),
                _ => {}
            }
        }
        listing.models.extend(models(&folder, &name, program, &files));
    }
}

/// A file and what it is called.
struct File {
    path: PathBuf,
    word: String,
    about: Metadata,
}

/// A file that is there, behind links if need be.
fn file(entry: DirEntry, word: String) -> Option<File> {
    let path = entry.path();
    let about = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
    Some(File { path, word, about })
}

fn join(name: &str, word: &str) -> String {
    if name.is_empty() { word.to_owned() } else { format!("{name}/{word}") }
}

/// The models among the files of one folder.
fn models(folder: &Path, name: &str, program: Program, files: &[File]) -> Vec<Found> {
    let mut found = Vec::new();
    for File { path, word, about } in files {
        let Some(stem) = word.strip_suffix(".gguf") else { continue };
        // parts for images have files of their own, and are no models
        if word.starts_with("mmproj") {
            continue;
        }
        let (stem, bytes, whole) = match part(stem) {
            Some((stem, 1, parts)) => {
                let of_it = |file: &&File| {
                    let other = file.word.strip_suffix(".gguf").and_then(part);
                    other.is_some_and(|(other, _, count)| other == stem && count == parts)
                };
                (stem, files.iter().filter(of_it).map(|file| file.about.len()).sum(), false)
            }
            Some(_) => continue,
            None => (stem, about.len(), true),
        };
        let digest = if whole { fetched_as(path) } else { None };
        found.push(Found {
            name: join(name, stem),
            program,
            path: path.clone(),
            kind: Kind::Gguf,
            bytes,
            digest,
        });
    }
    let weights = files.iter().filter(|file| file.word.ends_with(".safetensors"));
    let bytes: u64 = weights.map(|file| file.about.len()).sum();
    if bytes > 0 && files.iter().any(|file| file.word == "config.json") {
        let name = if name.is_empty() { ".".to_owned() } else { name.to_owned() };
        found.push(Found {
            name,
            program,
            path: folder.to_owned(),
            kind: Kind::Checkpoint,
            bytes,
            digest: None,
        });
    }
    found
}

/// `model-00001-of-00003` as `model`, 1 and 3.
fn part(stem: &str) -> Option<(&str, u32, u32)> {
    let (before, parts) = stem.rsplit_once("-of-")?;
    let (model, number) = before.rsplit_once('-')?;
    let count = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    Some((model, count(number)?, count(parts)?))
}

/// Hugging Face's cache links files to blobs that are called by their SHA-256.
fn fetched_as(path: &Path) -> Option<Digest> {
    let blob = std::fs::read_link(path).ok()?;
    Digest::from_hex(blob.file_name()?.to_str()?)
}
